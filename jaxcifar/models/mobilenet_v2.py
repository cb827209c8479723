"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import flax.linen as nn
import jax

from jaxcifar.models.blocks import STEMS, average_and_classify, conv_and_norm
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import relu6
from jaxcifar.models.sequential import sequential
from jaxcifar.options import SHARE_BELOW_ONE, Limit, between

_STAGES = Limit(
    lambda numbers: len(numbers) == 7 and all(1 <= number <= 65536 for number in numbers),
    "seven, one for each stage, from 1 to 65536",
)


class MobileNetV2(nn.Module):
    """Stack seven stages of inverted residual blocks.

    A block has a 1×1 convolution to six times as many channels (which the first stage leaves out), a
    depthwise 3×3 one and a 1×1 one, without an activation after the last. With the stem `imagenet` the image
    is halved five times; with `cifar` the stem and the second stage keep its size.
    """

    classes: int
    compute: Compute
    stem_width: Annotated[int, between(1, 65536), "channels of the first convolution"] = 32
    widths: Annotated[tuple[int, ...], _STAGES, "channels"] = (16, 24, 32, 64, 96, 160, 320)
    blocks_per_stage: Annotated[tuple[int, ...], _STAGES, "inverted residual blocks"] = (
        1,
        2,
        3,
        4,
        3,
        3,
        1,
    )
    last_width: Annotated[int, between(1, 65536), "channels of the last convolution"] = 1280
    dropout_rate: Annotated[float, SHARE_BELOW_ONE, "of the features, before the head"] = 0.2
    stem: Annotated[str, STEMS] = "cifar"

    presets: ClassVar[Mapping[str, Mapping]] = {
        "mobilenet_v2_x0_5": {"stem_width": 16, "widths": (8, 16, 16, 32, 48, 80, 160)},
        "mobilenet_v2_x1_0": {},
    }

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)

        def inverted_residual(x, width, strides, expansion):
            inner = expansion * x.shape[-1]
            expand = (conv(inner, (1, 1)), norm(), relu6) if expansion > 1 else ()
            depthwise = conv(inner, (3, 3), strides=strides, groups=inner)
            change = sequential(
                *(*expand, depthwise, norm(), relu6), *(conv(width, (1, 1)), norm())
            )(x)
            return x + change if strides == 1 and width == x.shape[-1] else change

        whole = 2 if self.stem == "imagenet" else 1
        strides_per_stage = (1, whole, 2, 2, 1, 2, 1)
        x = sequential(conv(self.stem_width, (3, 3), strides=whole), norm(), relu6)(images)
        stages = zip(self.widths, self.blocks_per_stage, strides_per_stage, strict=True)
        for stage, (width, blocks, strides) in enumerate(stages):
            for block in range(blocks):
                x = inverted_residual(x, width, 1 if block else strides, 6 if stage else 1)
        x = sequential(conv(self.last_width, (1, 1)), norm(), relu6)(x)
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train)
        return average_and_classify(x, self.classes, self.compute, dropout)

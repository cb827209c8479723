"""ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.models.blocks import STEMS, average_and_classify, check_same_length, conv_and_norm
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import relu
from jaxcifar.models.pooling import max_pool_3x3
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS, Limit, between

_EVEN_WIDTHS = Limit(
    lambda widths: WIDTHS.fits(widths) and all(width % 2 == 0 for width in widths),
    f"{WIDTHS.words}, and even",
)


class ShuffleNetV2(nn.Module):
    """Stack stages of blocks that convolve half of the channels and shuffle them with the other half.

    A branch has a 1×1 convolution, a depthwise 3×3 one and a 1×1 one. The first block of a stage halves the
    image, and convolves all channels in two branches, the second without the first 1×1 convolution. The stem
    is a 3×3 convolution; `imagenet` has strides of 2 and 3×3 max pooling after it.
    """

    classes: int
    compute: Compute
    stem_width: Annotated[int, between(1, 65536), "channels of the first convolution"] = 24
    widths: Annotated[tuple[int, ...], _EVEN_WIDTHS, "channels of each stage"] = (116, 232, 464)
    blocks_per_stage: Annotated[tuple[int, ...], WIDTHS, "of one or two branches"] = (4, 8, 4)
    last_width: Annotated[int, between(1, 65536), "channels of the last convolution"] = 1024
    stem: Annotated[str, STEMS] = "cifar"

    presets: ClassVar[Mapping[str, Mapping]] = {
        "shufflenet_v2_x0_5": {"widths": (48, 96, 192)},
        "shufflenet_v2_x1_0": {},
    }

    @staticmethod
    def check(*, widths: tuple, blocks_per_stage: tuple, **_: Any) -> None:
        """Check that each stage has a width and a depth."""
        check_same_length(widths=widths, blocks_per_stage=blocks_per_stage)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)

        def depthwise(width, strides=1):
            return conv(width, (3, 3), strides=strides, groups=width), norm()

        def whole(width):
            return conv(width, (1, 1)), norm(), relu

        def halving(x, half):
            kept = sequential(*depthwise(x.shape[-1], 2), *whole(half))(x)
            changed = sequential(*whole(half), *depthwise(half, 2), *whole(half))(x)
            return _shuffle(kept, changed)

        def block(x, half):
            kept, changed = x[..., :half], x[..., half:]
            return _shuffle(kept, sequential(*whole(half), *depthwise(half), *whole(half))(changed))

        strides = 2 if self.stem == "imagenet" else 1
        x = sequential(conv(self.stem_width, (3, 3), strides=strides), norm(), relu)(images)
        if self.stem == "imagenet":
            x = max_pool_3x3(x)
        for width, blocks in zip(self.widths, self.blocks_per_stage, strict=True):
            x = halving(x, width // 2)
            for _ in range(blocks - 1):
                x = block(x, width // 2)
        x = sequential(*whole(self.last_width))(x)
        return average_and_classify(x, self.classes, self.compute)


def _shuffle(first, second):
    """Return the channels of both, interleaved."""
    return jnp.stack([first, second], -1).reshape(*first.shape[:-1], -1)

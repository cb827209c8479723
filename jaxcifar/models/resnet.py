"""Residual networks (He et al. 2015, arXiv:1512.03385)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax

from jaxcifar.models.blocks import (
    STEMS,
    average_and_classify,
    check_same_length,
    conv_and_norm,
    in_stages,
    resnet_stem,
)
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import relu
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS, one_of


class ResNet(nn.Module):
    """Stack stages of residual blocks on a stem.

    Each stage but the first halves the image in its first block, with a projection as shortcut. A basic
    block has two 3×3 convolutions. A bottleneck block has 1×1, 3×3 and 1×1 ones; the second has the strides,
    and the third has four times the channels. With the stem `cifar`, a 3×3 convolution, the presets are the
    networks of pytorch-cifar; with `imagenet` they are torchvision's.
    """

    classes: int
    compute: Compute
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each stage"] = (64, 128, 256, 512)
    blocks_per_stage: Annotated[tuple[int, ...], WIDTHS, "residual blocks"] = (2, 2, 2, 2)
    block: Annotated[str, one_of(("basic", "bottleneck"))] = "basic"
    stem: Annotated[str, STEMS] = "cifar"

    presets: ClassVar[Mapping[str, Mapping]] = {
        "resnet18": {},
        "resnet34": {"blocks_per_stage": (3, 4, 6, 3)},
        "resnet50": {"blocks_per_stage": (3, 4, 6, 3), "block": "bottleneck"},
    }

    @staticmethod
    def check(*, widths: tuple, blocks_per_stage: tuple, **_: Any) -> None:
        """Check that each stage has a width and a depth."""
        check_same_length(widths=widths, blocks_per_stage=blocks_per_stage)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)

        def residual(x, width, strides):
            if self.block == "basic":
                last_width, first = width, conv(width, (3, 3), strides=strides)
                change = sequential(first, norm(), relu, conv(width, (3, 3)), norm())(x)
            else:
                last_width, first = 4 * width, conv(width, (1, 1))
                change = sequential(
                    *(first, norm(), relu),
                    *(conv(width, (3, 3), strides=strides), norm(), relu),
                    *(conv(last_width, (1, 1)), norm()),
                )(x)
            if strides > 1 or x.shape[-1] != last_width:
                x = sequential(conv(last_width, (1, 1), strides=strides), norm())(x)
            return relu(x + change)

        x = resnet_stem(self.stem, self.widths[0], conv, norm)(images)
        x = in_stages(x, self.widths, self.blocks_per_stage, residual)
        return average_and_classify(x, self.classes, self.compute)

"""He's residual networks for CIFAR-10 (He et al. 2015, arXiv:1512.03385, section 4.2)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.models.blocks import (
    average_and_classify,
    check_same_length,
    conv_and_norm,
    in_stages,
    resnet_stem,
)
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import relu
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS, OptionError, one_of


class CifarResNet(nn.Module):
    """Stack stages of basic residual blocks on a 3×3 convolution, as the paper does for CIFAR-10.

    Each stage but the first halves the image in its first block. There the shortcut of option A of
    the paper takes every second pixel and pads the channels with zeros, half before and half after. The
    shortcut of option B is a projection.
    """

    classes: int
    compute: Compute
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each stage"] = (16, 32, 64)
    blocks_per_stage: Annotated[tuple[int, ...], WIDTHS, "of two convolutions each"] = (3, 3, 3)
    shortcut: Annotated[str, one_of(("A", "B"))] = "A"

    presets: ClassVar[Mapping[str, Mapping]] = {
        f"resnet{6 * blocks + 2}": {"blocks_per_stage": (blocks,) * 3}
        for blocks in (3, 5, 7, 9, 18)
    }

    @staticmethod
    def check(*, widths: tuple, blocks_per_stage: tuple, shortcut: str) -> None:
        """Check that each stage has a width and a depth, and that option A need not drop channels."""
        check_same_length(widths=widths, blocks_per_stage=blocks_per_stage)
        if shortcut == "A" and list(widths) != sorted(widths):
            raise OptionError(
                "{shortcut} adds channels, and {widths} falls: let them rise, or take B"
            )

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)

        def residual(x, width, strides):
            first = conv(width, (3, 3), strides=strides)
            change = sequential(first, norm(), relu, conv(width, (3, 3)), norm())(x)
            if strides > 1 or x.shape[-1] != width:
                if self.shortcut == "B":
                    x = sequential(conv(width, (1, 1), strides=strides), norm())(x)
                else:
                    x = _with_channels(x[:, ::strides, ::strides], width)
            return relu(x + change)

        x = resnet_stem("cifar", self.widths[0], conv, norm)(images)
        x = in_stages(x, self.widths, self.blocks_per_stage, residual)
        return average_and_classify(x, self.classes, self.compute)


def _with_channels(x, channels):
    missing = channels - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))

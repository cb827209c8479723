"""Residual networks for small images."""

from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.models.convolution import Conv
from jaxcifar.models.layers import BatchNorm, relu
from jaxcifar.options import WIDTHS, OptionError


class ResNet(nn.Module):
    """Stack stages of basic residual blocks (He et al. 2015) on a 3×3 convolution.

    Each stage but the first halves the image in its first block, with a projection as shortcut.
    Without the 7×7 stem and its pooling, which leave too little of a 32×32 image; with widths
    (64, 128, 256, 512) and two blocks each it is the ResNet-18 of pytorch-cifar.
    """

    classes: int
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each stage"]
    blocks_per_stage: Annotated[tuple[int, ...], WIDTHS, "of two convolutions each"]
    dtype: Any
    """Of the computation; parameters and statistics are at least float32, logits too."""
    axis_name: str | None
    """The mapped axis over which BatchNorm takes its moments, or None for this device alone."""

    @staticmethod
    def check(*, widths: tuple, blocks_per_stage: tuple) -> None:
        """Check that each stage has a width and a depth."""
        if len(widths) != len(blocks_per_stage):
            raise OptionError("{blocks_per_stage} must hold one number for each of {widths}")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        wide = jnp.promote_types(self.dtype, jnp.float32)

        def conv(x, width, size, strides=1, **activation):
            kernel_init = nn.initializers.he_normal()
            norm = BatchNorm(
                width,
                use_running_average=not train,
                momentum=0.9,
                dtype=self.dtype,
                axis_name=self.axis_name,
                **activation,
            )
            return Conv(width, (size, size), self.dtype, strides, kernel_init)(x, norm)

        x = conv(images, self.widths[0], 3, activation=relu)
        for stage, (width, blocks) in enumerate(
            zip(self.widths, self.blocks_per_stage, strict=True)
        ):
            for block in range(blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                change = conv(x, width, 3, strides, activation=relu)
                change = conv(change, width, 3)
                if strides > 1 or x.shape[-1] != width:
                    x = conv(x, width, 1, strides)
                x = relu(x + change)
        x = x.mean((1, 2))
        return nn.Dense(self.classes, dtype=self.dtype, param_dtype=wide)(x).astype(wide)

"""Residual networks for small images."""

import functools
from typing import Annotated

import flax.linen as nn
import jax

from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import Conv
from jaxcifar.models.layers import BatchNorm, relu
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS, OptionError


class ResNet(nn.Module):
    """Stack stages of basic residual blocks (He et al. 2015) on a 3×3 convolution.

    Each stage but the first halves the image in its first block, with a projection as shortcut.
    Without the 7×7 stem and its pooling, which leave too little of a 32×32 image; with widths
    (64, 128, 256, 512) and two blocks each it is the ResNet-18 of pytorch-cifar.
    """

    classes: int
    compute: Compute
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each stage"]
    blocks_per_stage: Annotated[tuple[int, ...], WIDTHS, "of two convolutions each"]

    @staticmethod
    def check(*, widths: tuple, blocks_per_stage: tuple) -> None:
        """Check that each stage has a width and a depth."""
        if len(widths) != len(blocks_per_stage):
            raise OptionError("{blocks_per_stage} must hold one number for each of {widths}")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        kernel_init = nn.initializers.he_normal()
        conv = functools.partial(Conv, compute=self.compute, kernel_init=kernel_init)
        norm = functools.partial(BatchNorm, self.compute, use_running_average=not train)
        x = sequential(conv(self.widths[0], (3, 3)), norm(), relu)(images)
        stages = zip(self.widths, self.blocks_per_stage, strict=True)
        for stage, (width, blocks) in enumerate(stages):
            for block in range(blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                change = sequential(
                    conv(width, (3, 3), strides=strides), norm(), relu, conv(width, (3, 3)), norm()
                )(x)
                if strides > 1 or x.shape[-1] != width:
                    x = sequential(conv(width, (1, 1), strides=strides), norm())(x)
                x = relu(x + change)
        types = {"dtype": self.compute.dtype, "param_dtype": self.compute.wide}
        return nn.Dense(self.classes, **types)(x.mean((1, 2))).astype(self.compute.wide)

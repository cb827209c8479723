"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556) with BatchNorm, and one dense layer for small images."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax

from jaxcifar.data.facts import DataFacts
from jaxcifar.models.blocks import average_and_classify, check_same_length, conv_and_norm
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import check_halvings, max_pool_2x2, relu
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS


class VGG(nn.Module):
    """Stack blocks of 3×3 convolutions with biases, BatchNorm and ReLU; 2×2 max pooling ends each block."""

    classes: int
    compute: Compute
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each block"] = (64, 128, 256, 512, 512)
    convs_per_block: Annotated[tuple[int, ...], WIDTHS, "convolutions"] = (2, 2, 3, 3, 3)

    presets: ClassVar[Mapping[str, Mapping]] = {"vgg16_bn": {}}

    @staticmethod
    def check(*, widths: tuple, convs_per_block: tuple) -> None:
        """Check that each block has a width and a depth."""
        check_same_length(widths=widths, convs_per_block=convs_per_block)

    @staticmethod
    def check_data(facts: DataFacts, *, widths: tuple, **_: Any) -> None:
        """Check that something is left of the images after the last block."""
        check_halvings(len(widths), min(facts.image_shape[:2]))

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)
        conv = functools.partial(conv, kernel_size=(3, 3), use_bias=True)
        x = images
        for width, convs in zip(self.widths, self.convs_per_block, strict=True):
            for _ in range(convs):
                x = sequential(conv(width), norm(), relu)(x)
            x = max_pool_2x2(x)
        return average_and_classify(x, self.classes, self.compute)

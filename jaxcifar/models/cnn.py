"""A plain convolutional pyramid."""

import functools
from typing import Annotated, Any

import flax.linen as nn
import jax

from jaxcifar.data.facts import DataFacts
from jaxcifar.models.blocks import classify
from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import Conv
from jaxcifar.models.layers import ACTIVATIONS, BatchNorm, check_halvings, max_pool_2x2
from jaxcifar.models.sequential import sequential
from jaxcifar.options import ODD, SHARE_BELOW_ONE, WIDTHS, OptionError, between, one_of


class CNN(nn.Module):
    """Stack blocks of convolution, BatchNorm and activation, each of which halves the image.

    Each block has 2×2 max pooling after its first convolution, as in `SpeedNet`, so that the next layers
    work on a quarter of the pixels. After the last block the features are averaged over the remaining pixels
    or, with `dense_width`, flattened into a hidden dense layer. Dropout and a dense head follow.
    """

    classes: int
    compute: Compute
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each block, which halves the image"]
    convs_per_block: Annotated[tuple[int, ...], WIDTHS, "convolutions in each block"]
    kernel_size: Annotated[int, ODD, "pixels"]
    activation: Annotated[str, one_of(ACTIVATIONS)]
    dropout_rate: Annotated[float, SHARE_BELOW_ONE, "of the features, before the head"]
    dense_width: Annotated[
        int, between(0, 65536), "units of a hidden dense layer; 0: global average pooling"
    ]

    @staticmethod
    def check(*, widths: tuple, convs_per_block: tuple, **_: Any) -> None:
        """Check that each block has a width and a depth."""
        if len(widths) != len(convs_per_block):
            raise OptionError("{convs_per_block} must hold one number for each of {widths}")

    @staticmethod
    def check_data(facts: DataFacts, *, widths: tuple, **_: Any) -> None:
        """Check that something is left of the images after the last block."""
        check_halvings(len(widths), min(facts.image_shape[:2]))

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        activation = ACTIVATIONS[self.activation]
        conv = functools.partial(Conv, kernel_size=(self.kernel_size,) * 2, compute=self.compute)
        norm = functools.partial(BatchNorm, self.compute, use_running_average=not train)
        x = images
        for width, convs in zip(self.widths, self.convs_per_block, strict=True):
            x = sequential(conv(width), max_pool_2x2, norm(), activation)(x)
            for _ in range(convs - 1):
                x = sequential(conv(width), norm(), activation)(x)
        if self.dense_width:
            types = {"dtype": self.compute.dtype, "param_dtype": self.compute.wide}
            dense = nn.Dense(self.dense_width, use_bias=False, **types)
            x = sequential(dense, norm(), activation)(x.reshape(len(x), -1))
        else:
            x = x.mean((1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return classify(x, self.classes, self.compute)

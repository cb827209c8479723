"""A plain convolutional pyramid."""

import functools
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.data.facts import DataFacts
from jaxcifar.models.convolution import Conv
from jaxcifar.models.layers import ACTIVATIONS, BatchNorm, check_halvings, max_pool_2x2
from jaxcifar.options import ODD, SHARE_BELOW_ONE, WIDTHS, OptionError, between, one_of


class CNN(nn.Module):
    """Stack blocks of convolution, BatchNorm and activation, each of which halves the image.

    Each block has 2×2 max pooling after its first convolution, as in `SpeedNet`, so that all that
    follows works on a quarter of the pixels. After the last block the features are averaged over what
    is left of the image, or, with `dense_width`, flattened into a hidden dense layer; then dropout and
    a dense head.
    """

    classes: int
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each block, which halves the image"]
    convs_per_block: Annotated[tuple[int, ...], WIDTHS, "convolutions in each block"]
    kernel_size: Annotated[int, ODD, "pixels"]
    activation: Annotated[str, one_of(ACTIVATIONS)]
    dropout_rate: Annotated[float, SHARE_BELOW_ONE, "of the features, before the head"]
    dense_width: Annotated[
        int, between(0, 65536), "units of a hidden dense layer; 0: global average pooling"
    ]
    dtype: Any
    """Of the computation; parameters and statistics are at least float32, logits too."""
    axis_name: str | None
    """The mapped axis over which BatchNorm takes its moments, or None for this device alone."""

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
        wide = jnp.promote_types(self.dtype, jnp.float32)

        norm = functools.partial(
            BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            dtype=self.dtype,
            axis_name=self.axis_name,
            activation=ACTIVATIONS[self.activation],
        )
        window = (self.kernel_size, self.kernel_size)
        conv = functools.partial(Conv, kernel_size=window, dtype=self.dtype)
        x = images.astype(self.dtype)
        for width, convs in zip(self.widths, self.convs_per_block, strict=True):
            x = norm(width)(max_pool_2x2(conv(width, pooled=True)(x)))
            for _ in range(convs - 1):
                x = conv(width)(x, norm(width))
        if self.dense_width:
            x = x.reshape(len(x), -1)
            x = nn.Dense(self.dense_width, use_bias=False, dtype=self.dtype, param_dtype=wide)(x)
            x = norm(self.dense_width)(x)
        else:
            x = x.mean((1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.classes, dtype=self.dtype, param_dtype=wide)(x).astype(wide)

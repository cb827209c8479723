"""Building blocks that several networks share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax

from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import Conv
from jaxcifar.models.layers import BatchNorm, identity, relu
from jaxcifar.models.pooling import max_pool_3x3
from jaxcifar.models.sequential import Layer, sequential
from jaxcifar.options import OptionError, one_of

STEMS = one_of(("cifar", "imagenet"))


def conv_and_norm(
    compute: Compute, *, train: bool
) -> tuple[Callable[..., Conv], Callable[..., BatchNorm]]:
    """Return constructors of convolutions, with the initialiser of He et al. (2015), and of BatchNorms."""
    conv = functools.partial(Conv, compute=compute, kernel_init=nn.initializers.he_normal())
    return conv, functools.partial(BatchNorm, compute, use_running_average=not train)


def average_and_classify(
    x: jax.Array, classes: int, compute: Compute, dropout: Layer = identity
) -> jax.Array:
    """Average `x: [batch, height, width, channel]` over the pixels; return `logits: [batch, class]`."""
    return classify(dropout(x.mean((1, 2))), classes, compute)


def classify(features: jax.Array, classes: int, compute: Compute) -> jax.Array:
    """Return `logits: [batch, class]` of `features: [batch, feature]`."""
    types = {"dtype": compute.dtype, "param_dtype": compute.wide}
    return nn.Dense(classes, **types)(features).astype(compute.wide)


def resnet_stem(
    name: str, width: int, conv: Callable[..., Conv], norm: Callable[..., BatchNorm]
) -> Layer:
    """Return the first layers of residual networks.

    Args:
      name: `cifar` for a 3×3 convolution; `imagenet` for a 7×7 convolution with strides of 2 and 3×3 max
        pooling, after which a side of the image is a quarter as long.
      width: channels.
      conv: constructor of convolutions.
      norm: constructor of BatchNorms.
    """
    if name == "cifar":
        return sequential(conv(width, (3, 3)), norm(), relu)
    return sequential(conv(width, (7, 7), strides=2), norm(), relu, max_pool_3x3)


def in_stages(
    x: jax.Array,
    widths: tuple[int, ...],
    blocks_per_stage: tuple[int, ...],
    residual: Callable[[jax.Array, int, int], jax.Array],
) -> jax.Array:
    """Apply `residual(x, width, strides)` block by block.

    The strides are 2 in the first block of every stage after the first, and 1 elsewhere.
    """
    for stage, (width, blocks) in enumerate(zip(widths, blocks_per_stage, strict=True)):
        for block in range(blocks):
            x = residual(x, width, 2 if stage > 0 and block == 0 else 1)
    return x


def check_same_length(**options: tuple) -> None:
    """Check that options hold equally many numbers.

    Raises:
      OptionError: they do not.
    """
    first, *others = options
    for other in others:
        if len(options[first]) != len(options[other]):
            raise OptionError(f"{{{other}}} must hold one number for each of {{{first}}}")

"""Layers one after another, of which some are computed together."""

from collections.abc import Callable, Sequence

import jax

from jaxcifar.models.convolution import Conv
from jaxcifar.models.layers import ACTIVATIONS, BatchNorm, identity, max_pool_2x2

Layer = Callable[..., jax.Array]


def sequential(*layers: Layer) -> Layer:
    """Return the function that applies layers, modules and functions, one after another.

    As `flax.linen.Sequential`, up to rounding. Some that follow each other are computed together:

    - a `Conv` leaves out the odd last line of pixels that `max_pool_2x2` would;
    - a `Conv` and a `BatchNorm` by running statistics are one pass, with the activation after them;
    - a `BatchNorm` by the batch's, or a bias, keeps for the gradient no more than its argument, with the
      activation after it.

    These are to have the same `Compute`. An activation is one of `layers.ACTIVATIONS`, or `identity`;
    other functions are applied as they are.
    """

    def apply(x):
        waiting = layers
        while waiting:
            x, waiting = _apply_first(x, waiting)
        return x

    return apply


def _apply_first(x: jax.Array, layers: Sequence[Layer]) -> tuple[jax.Array, Sequence[Layer]]:
    """Apply the first of the layers, and those that are computed with it; return what is left too."""
    first, *rest = layers
    if type(first) not in (Conv, BatchNorm):  # a subclass may be called in another way
        return first(x), rest
    match layers:
        case [Conv() as conv, layer, *_] if layer is max_pool_2x2:
            return conv(x, pooled=True), rest
        case [Conv() as conv, BatchNorm(use_running_average=True) as norm, *rest] if (
            type(norm) is BatchNorm
        ):
            activation, rest = _activation_first(rest)
            return conv(x, line=norm.running_line(conv.features), activation=activation), rest
    activation, rest = _activation_first(rest)
    return first(x, activation=activation), rest


def _activation_first(layers: Sequence[Layer]) -> tuple[Layer, Sequence[Layer]]:
    """Return the activation with which the layers begin, or `identity`, and the layers after it."""
    if layers and any(layers[0] is known for known in (identity, *ACTIVATIONS.values())):
        return layers[0], layers[1:]
    return identity, layers

"""Layers in sequence, some of which are computed together."""

from collections.abc import Callable, Sequence

import jax

from jaxcifar.models.convolution import Conv
from jaxcifar.models.layers import ACTIVATIONS, BatchNorm, identity, max_pool_2x2

Layer = Callable[..., jax.Array]


def sequential(*layers: Layer) -> Layer:
    """Return the function that applies layers (modules or functions) one after another.

    Up to rounding it equals `flax.linen.Sequential`. Some successive layers are computed together:

    - a `Conv` before `max_pool_2x2` leaves out the odd last line of pixels, which the pooling would drop;
    - a `Conv`, a `BatchNorm` with running statistics and the activation after them are one pass;
    - a `BatchNorm` with the batch's statistics, or a bias, and the activation after it keep only their
      argument for the gradient.

    Such layers must have the same `Compute`. An activation is one of `layers.ACTIVATIONS`, or `identity`;
    other functions are applied as they are.
    """

    def apply(x):
        waiting = layers
        while waiting:
            x, waiting = _apply_first(x, waiting)
        return x

    return apply


def _apply_first(x: jax.Array, layers: Sequence[Layer]) -> tuple[jax.Array, Sequence[Layer]]:
    """Apply the first layer and those computed with it; return the result and the remaining layers."""
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
    """Return the activation that the layers begin with, or `identity`, and the other layers."""
    if layers and any(layers[0] is known for known in (identity, *ACTIVATIONS.values())):
        return layers[0], layers[1:]
    return identity, layers

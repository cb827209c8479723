"""Layers that several models share."""

import flax.linen as nn
import jax
import jax.numpy as jnp

ACTIVATIONS = {
    "elu": nn.elu,
    "gelu": nn.gelu,
    "leaky_relu": nn.leaky_relu,
    "relu": nn.relu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}


def max_pool_2x2(images: jax.Array) -> jax.Array:
    """Halve height and width by 2×2 max pooling; an odd last row or column is left out.

    A maximum of four strided slices: its gradient is a few selects, where the gradient of a windowed
    reduction is a scatter, which XLA's CPU compiler runs many times slower.
    """
    height, width = (size // 2 * 2 for size in images.shape[1:3])
    corners = [images[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]
    return jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))

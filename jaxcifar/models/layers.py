"""Layers that several models share: normalisation here; activations and pooling from their files."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxcifar.devices import platform
from jaxcifar.models.activations import ACTIVATIONS, gelu, identity, relu, relu6
from jaxcifar.models.compute import Compute
from jaxcifar.models.pooling import check_halvings, max_pool_2x2

__all__ = [
    "ACTIVATIONS",
    "BatchNorm",
    "LayerNorm",
    "add_bias",
    "channel_sums",
    "check_halvings",
    "gelu",
    "identity",
    "max_pool_2x2",
    "relu",
    "relu6",
]


class BatchNorm(nn.Module):
    """Normalise each channel over the batch, scale and shift (Ioffe and Szegedy 2015).

    Like `flax.linen.BatchNorm`, with a gradient written by hand to be fast on CPUs.
    """

    compute: Compute
    use_running_average: bool
    """Normalise by the running statistics, and do not update them."""
    momentum: float = 0.9
    """Share of the old running statistics that a step keeps."""
    epsilon: float = 1e-5
    """Added to the variance."""
    use_scale: bool = True

    def __call__(
        self, x: jax.Array, activation: Callable[[jax.Array], jax.Array] = identity
    ) -> jax.Array:
        """Return `x: [..., channel]` normalised, of the same shape.

        Networks pass `x` alone; `sequential` also passes the element-wise activation that follows. Training
        then keeps `x` alone, and recomputes the activation's argument from it.
        """
        if self.use_running_average:
            factor, offset = self.running_line(x.shape[-1])
            return activation(x * factor + offset).astype(self.compute.dtype)
        mean, var, scale, bias = self._variables(x.shape[-1])
        result, moments = _normalise_batch(  # pyright: ignore[reportGeneralTypeIssues]
            x, scale, bias, self.epsilon, self.compute.axis_name, activation
        )
        for statistic, moment in zip((mean, var), moments, strict=True):
            kept = self.momentum * statistic.value
            statistic.value = kept + (1 - self.momentum) * lax.stop_gradient(moment)
        return result.astype(self.compute.dtype)

    def running_line(self, channels: int) -> tuple[jax.Array, jax.Array]:
        """Return `factor, offset: [channel]`, which normalise by the running statistics, scale and shift."""
        mean, var, scale, bias = self._variables(channels)
        factor = lax.rsqrt(var.value + self.epsilon) * scale
        return factor, bias - mean.value * factor

    @nn.compact
    def _variables(self, channels):
        wide = self.compute.wide
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, wide)
        var = self.variable("batch_stats", "var", jnp.ones, channels, wide)
        bias = self.param("bias", nn.initializers.zeros, (channels,), wide)
        ones = nn.initializers.ones
        scale = (
            self.param("scale", ones, (channels,), wide)
            if self.use_scale
            else jnp.ones(channels, wide)
        )
        return mean, var, scale, bias


def _normalise(x, mean, reciprocal_std, scale, bias):
    return (x - mean) * (reciprocal_std * scale) + bias


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _normalise_batch(x, scale, bias, epsilon, axis_name, activation):
    return _normalise_forward(x, scale, bias, epsilon, axis_name, activation)[0]


def _normalise_forward(x, scale, bias, epsilon, axis_name, activation):
    wide = x.astype(scale.dtype)
    mean, mean_square = _channel_means((wide, wide * wide), axis_name)
    variance = jnp.maximum(mean_square - mean * mean, 0)
    reciprocal_std = lax.rsqrt(variance + epsilon)
    result = activation(_normalise(wide, mean, reciprocal_std, scale, bias))
    return (result, (mean, variance)), (x, mean, reciprocal_std, scale, bias)


def _normalise_backward(epsilon, axis_name, activation, saved, grads):
    del epsilon
    x, mean, reciprocal_std, scale, bias = saved

    def computed_again(*barred):
        # Without a barrier the compiler would keep the result of the forward pass. It takes barriers with
        # different operands for different computations.
        x, *_ = lax.optimization_barrier(barred)
        wide = x.astype(mean.dtype)
        _, activation_vjp = jax.vjp(activation, _normalise(wide, mean, reciprocal_std, scale, bias))
        (grad,) = activation_vjp(grads[0])
        return grad, (wide - mean) * reciprocal_std

    first = second = third = computed_again(x)
    if platform.current() != "cpu":
        # An accelerator recomputes the gradient faster than it writes and reads it.
        second, third = computed_again(x, mean), computed_again(x, reciprocal_std)
    local = _channel_means((first[0], second[0] * second[1]), None)
    mean_grad, mean_product = local if axis_name is None else lax.pmean(local, axis_name)
    grad, standard = third
    x_grad = (grad - mean_grad - standard * mean_product) * (reciprocal_std * scale)
    bias_grad, scale_grad = (part * (x.size // x.shape[-1]) for part in local)
    return x_grad.astype(x.dtype), scale_grad, bias_grad


_normalise_batch.defvjp(_normalise_forward, _normalise_backward)


class LayerNorm(nn.Module):
    """Normalise the features of each position, scale and shift (Ba et al. 2016, arXiv:1607.06450).

    Like `flax.linen.LayerNorm`, with a gradient written by hand to be fast on CPUs.
    """

    compute: Compute
    epsilon: float = 1e-6
    """Added to the variance."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `x: [..., feature]` normalised, of the same shape, in the type of the computation."""
        shape, wide = x.shape[-1:], self.compute.wide
        scale = self.param("scale", nn.initializers.ones, shape, wide)
        bias = self.param("bias", nn.initializers.zeros, shape, wide)
        result: Any = _normalise_features(x, scale, bias, self.epsilon)
        return result.astype(self.compute.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise_features(x, scale, bias, epsilon):
    return _normalise_features_forward(x, scale, bias, epsilon)[0]


def _normalise_features_forward(x, scale, bias, epsilon):
    wide = x.astype(scale.dtype)
    mean = _feature_means(wide)
    variance = jnp.maximum(_feature_means(wide * wide) - mean * mean, 0)
    reciprocal_std = lax.rsqrt(variance + epsilon)
    return (wide - mean) * reciprocal_std * scale + bias, (x, mean, reciprocal_std, scale)


def _normalise_features_backward(epsilon, saved, grad):
    del epsilon
    x, mean, reciprocal_std, scale = saved
    standard = (x.astype(mean.dtype) - mean) * reciprocal_std
    bias_grad, scale_grad = channel_sums(grad, grad * standard)
    grad = grad * scale
    mean_grad, mean_product = _feature_means(grad), _feature_means(grad * standard)
    x_grad = (grad - mean_grad - standard * mean_product) * reciprocal_std
    return x_grad.astype(x.dtype), scale_grad, bias_grad


_normalise_features.defvjp(_normalise_features_forward, _normalise_features_backward)


def _feature_means(x):
    """Return the means over the last axis, which is kept; on a CPU by a product, which is faster there."""

    def product(x):
        shares = jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)
        return jnp.dot(x, shares)

    return platform.by_platform(x, cpu=product, default=lambda x: x.mean(-1, keepdims=True))


def _channel_means(arrays, axis_name):
    count = arrays[0].size // arrays[0].shape[-1]
    means = tuple(total / count for total in channel_sums(*arrays))
    return means if axis_name is None else lax.pmean(means, axis_name)


def channel_sums(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Return each array's sum over all axes but the last: [channel].

    On a CPU it sums one axis at a time, and first groups of up to 16 lines of images, so that more than 32
    sums are left: XLA's CPU compiler turns this into sums of long vectors. Summing all axes at once, or
    down to fewer sums, it adds a few channels at a time, seven to twenty times slower. Elsewhere one
    reduction sums all arrays, which must have the same shape.
    """

    def by_axis(x):
        if x.ndim == 4:
            every = x.shape[0] * x.shape[1]
            lines = [part for part in range(1, 17) if every % part == 0 and every // part > 32]
            lines = max(lines, default=1)
            x = lax.optimization_barrier(x.reshape(-1, lines, *x.shape[2:]).sum(1))
        for _ in x.shape[:-1]:
            x = lax.optimization_barrier(x.sum(0))
        return x

    def at_once(*arrays):
        zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
        add = lambda sums, others: jax.tree.map(jnp.add, sums, others)
        return tuple(lax.reduce(arrays, zeros, add, tuple(range(arrays[0].ndim - 1))))

    in_turn = lambda *arrays: tuple(map(by_axis, arrays))
    return platform.by_platform(*arrays, cpu=in_turn, default=at_once)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def add_bias(
    x: jax.Array, bias: jax.Array, activation: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Add `bias: [channel]` to `x: [..., channel]`, in the type of the bias, and activate.

    Its gradient is computed like `BatchNorm`'s: from `x` alone, and with `channel_sums`.
    """
    return activation(x.astype(bias.dtype) + bias).astype(x.dtype)


def _add_bias_forward(x, bias, activation):
    return add_bias(x, bias, activation), (x, bias)


def _add_bias_backward(activation, saved, grad):
    x, bias = saved
    x = lax.optimization_barrier(x)  # or the compiler would keep what is recomputed here
    _, activation_vjp = jax.vjp(activation, x.astype(bias.dtype) + bias)
    (wide_grad,) = activation_vjp(grad.astype(bias.dtype))
    return wide_grad.astype(x.dtype), *channel_sums(wide_grad)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)

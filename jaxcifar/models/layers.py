"""Layers that several models share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxcifar.devices import platform
from jaxcifar.models.compute import Compute
from jaxcifar.options import OptionError


def gelu(x: jax.Array) -> jax.Array:
    """Return x times the normal distribution up to x (Hendrycks and Gimpel 2016), not approximated.

    `flax.linen.gelu` takes erfc for it, which takes a CPU one and a half times as long.
    """
    return x * (0.5 + 0.5 * lax.erf(x * 0.5**0.5))


def identity(x: jax.Array) -> jax.Array:
    """Return x."""
    return x


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """Return x where that is positive, else 0.

    As `flax.linen.relu`, which keeps its argument for the gradient; this keeps its result, which what
    follows keeps anyway.
    """
    return jnp.maximum(x, 0)


relu.defvjp(lambda x: (relu(x),) * 2, lambda result, grad: (jnp.where(result > 0, grad, 0),))


ACTIVATIONS = {
    "elu": nn.elu,
    "gelu": gelu,
    "leaky_relu": nn.leaky_relu,
    "relu": relu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}


def check_halvings(times: int, pixels: int) -> None:
    """Check that images of so many pixels a side can be halved so many times, once for each of `widths`.

    Raises:
      OptionError: they cannot.
    """
    if pixels < 2**times:
        raise OptionError(
            f"{{widths}} halves the image {times} times, which leaves nothing of {pixels} pixels: at most "
            f"{pixels.bit_length() - 1} blocks"
        )


@jax.custom_vjp
def max_pool_2x2(images: jax.Array) -> jax.Array:
    """Halve height and width by 2×2 max pooling; an odd last line of pixels is left out.

    A maximum of four strided slices. For the gradient it keeps, of each window, in which corner the largest
    pixel was (of several, the first). The gradient of a windowed reduction is a scatter, which XLA's CPU
    compiler runs many times slower.
    """
    return _max_pool_forward(images)[0]


def _max_pool_forward(images):
    height, width = (size // 2 * 2 for size in images.shape[1:3])
    # XLA's CPU compiler compares float32; left in bfloat16 it would round between any two operations.
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    largest = wide[:, :height:2, :width:2]
    corner = jnp.zeros(largest.shape, jnp.uint8)
    for number, (y, x) in enumerate(((0, 1), (1, 0), (1, 1)), start=1):
        pixels = wide[:, y:height:2, x:width:2]
        corner = jnp.where(pixels > largest, jnp.uint8(number), corner)
        largest = jnp.maximum(pixels, largest)
    # Without the remainder, which changes nothing, XLA's CPU compiler would keep the images instead of the
    # corners, which are a sixteenth or an eighth of their size, and look for the corners again.
    corner %= jnp.uint8(5)
    return largest.astype(images.dtype), (corner, images[:0])


def _max_pool_backward(saved, grad):
    corner, empty = saved
    batch, height, width, channels = grad.shape
    corners = jnp.arange(4, dtype=jnp.uint8).reshape(2, 1, 2, 1)
    at_corner = corner[:, :, None, :, None] == corners
    spread = jnp.where(at_corner, grad[:, :, None, :, None], 0)
    spread = spread.reshape(batch, 2 * height, 2 * width, channels)
    odd = [(0, size - even) for size, even in zip(empty.shape[1:3], spread.shape[1:3], strict=True)]
    return (jnp.pad(spread, ((0, 0), *odd, (0, 0))),)


max_pool_2x2.defvjp(_max_pool_forward, _max_pool_backward)


class BatchNorm(nn.Module):
    """Normalise each channel over the batch, scale and shift (Ioffe and Szegedy 2015).

    As `flax.linen.BatchNorm`, with a gradient written out for the sake of CPUs.
    """

    compute: Compute
    use_running_average: bool
    """Normalise by the running statistics, and leave them alone."""
    momentum: float = 0.9
    """Share of the old running statistics that a step keeps."""
    epsilon: float = 1e-5
    """Added to the variance."""
    use_scale: bool = True

    def __call__(
        self, x: jax.Array, activation: Callable[[jax.Array], jax.Array] = identity
    ) -> jax.Array:
        """Return `x: [..., channel]` normalised, of the same shape.

        Networks give `x` alone; `sequential` gives the activation that follows, element by element.
        Training then keeps `x` alone, from which the activation's own argument is computed again.
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
        """Return the `factor, offset: [channel]` by which the running statistics normalise and shift."""
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
        # Without a barrier the compiler would keep the result of the forward pass. Barriers with different
        # operands are different computations for it.
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


def _channel_means(arrays, axis_name):
    count = arrays[0].size // arrays[0].shape[-1]
    means = tuple(total / count for total in channel_sums(*arrays))
    return means if axis_name is None else lax.pmean(means, axis_name)


def channel_sums(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Return each array's sum over all axes but the last: [channel].

    On a CPU one axis at a time, and no more than 16 lines of an image at first: XLA's CPU compiler turns
    that into sums of long vectors. All at once it adds up a few channels at a time, seven to twenty
    times slower. Elsewhere all arrays, which are to be of one shape, in one reduction.
    """

    def by_axis(x):
        if x.ndim == 4:
            lines = max(part for part in range(1, 17) if x.shape[1] % part == 0)
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

    Its gradient is made as `BatchNorm`'s: from `x` alone, and with `channel_sums`.
    """
    return activation(x.astype(bias.dtype) + bias).astype(x.dtype)


def _add_bias_forward(x, bias, activation):
    return add_bias(x, bias, activation), (x, bias)


def _add_bias_backward(activation, saved, grad):
    x, bias = saved
    x = lax.optimization_barrier(x)  # or the compiler would keep what is computed again here
    _, activation_vjp = jax.vjp(activation, x.astype(bias.dtype) + bias)
    (wide_grad,) = activation_vjp(grad.astype(bias.dtype))
    return wide_grad.astype(x.dtype), *channel_sums(wide_grad)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)

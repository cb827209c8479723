"""Convolutions, by oneDNN where that is quicker, else by XLA."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxcifar.cpu import onednn
from jaxcifar.devices import platform
from jaxcifar.devices.cpu_facts import has_avx512
from jaxcifar.models.layers import BatchNorm, gelu, identity, relu


class Conv(nn.Module):
    """Convolve with a kernel that is learnt, without a bias.

    As `flax.linen.Conv`, and quicker on a CPU. With strides of 2 windows lie as PyTorch's do, around
    every second pixel from the first on; Flax's, under "SAME", begin a pixel later in images of even size.
    """

    features: int
    """Channels of the result."""
    kernel_size: Sequence[int]
    """Height and width, in pixels."""
    dtype: Any
    """Of the computation; the kernel is at least float32."""
    strides: int = 1
    """Pixels between two windows."""
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    pooled: bool = False
    """Whether 2×2 pooling follows at once; the odd last line of pixels that it leaves out is then not
    computed."""

    @nn.compact
    def __call__(self, images: jax.Array, norm: BatchNorm | None = None) -> jax.Array:
        """Return [batch, height, width, features] of `images: [batch, height, width, channel]`.

        With `norm`, normalised and activated by that.
        """
        shape = (*self.kernel_size, images.shape[-1], self.features)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        kernel = self.param("kernel", self.kernel_init, shape, wide)
        pads = [((size - 1) // 2, size // 2) for size in self.kernel_size]
        if self.pooled:
            odd = (-(-size // self.strides) % 2 for size in images.shape[1:3])
            pads = [
                (low, high - self.strides * rest)
                for (low, high), rest in zip(pads, odd, strict=True)
            ]
        window = (self.strides, tuple(pads))
        images = images.astype(self.dtype)
        if norm is None:
            return convolve(images, kernel, *window)
        if norm.use_running_average:
            line = norm.running_line()
            return convolve_and_finish(images, kernel, line, norm.activation, *window)
        return norm(convolve(images, kernel, *window))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    images: jax.Array, kernel: jax.Array, strides: int, pads: tuple[tuple[int, int], ...]
) -> jax.Array:
    """Convolve `images: [batch, height, width, channel]` with `kernel: [height, width, in, out]`.

    On a CPU by oneDNN, where that is available.

    Args:
      images: in the type of the computation and of the result.
      kernel: in this type or float32, as will be its gradient.
      strides: pixels between two windows.
      pads: zeros above and below, left and right of the images, in pixels.
    """
    plain = functools.partial(_xla_convolve, strides=strides, pads=pads)
    return _by_library(onednn.convolve, plain, images.dtype, strides, pads, images, kernel)


def _convolve_forward(images, kernel, strides, pads):
    return convolve(images, kernel, strides, pads), (images, kernel)


def _convolve_backward(strides, pads, saved, grad):
    images, kernel = saved
    plain = functools.partial(_xla_convolve, strides=strides, pads=pads)

    def images_grad(kernel, grad):
        return jax.vjp(lambda images: plain(images, kernel), images)[1](grad)[0]

    def kernel_grad(images, grad):
        return jax.vjp(lambda kernel: plain(images, kernel), kernel)[1](grad)[0]

    like_images, like_kernel = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in saved)
    height, width, channels, _ = kernel.shape
    small = height * width == 1 or channels < 16
    in_onednn = small or has_avx512() or onednn.sums_by_pixel(images, kernel, strides, pads)
    sum_kernel = onednn.kernel_grad if in_onednn else _kernel_grad_in_parts
    images_on_cpu = functools.partial(onednn.images_grad, like=like_images)
    kernel_on_cpu = functools.partial(sum_kernel, like=like_kernel)
    options = (grad.dtype, strides, pads)
    return (
        _by_library(images_on_cpu, images_grad, *options, kernel, grad),
        _by_library(kernel_on_cpu, kernel_grad, *options, images, grad),
    )


def _kernel_grad_in_parts(images, grad, like, strides, pads):
    """Return what `onednn.kernel_grad` does, by XLA and from 32 images at a time.

    Without AVX-512 that is quicker, but for kernels of one pixel or of few channels. It is the
    convolution that XLA's CPU compiler makes of a kernel's gradient, with the images as channels and the
    gradient as window; it does not do so in a loop.
    """
    sizes = zip(like.shape[:2], images.shape[1:3], grad.shape[1:3], pads, strict=True)
    window_pads = [
        (low, size + strides * (steps - 1) - pixels - low)
        for size, pixels, steps, (low, _) in sizes
    ]

    def part(start, count):
        some_images, some_grad = (lax.dynamic_slice_in_dim(x, start, count) for x in (images, grad))
        sums = lax.conv_general_dilated(
            some_images.transpose(3, 1, 2, 0),
            some_grad.transpose(1, 2, 0, 3),
            window_strides=(1, 1),
            padding=window_pads,
            rhs_dilation=(strides, strides),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return sums.transpose(1, 2, 0, 3)

    count = min(32, len(images))
    parts, rest = divmod(len(images), count)
    total = part(parts * count, rest) if rest else jnp.zeros(like.shape, like.dtype)
    return lax.fori_loop(0, parts, lambda i, total: total + part(i * count, count), total)


convolve.defvjp(_convolve_forward, _convolve_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def convolve_and_finish(
    images: jax.Array,
    kernel: jax.Array,
    line: tuple[jax.Array, jax.Array],
    activation: Callable[[jax.Array], jax.Array],
    strides: int,
    pads: tuple[tuple[int, int], ...],
) -> jax.Array:
    """Convolve as `convolve` does, multiply by a factor, add an offset, and activate.

    By oneDNN, where that is available and knows the activation, in a single pass. `line` are the factor
    and the offset, [out] each, in float32 or wider.
    """
    plain = functools.partial(
        _convolve_then_finish, activation=activation, strides=strides, pads=pads
    )
    arrays = (images, kernel, line)
    if activation not in (identity, relu, gelu):  # by itself: Flax's GELU is another of that name
        return plain(*arrays)
    in_onednn = functools.partial(onednn.convolve_and_finish, activation=activation.__name__)
    return _by_library(in_onednn, plain, images.dtype, strides, pads, *arrays)


def _convolve_then_finish(images, kernel, line, activation, strides, pads):
    factor, offset = line
    result = convolve(images, kernel, strides, pads)
    return activation(result * factor + offset).astype(images.dtype)


convolve_and_finish.defvjp(
    lambda *arguments: jax.vjp(
        lambda *arrays: _convolve_then_finish(*arrays, *arguments[3:]), *arguments[:3]
    ),
    lambda activation, strides, pads, vjp, grad: vjp(grad),
)


def _xla_convolve(images, kernel, *, strides, pads):
    layout = ("NHWC", "HWIO", "NHWC")
    window = (strides, strides)
    kernel = kernel.astype(images.dtype)
    return lax.conv_general_dilated(images, kernel, window, pads, dimension_numbers=layout)


def _by_library(on_quick_cpu, in_xla, dtype, strides, pads, *arrays):
    on_cpu = in_xla
    crops = any(pad < 0 for side in pads for pad in side)
    if not crops and onednn.available(dtype):
        on_cpu = functools.partial(on_quick_cpu, strides=strides, pads=pads)
    return platform.by_platform(*arrays, cpu=on_cpu, default=in_xla)

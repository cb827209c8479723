"""Convolutions by XLA, in forms that its CPU compiler turns into fast programs."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcifar.devices import platform

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Window(NamedTuple):
    """How a kernel moves over images."""

    strides: int = 1
    """Pixels between two positions."""
    pads: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    """Zeros above and below, left and right of the images, in pixels; negative to leave pixels out."""
    groups: int = 1
    """Number of groups of channels; each group is convolved by itself."""


def convolve(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolve `images: [batch, height, width, channel]` with `kernel: [height, width, in, out]`.

    The result has the type of the images. On a CPU a depthwise convolution is computed as a sum of products;
    XLA's own takes ten times as long there.
    """
    kernel = kernel.astype(images.dtype)
    general = lambda images, kernel: lax.conv_general_dilated(
        images,
        kernel,
        (window.strides, window.strides),
        window.pads,
        dimension_numbers=_LAYOUT,
        feature_group_count=window.groups,
    )
    if not window.groups == images.shape[-1] == kernel.shape[-1]:
        return general(images, kernel)
    products = lambda images, kernel: _depthwise(images, kernel, window)
    return platform.by_platform(images, kernel, cpu=products, default=general)


def _sum_of_products(images, kernel, window):
    wide = jnp.promote_types(images.dtype, jnp.float32)
    shifted = _shifted(images.astype(wide), kernel.shape, window)
    products = [pixels * kernel[y, x, 0].astype(wide) for (y, x), pixels in shifted.items()]
    return functools.reduce(jnp.add, products).astype(images.dtype)


_depthwise = jax.custom_vjp(_sum_of_products, nondiff_argnums=(2,))


def _depthwise_backward(window, saved, grad):
    images, kernel = saved
    by_images = lambda images: _sum_of_products(images, kernel, window)
    (images_grad,) = jax.vjp(by_images, images)[1](grad)
    wide = jnp.promote_types(images.dtype, jnp.float32)

    def add_image(i, sums):
        image, grad_of_one = (
            lax.dynamic_slice_in_dim(x, i, 1).astype(wide) for x in (images, grad)
        )
        shifted = _shifted(image, kernel.shape, window).values()
        return [total + pixels * grad_of_one for total, pixels in zip(sums, shifted)]

    # Outside a loop XLA's CPU compiler would compute the gradient anew for each product.
    zeros = [jnp.zeros((1, *grad.shape[1:]), wide)] * (kernel.shape[0] * kernel.shape[1])
    sums = jnp.stack(lax.fori_loop(0, len(images), add_image, zeros)).sum((1, 2, 3))
    return images_grad, sums.reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(lambda *x: (_depthwise(*x), x[:2]), _depthwise_backward)


def _shifted(images, kernel_shape, window):
    """Return, for each element of a kernel, the pixels of the padded images that it multiplies."""
    zero, pads = jnp.zeros((), images.dtype), [(*pad, 0) for pad in window.pads]
    padded = lax.pad(images, zero, [(0, 0, 0), *pads, (0, 0, 0)])
    height, width = (
        (pixels - reach) // window.strides * window.strides + 1
        for pixels, reach in zip(padded.shape[1:3], kernel_shape)
    )
    return {
        (y, x): padded[:, y : y + height : window.strides, x : x + width : window.strides]
        for y, x in np.ndindex(*kernel_shape[:2])
    }


def suits_parts(kernel: jax.ShapeDtypeStruct, window: Window) -> bool:
    """Return whether, without AVX-512, `kernel_grad_in_parts` takes about oneDNN's time or less.

    That holds for kernels of several pixels, with 64 channels or more in and out, without groups.
    """
    height, width, *channels = kernel.shape
    return window.groups == 1 and height * width > 1 and min(channels) >= 64


def kernel_grad_in_parts(
    images: jax.Array,
    grad: jax.Array,
    like: jax.ShapeDtypeStruct,
    strides: int,
    pads: Sequence[tuple[int, int]],
) -> jax.Array:
    """Return what `onednn.kernel_grad` returns, computed by XLA from 32 images at a time.

    XLA's CPU compiler makes this convolution of a kernel's gradient, with the images as channels and the
    gradient as window, but not in a loop.
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
            dimension_numbers=_LAYOUT,
        )
        return sums.transpose(1, 2, 0, 3).astype(like.dtype)

    count = min(32, len(images))
    parts, rest = divmod(len(images), count)
    total = part(parts * count, rest) if rest else jnp.zeros(like.shape, like.dtype)
    return lax.fori_loop(0, parts, lambda i, total: total + part(i * count, count), total)

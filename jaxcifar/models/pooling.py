"""Pooling, with gradients that a CPU computes fast."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcifar.options import OptionError


def check_halvings(times: int, pixels: int, option: str = "widths") -> None:
    """Check that images with sides of `pixels` pixels can be halved `times` times, as `option` asks.

    Raises:
      OptionError: they cannot.
    """
    if pixels < 2**times:
        raise OptionError(
            f"{{{option}}} halves the image {times} times, which leaves nothing of {pixels} pixels: at most "
            f"{pixels.bit_length() - 1} times"
        )


@jax.custom_vjp
def max_pool_2x2(images: jax.Array) -> jax.Array:
    """Halve height and width by 2×2 max pooling; an odd last line of pixels is left out.

    It takes the maximum of four strided slices. For the gradient it keeps the corner of the largest pixel
    (the first of several) in each window. The gradient of a windowed reduction would be a scatter, which is
    many times slower with XLA's CPU compiler.
    """
    return _max_pool_forward(images)[0]


def _max_pool_forward(images):
    height, width = (size // 2 * 2 for size in images.shape[1:3])
    # XLA's CPU compiler compares in float32; in bfloat16 it would round between any two operations.
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    largest = wide[:, :height:2, :width:2]
    corner = jnp.zeros(largest.shape, jnp.uint8)
    for number, (y, x) in enumerate(((0, 1), (1, 0), (1, 1)), start=1):
        pixels = wide[:, y:height:2, x:width:2]
        corner = jnp.where(pixels > largest, jnp.uint8(number), corner)
        largest = jnp.maximum(pixels, largest)
    # The remainder changes no value. Without it XLA's CPU compiler would keep the images and find the corners
    # again, instead of keeping the corners, which take a sixteenth or an eighth of the images' memory.
    corner %= jnp.uint8(5)
    return largest.astype(images.dtype), (corner, images[:0])


def _max_pool_backward(saved, grad):
    corner, empty = saved
    corners = jnp.arange(4, dtype=jnp.uint8).reshape(2, 1, 2, 1)
    at_corner = corner[:, :, None, :, None] == corners
    return (_with_odd_lines(jnp.where(at_corner, grad[:, :, None, :, None], 0), empty),)


max_pool_2x2.defvjp(_max_pool_forward, _max_pool_backward)


@jax.custom_vjp
def max_pool_3x3(images: jax.Array) -> jax.Array:
    """Take the maximum of 3×3 windows around every second pixel; sides are half as long, rounded up.

    As PyTorch's `MaxPool2d(3, stride=2, padding=1)`. Like `max_pool_2x2` it keeps the maxima's positions.
    """
    return _max_pool_3x3_forward(images)[0]


def _max_pool_3x3_forward(images):
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    padded = jnp.pad(wide, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    height, width = images.shape[1:3]
    shape = (len(images), -(-height // 2), -(-width // 2), images.shape[-1])
    largest = jnp.full(shape, -jnp.inf, wide.dtype)
    place = jnp.zeros(largest.shape, jnp.uint8)
    for number in range(9):
        y, x = divmod(number, 3)
        pixels = padded[:, y : y + height : 2, x : x + width : 2]
        place = jnp.where(pixels > largest, jnp.uint8(number), place)
        largest = jnp.maximum(pixels, largest)
    return largest.astype(images.dtype), (place % jnp.uint8(10), images[:0])


def _max_pool_3x3_backward(saved, grad):
    place, empty = saved
    height, width = empty.shape[1:3]
    zero = jnp.zeros((), grad.dtype)
    total = jnp.zeros((len(grad), height + 2, width + 2, grad.shape[-1]), grad.dtype)
    for number in range(9):
        part = jnp.where(place == number, grad, 0)
        # Every second pixel, from the window's place on.
        sides = [
            (low, size + 2 - low - (2 * count - 1), 1)
            for low, size, count in zip(divmod(number, 3), (height, width), grad.shape[1:3])
        ]
        total += lax.pad(part, zero, [(0, 0, 0), *sides, (0, 0, 0)])
    return (total[:, 1:-1, 1:-1],)


max_pool_3x3.defvjp(_max_pool_3x3_forward, _max_pool_3x3_backward)


@jax.custom_vjp
def average_pool_2x2(images: jax.Array) -> jax.Array:
    """Halve height and width by 2×2 average pooling; an odd last line of pixels is left out."""
    height, width = (size // 2 * 2 for size in images.shape[1:3])
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    corners = [wide[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
    return (sum(corners[1:], start=corners[0]) / 4).astype(images.dtype)


def _average_pool_backward(empty, grad):
    batch, height, width, channels = grad.shape
    windows = (batch, height, 2, width, 2, channels)
    return (_with_odd_lines(jnp.broadcast_to((grad / 4)[:, :, None, :, None], windows), empty),)


average_pool_2x2.defvjp(
    lambda images: (average_pool_2x2(images), images[:0]), _average_pool_backward
)


def _with_odd_lines(windows, like):
    """Return [batch, height, width, channel] from 2×2 windows, with zeros for an odd last line of `like`."""
    batch, height, _, width, _, channels = windows.shape
    images = windows.reshape(batch, 2 * height, 2 * width, channels)
    odd = [(0, size - even) for size, even in zip(like.shape[1:3], images.shape[1:3], strict=True)]
    return jnp.pad(images, ((0, 0), *odd, (0, 0)))

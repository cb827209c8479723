"""Convolutions, by oneDNN where that is quicker, else by XLA."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.devices import platform
from jaxcifar.devices.cpu_facts import has_avx512, multiplies_bfloat16
from jaxcifar.errors import UserError
from jaxcifar.models import xla_convolution
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import add_bias, channel_sums, gelu, identity, relu, relu6
from jaxcifar.models.xla_convolution import Window

onednn: Any
try:
    from jaxcifar.cpu import onednn
except ImportError:  # `jaxcifar.cpu` may be left out
    onednn = None


def library(asked: str, dtype: jax.typing.DTypeLike) -> str:
    """Return the library that convolves arrays of this type on this machine: `onednn` or `xla`.

    Args:
      asked: one of them, or `auto` for oneDNN where it is available.
      dtype: of the model's computation.

    Raises:
      UserError: oneDNN is asked for, and is not available.
    """
    if asked == "xla":
        return "xla"
    if onednn is not None and onednn.available(dtype):
        return "onednn"
    if asked == "auto":
        return "xla"
    raise UserError(
        f"--config.convolutions={asked} (in prediction --convolutions) cannot be had here, for "
        f"{_why_no_onednn(dtype)}: set it to auto"
    )


def foreign_calls() -> tuple[str, ...]:
    """Return the names of the oneDNN calls that programs may contain."""
    return onednn.targets() if onednn is not None else ()


def _why_no_onednn(dtype):
    name = jnp.dtype(dtype).name
    if platform.current() != "cpu":
        return f"the platform is {platform.current()}, not a CPU"
    if name not in ("float32", "bfloat16"):
        return f"the precision is {name}, neither float32 nor bfloat16"
    if name == "bfloat16" and not multiplies_bfloat16():
        return "the precision is bfloat16, which this processor does not multiply"
    return "the package onednn-cpu-gomp is not installed or does not load, or XLA refuses its calls"


class Conv(nn.Module):
    """Convolve with a learnt kernel.

    Like `flax.linen.Conv`, but faster on a CPU. With strides of 2, windows lie around every second pixel from
    the first on, as in PyTorch. Flax's, under "SAME", begin a pixel later in images of even size.
    """

    features: int
    """Channels of the result."""
    kernel_size: Sequence[int]
    """Height and width, in pixels."""
    compute: Compute
    strides: int = 1
    """Pixels between two windows."""
    groups: int = 1
    """Number of groups of channels; as many groups as channels make a depthwise convolution."""
    use_bias: bool = False
    pads: Sequence[tuple[int, int]] | None = None
    """Zeros above and below, left and right of the images, in pixels; None: half the kernel's size each."""
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        pooled: bool = False,
        line: tuple[jax.Array, jax.Array] | None = None,
        activation: Callable[[jax.Array], jax.Array] = identity,
    ) -> jax.Array:
        """Return [batch, height, width, features] of `images: [batch, height, width, channel]`.

        Networks pass the images alone; `sequential` passes the other arguments.

        Args:
          images: to be convolved.
          pooled: whether to leave out the odd last line of pixels, which 2×2 pooling would drop.
          line: the factor and the offset, [features] each, of the BatchNorm that follows.
          activation: applied last, element by element.
        """
        channels, groups = images.shape[-1], self.groups
        if channels % groups or self.features % groups:
            raise ValueError(
                f"{channels} channels in and {self.features} out do not fall into {groups} groups"
            )
        shape = (*self.kernel_size, channels // groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.compute.wide)
        bias = None
        if self.use_bias:
            zeros = nn.initializers.zeros
            bias = self.param("bias", zeros, (self.features,), self.compute.wide)
        pads = self.pads or [((size - 1) // 2, size // 2) for size in self.kernel_size]
        if pooled:
            sizes = zip(images.shape[1:3], pads, self.kernel_size, strict=True)
            odd = (
                ((size + sum(pad) - reach) // self.strides + 1) % 2 for size, pad, reach in sizes
            )
            pads = [
                (low, high - self.strides * rest)
                for (low, high), rest in zip(pads, odd, strict=True)
            ]
        window = Window(self.strides, tuple(pads), groups)
        images, chosen = images.astype(self.compute.dtype), self.compute.convolutions
        if line is not None:
            factor, offset = line
            line = line if bias is None else (factor, bias * factor + offset)
            return convolve_and_finish(images, kernel, line, activation, window, chosen)
        if bias is None or activation is identity:
            return activation(convolve(images, kernel, window, chosen, bias))
        # The activation is applied before the sum is rounded to the type of the images.
        return add_bias(convolve(images, kernel, window, chosen), bias, activation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    images: jax.Array,
    kernel: jax.Array,
    window: Window = Window(),  # noqa: B008, it cannot be changed
    library: str = "xla",
    bias: jax.Array | None = None,
) -> jax.Array:
    """Convolve `images: [batch, height, width, channel]` with `kernel: [height, width, in, out]`.

    Args:
      images: in the type of the computation and of the result.
      kernel: in this type or float32; its gradient has the same type.
      window: how the kernel moves.
      library: used on a CPU, as `library` returned it for the type; windows with negative padding are
        always XLA's.
      bias: [out] float32 or wider. oneDNN adds it before the result is rounded, XLA to the rounded result.
    """
    in_onednn = lambda images, kernel, *bias: onednn.convolve(
        images, kernel, window.strides, window.pads, *bias
    )

    def in_xla(images, kernel, *bias):
        result = xla_convolution.convolve(images, kernel, window)
        return sum(bias, start=result).astype(images.dtype)

    biases = () if bias is None else (bias,)
    return _by_library(library, window, in_onednn, in_xla)(images, kernel, *biases)


def _convolve_forward(images, kernel, window, library, bias):
    like_bias = None if bias is None else bias[:0]
    return convolve(images, kernel, window, library, bias), (images, kernel, like_bias)


def _convolve_backward(window, library, saved, grad):
    images, kernel, like_bias = saved
    like_images, like_kernel = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (images, kernel))
    steps = (window.strides, window.pads)

    def images_grad_in_onednn(kernel, grad):
        return onednn.images_grad(kernel, grad, like_images, *steps)

    def images_grad_in_xla(kernel, grad):
        convolve = lambda images: xla_convolution.convolve(images, kernel, window)
        return jax.vjp(convolve, images)[1](grad)[0]

    def kernel_grad_in_onednn(images, grad):
        by_pixel = onednn.sums_by_pixel(images, like_kernel, *steps)
        if has_avx512() or by_pixel or not xla_convolution.suits_parts(like_kernel, window):
            return onednn.kernel_grad(images, grad, like_kernel, *steps)
        return xla_convolution.kernel_grad_in_parts(images, grad, like_kernel, *steps)

    def kernel_grad_in_xla(images, grad):
        convolve = lambda kernel: xla_convolution.convolve(images, kernel, window)
        return jax.vjp(convolve, kernel)[1](grad)[0]

    images_grad = _by_library(library, window, images_grad_in_onednn, images_grad_in_xla)
    kernel_grad = _by_library(library, window, kernel_grad_in_onednn, kernel_grad_in_xla)
    bias_grad = None if like_bias is None else channel_sums(grad.astype(like_bias.dtype))[0]
    return images_grad(kernel, grad), kernel_grad(images, grad), bias_grad


convolve.defvjp(_convolve_forward, _convolve_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def convolve_and_finish(
    images: jax.Array,
    kernel: jax.Array,
    line: tuple[jax.Array, jax.Array],
    activation: Callable[[jax.Array], jax.Array],
    window: Window,
    library: str,
) -> jax.Array:
    """Convolve as `convolve` does, multiply by a factor, add an offset, and activate.

    oneDNN does this in a single pass, if it knows the activation. `line` holds the factor and the offset,
    [out] each, in float32 or wider.
    """
    in_xla = functools.partial(
        _convolve_then_finish, activation=activation, window=window, library=library
    )
    arrays = (images, kernel, line)
    # Told by identity, not by name: Flax's GELU has the same name.
    if activation not in (identity, relu, relu6, gelu):
        return in_xla(*arrays)
    in_onednn = lambda *arrays: onednn.convolve_and_finish(
        *arrays, activation.__name__, window.strides, window.pads
    )
    return _by_library(library, window, in_onednn, in_xla)(*arrays)


def _convolve_then_finish(images, kernel, line, activation, window, library):
    factor, offset = line
    result = convolve(images, kernel, window, library)
    return activation(result * factor + offset).astype(images.dtype)


convolve_and_finish.defvjp(
    lambda *arguments: jax.vjp(
        lambda *arrays: _convolve_then_finish(*arrays, *arguments[3:]), *arguments[:3]
    ),
    lambda activation, window, library, vjp, grad: vjp(grad),
)


def _by_library(library, window, in_onednn, in_xla) -> Callable[..., Any]:
    """Return a function that calls `in_onednn` where oneDNN convolves, else `in_xla`."""
    crops = any(pad < 0 for side in window.pads for pad in side)
    if library != "onednn" or crops:
        return in_xla
    return functools.partial(platform.by_platform, cpu=in_onednn, default=in_xla)

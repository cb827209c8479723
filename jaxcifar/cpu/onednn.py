"""Convolutions in oneDNN, the library that PyTorch also uses on a CPU.

It comes as a wheel that holds a shared library and no Python (`onednn-cpu-gomp`, for Linux on x86-64),
and is called through its C interface. XLA's own convolutions take a CPU up to twice as long.
"""

import ctypes
import functools
import importlib.metadata
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np

from jaxcifar.cpu import foreign
from jaxcifar.cpu.onednn_library import ACTIVATIONS, DTYPES, KINDS, Convolutions
from jaxcifar.devices import platform
from jaxcifar.devices.cpu_facts import multiplies_bfloat16
from jaxcifar.errors import first_line
from jaxcifar.host.progress import warn

PACKAGE = "onednn-cpu-gomp"

Pads = Sequence[tuple[int, int]]
"""Zeros above and below, left and right, in pixels."""


def available(dtype: jax.typing.DTypeLike) -> bool:
    """Return whether programs here can convolve arrays of this type with oneDNN.

    They can on a CPU, if oneDNN is installed and loads, and if XLA accepts the functions of `foreign`. The
    type must be float32, or bfloat16 where the processor multiplies bfloat16 itself.
    """
    name = jnp.dtype(dtype).name
    if platform.current() != "cpu" or name not in DTYPES:
        return False
    if name == "bfloat16" and not multiplies_bfloat16():
        return False
    with _starting:  # programs are traced in several threads
        return _start()


_starting = threading.Lock()


@functools.cache
def _start() -> bool:
    try:
        files = importlib.metadata.files(PACKAGE) or ()
        path = next(file.locate() for file in files if file.name == "libdnnl.so.3")
        # Threads that wait for work sleep, and leave the cores to XLA's.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        library = ctypes.CDLL(os.fspath(path))
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
        return False
    queue_up = _in_one_thread()
    convolutions = Convolutions(library)
    try:
        for kind in KINDS:
            run = functools.partial(convolutions.run, kind)
            foreign.register(_target(kind), lambda *call, run=run: queue_up(run, *call))
    except jax.errors.JaxRuntimeError as error:
        if jax.process_index() == 0:
            warn(
                "XLA's foreign function interface does not take oneDNN's convolutions "
                f"({first_line(error)}): XLA convolves"
            )
        return False
    return True


def targets() -> tuple[str, ...]:
    """Return the names by which programs call oneDNN."""
    return tuple(map(_target, KINDS))


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    strides: int,
    pads: Pads,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Convolve `images: [batch, height, width, channel]` with `kernel: [height, width, in, out]`.

    This and the gradients below are for programs on a CPU, if oneDNN is `available` for the type of the
    images, in which it multiplies. The kernel may have either type. If the images have g times as many
    channels as the kernel has `in`, the channels form g groups, each convolved by itself.

    Args:
      images: see above.
      kernel: see above.
      strides: pixels between two windows.
      pads: zeros above and below, left and right of the images, in pixels.
      bias: [out] float32, added before the result is rounded to the type of the images.
    """
    kind, biases = ("forward", ()) if bias is None else ("biased", (bias,))
    result = _result(images, kernel, strides, pads)
    return _call(kind, images, kernel, *biases, result, strides, pads)


def convolve_and_finish(
    images: jax.Array,
    kernel: jax.Array,
    line: tuple[jax.Array, jax.Array],
    activation: str,
    strides: int,
    pads: Pads,
) -> jax.Array:
    """Convolve, multiply by a factor, add an offset, and activate, in a single pass.

    Everything after the convolution is computed in float32.

    Args:
      images: as for `convolve`, like `kernel`, `strides` and `pads`.
      kernel: see there.
      line: the factor and the offset, [out] float32 each.
      activation: one of `onednn_library.ACTIVATIONS`.
      strides: see there.
      pads: see there.
    """
    arrays = (images, kernel, *line, _result(images, kernel, strides, pads))
    return _call("finished", *arrays, strides, pads, activation=activation)


def images_grad(
    kernel: jax.Array, grad: jax.Array, like: jax.ShapeDtypeStruct, strides: int, pads: Pads
) -> jax.Array:
    """Return the images' gradient, of the shape and type of `like`; `grad` is the result's."""
    return _call("images", kernel, grad, like, strides, pads)


def kernel_grad(
    images: jax.Array, grad: jax.Array, like: jax.ShapeDtypeStruct, strides: int, pads: Pads
) -> jax.Array:
    """Return the kernel's gradient, of the shape and type of `like`; `grad` is the result's.

    It is summed in float32, and rounded only if the kernel is in bfloat16.
    """
    window = [(strides, *pad) for pad in pads]
    if not sums_by_pixel(images, like, strides, pads):
        return _run("kernel", {"images": images, "output": grad, "kernel": like}, window)
    # By pixel: the convolution of the images with `grad`, in which the batch is the channels.
    arrays = {
        "images": images.transpose(1, 2, 3, 0)[None],
        "kernel": grad.transpose(1, 2, 0, 3)[:, :, None],
        "output": jax.ShapeDtypeStruct((1, *like.shape), like.dtype),
    }
    return _run("forward", arrays, [*window, (1, 0, 0)])[0]


def sums_by_pixel(
    images: jax.Array, kernel: jax.ShapeDtypeStruct, strides: int, pads: Pads
) -> bool:
    """Return whether `kernel_grad` leaves out multiplications with padding."""
    in_groups = images.shape[-1] > kernel.shape[-2]
    return strides == 1 and not in_groups and _padding_share(images, kernel, strides, pads) > 1 / 4


def _padding_share(images, kernel, strides, pads):
    """Return the share of a convolution's multiplications whose factor is a zero of the padding."""
    counts = _result(images, kernel, strides, pads).shape[1:3]
    inside = 1
    for pixels, size, count, (low, _) in zip(
        images.shape[1:3], kernel.shape[:2], counts, pads, strict=True
    ):
        pixel = strides * np.arange(count)[:, None] + np.arange(size) - low
        inside *= ((pixel >= 0) & (pixel < pixels)).mean()
    return 1 - inside


def _result(images, kernel, strides, pads):
    height, width = (
        (size + low + high - reach) // strides + 1
        for size, reach, (low, high) in zip(images.shape[1:3], kernel.shape[:2], pads, strict=True)
    )
    return jax.ShapeDtypeStruct((len(images), height, width, kernel.shape[-1]), images.dtype)


def _call(kind, *arrays_and_window, activation="identity"):
    *arrays, strides, pads = arrays_and_window
    arrays = dict(zip(KINDS[kind], arrays, strict=True))
    window = [(strides, *pad) for pad in pads]
    images, kernel = arrays["images"], arrays["kernel"]
    in_groups = images.shape[-1] > kernel.shape[-2]
    if in_groups or _padding_share(images, kernel, strides, pads) < 1 / 8:
        return _run(kind, arrays, window, activation)
    # By pixel: over height, width and batch, with a kernel of size 1 along the batch. oneDNN leaves out
    # multiplications with padding, except in the last dimension.
    given, wanted = ("output", "images") if kind == "images" else ("images", "output")
    arrays[given] = _by_pixel(arrays[given])
    arrays[wanted] = jax.eval_shape(_by_pixel, arrays[wanted])
    arrays["kernel"] = arrays["kernel"][:, :, None]
    return _run(kind, arrays, [*window, (1, 0, 0)], activation)[0].transpose(2, 0, 1, 3)


def _by_pixel(x):
    return x.transpose(1, 2, 0, 3)[None]


def _run(kind, arrays, window, activation="identity"):
    *arguments, result = arrays.values()
    dtypes = (DTYPES[arrays[name].dtype.name] for name in ("images", "kernel", "output"))
    numbers = (*dtypes, list(ACTIVATIONS).index(activation), *np.transpose(window).flat)
    call = jax.ffi.ffi_call(_target(kind), result, vmap_method="sequential")
    return call(*arguments, numbers=np.array(numbers, np.int64))


def _target(kind):
    return f"jaxcifar_onednn_{kind}"


def _in_one_thread() -> Callable:
    """Return `queue_up(function, *arguments)`, which has one fixed thread call the function, and waits.

    OpenMP gives every calling thread a team with a thread for each core, and XLA calls from many threads.
    """
    tasks = queue.SimpleQueue()

    def work():
        while True:
            done, function, arguments = tasks.get()
            try:
                done.set_result(function(*arguments))
            except Exception as error:
                done.set_exception(error)

    def queue_up(function, *arguments):
        done = Future()
        tasks.put((done, function, arguments))
        return done.result()

    threading.Thread(target=work, name="onednn", daemon=True).start()
    return queue_up

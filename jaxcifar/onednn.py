"""Convolutions in oneDNN, the library with which PyTorch convolves on a CPU too.

It comes as a wheel that holds a shared library and no Python (`onednn-cpu-gomp`, for Linux on x86-64),
and is called through its C interface. XLA's own convolutions take a CPU up to twice as long.
"""

import ctypes
import functools
import importlib.metadata
import math
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from ctypes import byref, c_int, c_int64, c_size_t, c_void_p

import jax
import jax.numpy as jnp
import numpy as np

from jaxcifar import foreign
from jaxcifar.foreign import Array

PACKAGE = "onednn-cpu-gomp"

Pads = Sequence[tuple[int, int]]
"""Rows of zeros above and below, columns left and right."""


def available() -> bool:
    """Return whether programs here can call oneDNN: on a CPU, where it is installed and loads."""
    with _starting:  # programs are traced in several threads
        return _start()


_starting = threading.Lock()


@functools.cache
def _start() -> bool:
    if jax.default_backend() != "cpu":
        return False
    try:
        files = importlib.metadata.files(PACKAGE) or ()
        path = next(file.locate() for file in files if file.name == "libdnnl.so.3")
        # Threads that wait for work sleep, and leave the cores to XLA's.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        library = ctypes.CDLL(os.fspath(path))
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
        return False
    queue_up = _in_one_thread()
    convolutions = _Convolutions(library)
    for kind in _KINDS:
        run = functools.partial(convolutions.run, kind)
        foreign.register(_target(kind), lambda *call, run=run: queue_up(run, *call))
    return True


def convolve(images: jax.Array, kernel: jax.Array, strides: int, pads: Pads) -> jax.Array:
    """Convolve `images: [batch, height, width, channel]` with `kernel: [height, width, in, out]`.

    Like its gradients below for programs on a CPU, in float32, where oneDNN is `available`.

    Args:
      strides: pixels between two windows.
      pads: rows of zeros above and below, columns left and right of the images.
    """
    height, width = (
        (size + low + high - reach) // strides + 1
        for size, reach, (low, high) in zip(images.shape[1:3], kernel.shape[:2], pads, strict=True)
    )
    shape = (len(images), height, width, kernel.shape[-1])
    return _call("forward", images, kernel, shape, strides, pads)


def images_grad(
    kernel: jax.Array, grad: jax.Array, shape: Sequence[int], strides: int, pads: Pads
) -> jax.Array:
    """Return the gradient of the images, which are of this shape; `grad` is that of the result."""
    return _call("images", kernel, grad, shape, strides, pads)


def kernel_grad(
    images: jax.Array, grad: jax.Array, shape: Sequence[int], strides: int, pads: Pads
) -> jax.Array:
    """Return the gradient of the kernel, which is of this shape; `grad` is that of the result."""
    return _call("kernel", images, grad, shape, strides, pads)


def _call(kind, left, right, shape, strides, pads):
    numbers = np.array([strides, *pads[0], *pads[1]], np.int64)
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.ffi.ffi_call(_target(kind), result)(left, right, numbers=numbers)


def _target(kind):
    return f"jaxcifar_onednn_{kind}"


def _in_one_thread() -> Callable:
    """Return `queue_up(function, *arguments)`, which waits until a thread of its own has called that.

    Every thread that calls OpenMP is given a team as large as there are cores; XLA calls from many.
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


# Numbers of oneDNN's `dnnl_types.h`, version 3 (`libdnnl.so.3`).
_CPU, _FLOAT32, _ANY_LAYOUT, _IN_ORDER, _USER_SCRATCHPAD = 1, 3, 1, 1, 1
_FORWARD_TRAINING, _DIRECT = 64, 1
_KERNEL_LAYOUT, _KERNEL_GRAD_LAYOUT, _SCRATCHPAD_LAYOUT = 131, 132, 136
_PLACES = {"images": 1, "output": 17, "kernel": 33, "scratchpad": 80, "from": 1, "to": 17}
_GRAD = 128  # the place of a gradient is so much higher
_KINDS = {
    "forward": ("images", "kernel", "output"),
    "images": ("kernel", "output", "images"),
    "kernel": ("images", "output", "kernel"),
}
"""What is computed: the two arguments of a call, and its result."""


class _Argument(ctypes.Structure):
    _fields_ = [("place", c_int), ("memory", c_void_p)]


class _Convolutions:
    """oneDNN's convolutions, each made when it is first called; for one thread."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        library.dnnl_primitive_desc_query_md.restype = c_void_p
        library.dnnl_memory_desc_get_size.restype = c_size_t
        self._engine = self._new("engine_create", _CPU, c_size_t(0))
        self._stream = self._new("stream_create", self._engine, _IN_ORDER)
        self._attributes = self._new("primitive_attr_create")
        self._do("primitive_attr_set_scratchpad_mode", self._attributes, _USER_SCRATCHPAD)
        self._made = {}
        self._workspace = np.empty(0, np.uint8)

    def run(
        self, kind: str, arguments: Sequence[Array], results: Sequence[Array], numbers: list[int]
    ) -> None:
        """Do a convolution, or one of its gradients, as a `foreign.Function`."""
        arrays = dict(zip(_KINDS[kind], (*arguments, *results), strict=True))
        call = (kind, *((name, array.shape) for name, array in arrays.items()), *numbers)
        if call not in self._made:
            shapes = {name: array.shape for name, array in arrays.items()}
            self._made[call] = self._make(kind, shapes, *numbers)
        self._made[call]({name: array.address for name, array in arrays.items()})

    def _make(self, kind, shapes, stride, *pads):
        # oneDNN numbers axes as PyTorch does; how far apart neighbours lie says what the layout is.
        images, output = (self._layout(shapes[name], (0, 3, 1, 2)) for name in ("images", "output"))
        kernel, any_kernel = (
            self._layout(shapes["kernel"], (3, 2, 0, 1), given=given) for given in (True, False)
        )
        window = [_numbers(x) for x in ((stride, stride), (0, 0), pads[::2], pads[1::2])]
        arrays = (images, any_kernel, None, output, *window)
        description = self._new(
            "convolution_forward_primitive_desc_create",
            *(self._engine, _FORWARD_TRAINING, _DIRECT, *arrays, self._attributes),
        )
        if kind != "forward":
            name = {"images": "data", "kernel": "weights"}[kind]
            if kind == "images":
                arrays = (images, any_kernel, output, *window)  # which has no bias
            description = self._new(
                f"convolution_backward_{name}_primitive_desc_create",
                *(self._engine, _DIRECT, *arrays, description, self._attributes),
            )
        own_kernel, scratchpad = (
            c_void_p(self._library.dnnl_primitive_desc_query_md(description, what, 0))
            for what in (
                _KERNEL_GRAD_LAYOUT if kind == "kernel" else _KERNEL_LAYOUT,
                _SCRATCHPAD_LAYOUT,
            )
        )
        layouts = {
            "images": images,
            "kernel": own_kernel,
            "output": output,
            "scratchpad": scratchpad,
        }
        grads = () if kind == "forward" else (kind, "output")
        convolve = self._program(description, layouts, grads)
        change = (own_kernel, kernel) if kind == "kernel" else (kernel, own_kernel)
        reorder = self._program(
            self._new(
                "reorder_primitive_desc_create",
                *(change[0], self._engine, change[1], self._engine, self._attributes),
            ),
            dict(zip(("from", "to"), change, strict=True)),
        )
        kernel_bytes, scratch_bytes = (
            -(-self._library.dnnl_memory_desc_get_size(x) // 64) * 64
            for x in (own_kernel, scratchpad)
        )

        def run(addresses):
            own = self._room(kernel_bytes + scratch_bytes)
            inner = addresses | {"kernel": own, "scratchpad": own + kernel_bytes}
            if kind == "kernel":
                convolve(inner)
                reorder({"from": own, "to": addresses["kernel"]})
            else:
                reorder({"from": addresses["kernel"], "to": own})
                convolve(inner)

        return run

    def _program(self, description, layouts, grads=()):
        """Return `program(addresses)`, which runs a primitive on arrays of these layouts, by name."""
        primitive = self._new("primitive_create", description)
        memories = {
            name: self._new("memory_create", layout, self._engine, None)
            for name, layout in layouts.items()
        }
        arguments = (_Argument * len(memories))(
            *(
                _Argument(_PLACES[name] + _GRAD * (name in grads), memory)
                for name, memory in memories.items()
            )
        )

        def program(addresses):
            for name, memory in memories.items():
                self._do("memory_set_data_handle", memory, c_void_p(addresses[name]))
            self._do("primitive_execute", primitive, self._stream, len(arguments), arguments)
            self._do("stream_wait", self._stream)

        return program

    def _layout(self, shape, order, *, given=True):
        """Describe a row-major array with its axes in another order; if not `given`, in any layout."""
        sizes = _numbers([shape[axis] for axis in order])
        if not given:
            return self._new("memory_desc_create_with_tag", 4, sizes, _FLOAT32, _ANY_LAYOUT)
        gaps = _numbers([math.prod(shape[axis + 1 :]) for axis in order])
        return self._new("memory_desc_create_with_strides", 4, sizes, _FLOAT32, gaps)

    def _room(self, size):
        """Return the address of memory that is free until the next call, at a multiple of 64."""
        if len(self._workspace) < size + 63:
            self._workspace = np.empty(size + 63, np.uint8)
        return -(-self._workspace.ctypes.data // 64) * 64

    def _new(self, name, *arguments):
        made = c_void_p()
        self._do(name, byref(made), *arguments)
        return made

    def _do(self, name, *arguments):
        if status := getattr(self._library, f"dnnl_{name}")(*arguments):
            raise RuntimeError(f"dnnl_{name} returned {status}")


def _numbers(values):
    return (c_int64 * 12)(*values)  # oneDNN's arrays have room for 12 axes

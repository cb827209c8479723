"""oneDNN's convolutions through its C interface."""

import ctypes
import math
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_void_p

import numpy as np

from jaxcifar.cpu.foreign import Array

DTYPES = {"float32": 3, "bfloat16": 2}
"""oneDNN's number for each of the types in which it convolves here."""

# Numbers of oneDNN's `dnnl_types.h`, version 3 (`libdnnl.so.3`).
_CPU, _ANY_LAYOUT, _IN_ORDER, _USER_SCRATCHPAD = 1, 1, 1, 1
_FORWARD_TRAINING, _DIRECT = 64, 1
_ADD, _MULTIPLY = 0x1FFF0, 0x1FFF1
_KERNEL_LAYOUT, _KERNEL_GRAD_LAYOUT, _SCRATCHPAD_LAYOUT = 131, 132, 136
_ARGUMENTS = {"images": 1, "output": 17, "kernel": 33, "bias": 41, "scratchpad": 80}
_ARGUMENTS |= {"from": 1, "to": 17}
# The arguments of the first and the second operation after a convolution.
_ARGUMENTS |= {"factor": 32_770, "offset": 65_538}
_GRAD = 128  # added to an argument's number for its gradient
KINDS = {
    "forward": ("images", "kernel", "output"),
    "biased": ("images", "kernel", "bias", "output"),
    "finished": ("images", "kernel", "factor", "offset", "output"),
    "images": ("kernel", "output", "images"),
    "kernel": ("images", "output", "kernel"),
}
"""For each kind of call, its arguments and then its result. `biased` is `forward` plus a float32 bias;
`finished` is `forward`, then in float32 each channel times a factor, plus an offset, and the activation."""
ACTIVATIONS = {"identity": (), "relu": (0x20, 0, 0), "relu6": (0x2E, 0, 6), "gelu": (0x31, 0, 0)}
"""oneDNN's number and two parameters for each activation that `finished` may apply."""


class _Argument(ctypes.Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


class Convolutions:
    """oneDNN's convolutions, each made at its first call; for use from one thread."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        library.dnnl_primitive_desc_query_md.restype = c_void_p
        library.dnnl_memory_desc_get_size.restype = c_size_t
        self._engine = self._new("engine_create", _CPU, c_size_t(0))
        self._stream = self._new("stream_create", self._engine, _IN_ORDER)
        self._attributes = self._new_attributes()
        self._made = {}
        self._workspace = np.empty(0, np.uint8)

    def run(
        self, kind: str, arguments: Sequence[Array], results: Sequence[Array], numbers: list[int]
    ) -> None:
        """Compute a convolution, or one of its gradients, as a `foreign.Function`."""
        arrays = dict(zip(KINDS[kind], (*arguments, *results), strict=True))
        call = (kind, *((name, array.shape) for name, array in arrays.items()), *numbers)
        if call not in self._made:
            shapes = {name: array.shape for name, array in arrays.items()}
            self._made[call] = self._make(kind, shapes, *numbers)
        self._made[call]({name: array.address for name, array in arrays.items()})

    def _make(self, kind, shapes, dtype, kernel_dtype, output_dtype, activation, *window):
        """Return `run(addresses)`, which computes `kind` for arrays of these shapes; addresses go by name."""
        sizes, gaps = _as_kernel(shapes["kernel"], shapes["images"][-1] // shapes["kernel"][-2])
        kernel = self._layout(kernel_dtype, sizes, gaps)
        layouts = {
            "images": self._layout(dtype, *_as_images(shapes["images"])),
            "output": self._layout(output_dtype, *_as_images(shapes["output"])),
        }
        attributes = self._attributes
        if kind == "biased":
            layouts["bias"] = self._layout(DTYPES["float32"], shapes["bias"], (1,))
        if kind == "finished":
            shape = (*[1] * (len(shapes["images"]) - 1), *shapes["factor"])
            channels = self._layout(DTYPES["float32"], *_as_images(shape))
            attributes = self._finishing(channels, list(ACTIVATIONS.values())[activation])
            layouts |= {"factor": channels, "offset": channels}
        description = self._describe(kind, layouts, dtype, sizes, window, attributes)
        kernel_layout = _KERNEL_GRAD_LAYOUT if kind == "kernel" else _KERNEL_LAYOUT
        own_kernel, scratchpad = (
            c_void_p(self._library.dnnl_primitive_desc_query_md(description, what, 0))
            for what in (kernel_layout, _SCRATCHPAD_LAYOUT)
        )
        layouts |= {"kernel": own_kernel, "scratchpad": scratchpad}
        grads = (kind, "output") if kind in ("images", "kernel") else ()
        convolve = self._program(description, layouts, grads)
        change = (own_kernel, kernel) if kind == "kernel" else (kernel, own_kernel)
        reorder = self._reorder(*change)
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

    def _describe(self, kind, layouts, dtype, sizes, window, attributes):
        """Return the description of a convolution that leaves the layout of the kernel to oneDNN."""
        sides = len(window) // 3
        strides, low_pads, high_pads = (window[i * sides : (i + 1) * sides] for i in range(3))
        window = [_numbers(x) for x in (strides, [0] * sides, low_pads, high_pads)]
        images, bias, output = (layouts.get(name) for name in ("images", "bias", "output"))
        kernel = self._layout(dtype, sizes)
        forward = self._new(
            "convolution_forward_primitive_desc_create",
            *(self._engine, _FORWARD_TRAINING, _DIRECT),
            *(images, kernel, bias, output, *window, attributes),
        )
        if kind == "images":
            name, arrays = "data", (images, kernel, output)
        elif kind == "kernel":
            name, arrays = "weights", (images, self._layout(DTYPES["float32"], sizes), None, output)
        else:
            return forward
        return self._new(
            f"convolution_backward_{name}_primitive_desc_create",
            *(self._engine, _DIRECT, *arrays, *window, forward, attributes),
        )

    def _reorder(self, before, after):
        """Return the program that copies an array `from` one layout `to` another."""
        arguments = (before, self._engine, after, self._engine, self._attributes)
        description = self._new("reorder_primitive_desc_create", *arguments)
        return self._program(description, {"from": before, "to": after})

    def _new_attributes(self):
        attributes = self._new("primitive_attr_create")
        self._do("primitive_attr_set_scratchpad_mode", attributes, _USER_SCRATCHPAD)
        return attributes

    def _finishing(self, channels, activation):
        """Return the attributes of a convolution that ends as `finished` does."""
        operations = self._new("post_ops_create")
        for operation in (_MULTIPLY, _ADD):
            self._do("post_ops_append_binary", operations, operation, channels)
        if activation:
            number, *parameters = activation
            self._do("post_ops_append_eltwise", operations, number, *map(c_float, parameters))
        attributes = self._new_attributes()
        self._do("primitive_attr_set_post_ops", attributes, operations)
        return attributes

    def _program(self, description, layouts, grads=()):
        """Return `program(addresses)`, which runs a primitive on arrays of these layouts, by name."""
        primitive = self._new("primitive_create", description)
        memories = {
            name: self._new("memory_create", layout, self._engine, None)
            for name, layout in layouts.items()
        }
        arguments = (_Argument * len(memories))(
            *(
                _Argument(_ARGUMENTS[name] + _GRAD * (name in grads), memory)
                for name, memory in memories.items()
            )
        )

        def program(addresses):
            for name, memory in memories.items():
                self._do("memory_set_data_handle", memory, c_void_p(addresses[name]))
            self._do("primitive_execute", primitive, self._stream, len(arguments), arguments)
            self._do("stream_wait", self._stream)

        return program

    def _layout(self, dtype, sizes, gaps=None):
        """Describe an array by its sizes and strides (`gaps`); without gaps oneDNN may choose the layout."""
        rank, sizes = len(sizes), _numbers(sizes)
        if gaps is None:
            return self._new("memory_desc_create_with_tag", rank, sizes, dtype, _ANY_LAYOUT)
        return self._new("memory_desc_create_with_strides", rank, sizes, dtype, _numbers(gaps))

    def _room(self, size):
        """Return the address, a multiple of 64, of memory that may be used until the next call."""
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


def _as_images(shape):
    """Return sizes and strides of [batch, ..., channel] in oneDNN's order, which is PyTorch's."""
    gaps = _gaps(shape)
    return (shape[0], shape[-1], *shape[1:-1]), (gaps[0], 1, *gaps[1:-1])


def _as_kernel(shape, groups):
    """Return sizes and strides of [..., in, out] in oneDNN's order: group, out, in, and the rest."""
    *rest, inward, outward = shape
    *rest_gaps, inward_gap, _ = _gaps(shape)
    sizes, gaps = (outward // groups, inward, *rest), (1, inward_gap, *rest_gaps)
    return ((groups, *sizes), (outward // groups, *gaps)) if groups > 1 else (sizes, gaps)


def _gaps(shape):
    """Return the strides of a row-major array, in elements."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _numbers(values):
    return (c_int64 * 12)(*values)  # oneDNN's arrays have room for 12 axes

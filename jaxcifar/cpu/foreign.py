"""Python functions that XLA's programs call on a CPU, on XLA's own memory, without a copy.

XLA calls a C function with a frame of pointers (its foreign function interface, `xla/ffi/api/c_api.h`,
which `jaxlib` includes); ctypes turns a Python function into such a C function. Unlike with
`jax.pure_callback`, nothing is copied, and programs can be kept in the compilation cache.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax


class Array(NamedTuple):
    """Say where an argument or a result of a call lies: row-major, without gaps."""

    address: int
    shape: tuple[int, ...]


Function = Callable[[Sequence[Array], Sequence[Array], Sequence[int]], None]
"""`(arguments, results, numbers) -> None`, which fills the results."""

VERSION = (0, 3)
"""The version of XLA's interface, major and minor, whose structs are defined below."""


def register(name: str, function: Function) -> None:
    """Let `jax.ffi.ffi_call(name, …)` call `function` on CPUs.

    The call's single attribute is an array of int64, which `function` gets as `numbers`. XLA calls from
    threads of its own, several at a time, with the GIL held. An exception becomes an error of the calling
    program.

    Raises:
      jax.errors.JaxRuntimeError: XLA does not accept functions of `VERSION`, or has one of that name.
    """

    def handler(frame_pointer):
        frame = frame_pointer.contents
        if frame.size_of_struct < _FRAME_SIZE:
            return fail(frame, f"XLA's frame has {frame.size_of_struct} bytes, not {_FRAME_SIZE}")
        if frame.extension and frame.extension.contents.kind == _METADATA:
            version = frame.extension.contents.metadata.contents.version
            version.major, version.minor = VERSION
            return None
        try:
            numbers = ctypes.cast(frame.attributes.values[0], ctypes.POINTER(_Numbers)).contents
            function(_arrays(frame.arguments), _arrays(frame.results), numbers.data[: numbers.size])
        except Exception as error:  # it cannot pass through XLA
            return fail(frame, f"{type(error).__name__}: {error}")
        return None

    def fail(frame, reason):
        message = f"{name}: {reason}".encode()
        error = _Error(ctypes.sizeof(_Error), None, message, _INTERNAL)
        return frame.api.contents.create_error(error)

    pointer = _HANDLER(handler)
    _handlers.append(pointer)
    # With a backend started, XLA asks for the version at registration. Else it would ask when a backend
    # starts, and the start would fail if XLA refused the answer.
    jax.devices("cpu")
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(pointer), platform="cpu")


_handlers = []  # XLA has their addresses for as long as the process lives


def _arrays(arguments):
    return [
        Array(buffer.contents.data, tuple(buffer.contents.shape[: buffer.contents.rank]))
        for buffer in arguments.values[: arguments.size]
    ]


def _struct(**fields):
    return type("_Struct", (ctypes.Structure,), {"_fields_": list(fields.items())})


_INT, _LONG, _SIZE, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_size_t, ctypes.c_void_p
_TO = ctypes.POINTER
_INTERNAL = 13  # the code of an internal error
_METADATA = 1  # the extension with which XLA asks for the version instead of calling

# XLA's structs, in the order of c_api.h.
_SIZED = {"size_of_struct": _SIZE}
_EXTENDED = _SIZED | {"extension": _POINTER}
_Buffer = _struct(**_EXTENDED, dtype=_INT, data=_POINTER, rank=_LONG, shape=_TO(_LONG))
_Buffers = _struct(**_EXTENDED, size=_LONG, kinds=_POINTER, values=_TO(_TO(_Buffer)))
_Numbers = _struct(dtype=_INT, size=_SIZE, data=_TO(_LONG))
_Attributes = _struct(**_EXTENDED, size=_LONG, kinds=_POINTER, names=_POINTER, values=_TO(_POINTER))
_Version = _struct(**_EXTENDED, major=_INT, minor=_INT)
_Metadata = _struct(**_SIZED, version=_Version)
_MetadataExtension = _struct(**_SIZED, kind=_INT, next=_POINTER, metadata=_TO(_Metadata))
_Error = _struct(**_EXTENDED, message=ctypes.c_char_p, code=_INT)
_CREATE_ERROR = ctypes.CFUNCTYPE(_POINTER, _TO(_Error))
_Api = _struct(**_EXTENDED, version=_Version, internal=_POINTER, create_error=_CREATE_ERROR)
_CALL = {"api": _TO(_Api), "context": _POINTER, "stage": _INT}
_ARRAYS = {"arguments": _Buffers, "results": _Buffers, "attributes": _Attributes}
_Frame = _struct(**_SIZED, extension=_TO(_MetadataExtension), **_CALL, **_ARRAYS)
_FRAME_SIZE = ctypes.sizeof(_Frame)
_HANDLER = ctypes.CFUNCTYPE(_POINTER, _TO(_Frame))

"""JAX's backend: its devices, its compilation cache, its compiler's options."""

import contextlib
import ctypes
import os
from typing import Any

import jax

from jaxcifar.devices import platform
from jaxcifar.errors import UserError, first_line
from jaxcifar.host.files import existing, user_cache
from jaxcifar.host.progress import warn

_DISALLOW = ("disallow", "disallow_explicit")
_UNSUPPORTED = (
    ("jax_disable_jit", (True,), "programs are compiled before they run"),
    ("jax_numpy_dtype_promotion", ("strict",), "the steps promote types"),
    ("jax_numpy_rank_promotion", ("raise",), "the steps add arrays of different ranks"),
    ("jax_transfer_guard", _DISALLOW, "counts are fetched from the devices"),
    ("jax_transfer_guard_host_to_device", _DISALLOW, "each row's number is sent to the devices"),
    ("jax_transfer_guard_device_to_host", _DISALLOW, "counts are fetched from the devices"),
)
"""Switches of JAX, the values under which this program cannot run, and why."""


def start() -> tuple[jax.Device, ...]:  # pyright: ignore[reportInvalidTypeForm]
    """Turn the compilation cache on and return the devices of this run: all there are.

    Programs are kept in the user's cache directory; JAX_COMPILATION_CACHE_DIR names another.

    Raises:
      UserError: the platform that the environment names is missing, or a switch of JAX has a value with which
        this program cannot run.
    """
    for name, values, reason in _UNSUPPORTED:
        if (value := getattr(jax.config, name)) in values:
            raise UserError(f"{name.upper()}={value} is not supported, for {reason}: unset it")
    own = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not own and (cache := user_cache("xla")):
        if os.access(existing(cache), os.W_OK | os.X_OK):
            jax.config.update("jax_compilation_cache_dir", str(cache))
        else:
            warn(
                f"compiled programs are not kept, because {cache} cannot be written to: XDG_CACHE_HOME names "
                "another place"
            )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    try:
        return tuple(jax.devices())
    except (RuntimeError, AssertionError) as error:  # JAX asserts that there is a `cuda` device
        names = (name for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name))
        asked = next(names, "JAX_PLATFORMS")
        reason = first_line(error) if str(error) else "there is none"
        raise UserError(
            f"{asked}={os.environ.get(asked, '')} gives no device ({reason}): "
            "unset it to use what there is, or install JAX for that platform (./run.sh does so where "
            "it finds an NVIDIA GPU or a TPU)"
        ) from error


def give_back_freed_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, hundreds of MB after XLA's compiler has run."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def compiler_options(*, deterministic: bool) -> dict[str, Any]:
    """Return the XLA options with which programs for this platform are compiled.

    An option that the user has set in XLA_FLAGS is left alone.
    """
    options = {}
    if platform.current() == "cpu":
        # By default XLA hands convolutions to a library whose kernel gradient is 3 to 10 times slower than
        # XLA's own; with any value without INDIVIDUAL_CONVOLUTION, XLA keeps them. DOT would also hand over
        # the operations around a product; with it jaxlib 0.10.2 and 0.11.2 read past the end of a vector that
        # is broadcast into a product. The library's release in JAX 0.10 is slower at products too: without
        # it a transformer trains 1.13 times as fast in float32.
        products = jax.__version_info__ >= (0, 11)
        options["xla_cpu_experimental_ynn_fusion_type"] = (
            "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT" if products else ""
        )
    if platform.current() == "gpu":
        # Where a result is rounded to bfloat16 and then used in float32, XLA would leave the rounding out,
        # and so write and read twice the bytes.
        options["xla_allow_excess_precision"] = False
        if deterministic:
            options["xla_gpu_deterministic_ops"] = True
    own = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in own}

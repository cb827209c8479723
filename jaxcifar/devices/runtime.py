"""What has to be settled before JAX touches a device."""

import ctypes
import hashlib
import os
import socket
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxcifar.devices import platform
from jaxcifar.errors import UserError
from jaxcifar.host.files import user_cache

CONNECT_SECONDS = 60
"""How long the processes of a run wait for each other in the beginning."""


def start() -> tuple[jax.Device, ...]:
    """Turn the compilation cache on and return the devices of this run: all there are.

    Programs are kept in the user's cache directory; JAX_COMPILATION_CACHE_DIR names another.

    Raises:
      UserError: the platform that JAX_PLATFORMS names is not there.
    """
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    try:
        return tuple(jax.devices())
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX_PLATFORMS={asked} gives no device ({str(error).splitlines()[0]}): "
            "unset it to use what there is, or install JAX for that platform (./run.sh does so where "
            "it finds an NVIDIA GPU or a TPU)"
        ) from error


def connect(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    training: bool,
) -> None:
    """Join the other processes of this run, before anything else is asked of JAX.

    Args:
      coordinator_address: host and port of process 0; None to have JAX find all three out, as it can
        on Slurm, Kubernetes, Open MPI and Cloud TPU.
      num_processes: of the run.
      process_id: of this one, from 0.
      training: whether to take SIGTERM for the run as a whole, see `stopping.Stopping`.

    Raises:
      UserError: they cannot be found, or do not all come within a minute.
    """
    if coordinator_address and process_id:
        _await_answer(coordinator_address)
    jax.config.update("jax_enable_preemption_service", training)
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=30,
            shutdown_timeout_seconds=60,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes of this run do not come together ({str(error).splitlines()[0]}): start "
            "each with --distributed --coordinator_address=HOST:PORT --num_processes=N "
            "--process_id=0 to N-1, all within a minute"
        ) from error


def _await_answer(address: str) -> None:
    """Wait for process 0 to listen: JAX itself would end this process with a stack trace."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"--coordinator_address={address} does not answer ({error.strerror or error}): "
                    "start process 0 there, within a minute of the others"
                ) from error
        time.sleep(0.2)


def all_agree(value: str) -> bool:
    """Return whether `value` is the same in all processes of the run; every one must ask."""
    if jax.process_count() == 1:
        return True
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    return bool((multihost_utils.process_allgather(digest) == digest).all())


def give_back_freed_memory() -> None:
    """Give the system back what was freed: glibc keeps it, hundreds of MB after XLA's compiler ran."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        pass


def compiler_options(*, deterministic: bool) -> dict[str, Any]:
    """Return the XLA options with which programs for this platform are compiled.

    An option that the user has set in XLA_FLAGS is left alone.
    """
    options = {}
    if platform.current() == "cpu":
        # By default XLA hands convolutions to a library whose kernel gradient is 3 to 10 times
        # slower than XLA's own; any value without INDIVIDUAL_CONVOLUTION keeps them. With DOT, which
        # hands over what stands around a product too, jaxlib 0.10.2 and 0.11.2 read past the end of a
        # vector that is broadcast into one.
        options["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    if platform.current() == "gpu" and deterministic:
        options["xla_gpu_deterministic_ops"] = True
    own = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in own}

"""The processes of one run: how they find each other, and whether they agree."""

import hashlib
import socket
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxcifar.errors import UserError, first_line

CONNECT_SECONDS = 60
"""How long the processes of a run wait for each other in the beginning."""


def connect(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    training: bool,
) -> None:
    """Join the other processes of this run, before any other use of JAX.

    Args:
      coordinator_address: host and port of process 0; None to let JAX find it, as it can on Slurm,
        Kubernetes, Open MPI and Cloud TPU.
      num_processes: of the run; None to let JAX find it.
      process_id: of this one, from 0; likewise.
      training: whether to take SIGTERM for the run as a whole, see `signals.Stopping`.

    Raises:
      UserError: the processes cannot be found, or do not all connect within a minute.
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
            f"the processes of this run do not come together ({first_line(error)}): start "
            "each with --distributed --coordinator_address=HOST:PORT --num_processes=N "
            "--process_id=0 to N-1, all within a minute. On a Cloud TPU, where JAX finds the others: with "
            "--coordinator_address=ADDRESS:8476, worker 0's internal one, for the firewall may close JAX's "
            "default port (8482 since JAX 0.8.1)"
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
    """Return whether `value` is the same in all processes of the run; all must call this."""
    if jax.process_count() == 1:
        return True
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    return bool((multihost_utils.process_allgather(digest) == digest).all())


def smallest(value: int) -> int:
    """Return the smallest `value` of all processes of the run; all must call this."""
    if jax.process_count() == 1:
        return value
    # In kilobytes, for JAX gathers integers of 32 bits.
    return int(multihost_utils.process_allgather(np.int32(value // 1024)).min()) * 1024

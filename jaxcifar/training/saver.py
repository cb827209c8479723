"""Saves the states of a run; where steps are sent ahead, from a copy and in the background."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcifar.devices import backend
from jaxcifar.devices.layout import Layout
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.step.state import TrainState


class NotFiniteError(Exception):
    """A state cannot be saved, because it holds an infinity or a NaN."""

    def __init__(self, step: int):
        """Take the step of the state."""
        super().__init__(step)
        self.step = step


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Hold a state that is to be saved."""

    step: int
    fetched: Callable[[], tuple[TrainState, Any]]
    """Returns the state, which is never modified, and [] bool: whether it is finite."""


class Saver:
    """Save states; at most one copy is on the devices at a time, and two more on the host.

    On a CPU no steps are sent ahead: a state is saved without a copy, before the next step is sent.
    """

    def __init__(
        self, checkpoints: Checkpoints, layout: Layout, say: Callable[[str], None], step: int
    ):
        """Take the checkpoints, the devices, the function that prints, and the saved step, or 0."""
        self._checkpoints, self._say = checkpoints, say
        self._taken = self._saved = step
        self._copy = None
        if layout.rows_per_dispatch > 1:
            self._copy = jax.jit(_copy, out_shardings=layout.everywhere)
        self._fetcher = self._writer = None
        # Across processes Orbax synchronises with a collective: all processes must call it at the same place.
        if self._copy and jax.process_count() == 1:
            self._fetcher, self._writer = (
                ThreadPoolExecutor(1, name) for name in ("fetch", "write")
            )
        self._fetching: Future | None = None
        self._writing: list[Future] = []
        self._failed = False

    def prepare(self, state: TrainState) -> None:
        """Import Orbax and compile the program that copies a state, so that the first save need not.

        The state must not be donated meanwhile.
        """
        self._checkpoints.prepare()
        if self._copy:
            jax.block_until_ready(self._copied(state))

    @property
    def saved(self) -> int:
        """The newest step whose checkpoint is known to be whole, 0 if there is none."""
        return max(self._saved, self._checkpoints.saved)

    def take(self, step: int, state: TrainState) -> Snapshot | None:
        """Return a snapshot of the state after `step`, None if one was taken already.

        On an accelerator the state may be donated afterwards. This waits while an earlier copy is on the
        devices, or while two copies are still to be written.
        """
        if step == self._taken:
            return None
        self._taken = step
        if self._copy is None:
            return Snapshot(step, lambda: (state, is_finite(jax.device_get(state))))
        for earlier in (self._fetching, *self._writing[:-1]):
            if earlier is not None and not earlier.done():
                self._say(f"the state after step {step} waits until an earlier one is saved")
                earlier.exception()
        copied = self._copied(state)
        if copied is None:
            state = jax.device_get(state)
            copied = state, is_finite(state)
        if self._fetcher is None:
            return Snapshot(step, lambda: copied)
        self._fetching = self._fetcher.submit(jax.device_get, copied)
        return Snapshot(step, self._fetching.result)

    def _copied(self, state: TrainState) -> tuple[TrainState, jax.Array] | None:
        """Return a copy, and whether it is finite; None where there is no room for it."""
        assert self._copy is not None
        try:
            return self._copy(state)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return None

    def save(self, snapshot: Snapshot | None, description: dict) -> None:
        """Save a snapshot, in the background where that is possible.

        Raises:
          UserError: this checkpoint, or one before, cannot be written.
          NotFiniteError: this state, or one before, is not finite.
        """
        self.check()
        if snapshot is None:
            return
        if self._writer is None:
            self._write(snapshot, description)
            return
        self._writing.append(
            self._writer.submit(self._write_after_all_others, snapshot, description)
        )

    def _write(self, snapshot: Snapshot, description: dict) -> None:
        state, finite = snapshot.fetched()
        if not finite:
            raise NotFiniteError(snapshot.step)
        self._checkpoints.save(snapshot.step, state, description)
        backend.give_back_freed_memory()

    def _write_after_all_others(self, snapshot: Snapshot, description: dict) -> None:
        if self._failed:
            return
        try:
            self._write(snapshot, description)
            self._checkpoints.wait()
        except Exception:
            self._failed = True
            raise

    def check(self) -> None:
        """Raise what `save` raises, if a save in the background has failed."""
        while self._writing and self._writing[0].done():
            self._writing.pop(0).result()

    def wait(self) -> None:
        """Wait until all is saved; raises what `save` raises."""
        while self._writing:
            self._writing.pop(0).result()
        self._checkpoints.wait()

    def close(self) -> None:
        """Wait for saves in the background, and raise nothing."""
        for worker in (self._fetcher, self._writer):
            if worker:
                worker.shutdown()


def _copy(state: TrainState) -> tuple[TrainState, jax.Array]:
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]
    return jax.tree.map(jnp.copy, state), jnp.stack(finite).all()


def is_finite(tree: Any) -> bool:
    """Return whether all leaves of `tree`, NumPy arrays, are finite."""
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))

"""The one place that maps a step over the devices, and over the rows of an epoch's order."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from jaxcifar.devices import backend
from jaxcifar.devices.collectives import AXIS
from jaxcifar.devices.layout import Layout

T = TypeVar("T")


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """Yield each item after the next has been made: results are fetched while a dispatch runs."""
    waiting = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


class OverRows:
    """A step mapped over the devices and over rows of an order, in one dispatch."""

    def __init__(self, step: Callable, layout: Layout, *, updates_state: bool):
        """Map `step`.

        Args:
          step: `(state, data, index, places, key) -> (state, sums)`. `index: [share] int32` are
            this device's part of a row of the order, `places: [share] int32` their columns in it;
            `sums` is a pytree that is added up over rows and devices.
          layout: the devices, and the compiler options.
          updates_state: whether the state that `step` returns is wanted; if so, the one passed in
            is donated, and must not be used again.
        """
        self._layout = layout
        self._program: Any = _mapped(step, layout, updates_state=updates_state)
        # Virtual CPU devices share few threads: with many dispatches in flight, the collectives of one wait
        # for threads that those of another hold, for ever.
        self._waits = layout.devices[0].platform == "cpu" and len(layout.devices) > 1

    def compile(self, state: Any, data: Any, order: Any, key: Any = None) -> jax.stages.Compiled:
        """Compile for arguments like these, before there are any; shapes and dtypes are enough.

        Returns:
          The program, which knows its cost and its memory.
        """

        def placed(leaf):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._layout.everywhere)

        row = np.int32(0)
        arguments = jax.tree.map(placed, (state, data, order))
        self._program = self._program.lower(
            *arguments, row, row, jax.tree.map(placed, key)
        ).compile()
        backend.give_back_freed_memory()
        return self._program

    def __call__(
        self, state: Any, data: Any, order: jax.Array, start: int, stop: int, key: Any = None
    ) -> Any:
        """Run rows `start` to `stop` of `order: [rows, batch] int32`.

        Other values of `start` and `stop` need no new compilation.

        Returns:
          `(state, sums)` if the state is updated, else `sums`.

        Raises:
          ValueError: there are no rows, or more than `layout.rows_per_dispatch`.
        """
        if not 0 < stop - start <= self._layout.rows_per_dispatch:
            raise ValueError(
                f"{stop - start} rows in a dispatch of 1 to {self._layout.rows_per_dispatch}"
            )
        result = self._program(state, data, order, np.int32(start), np.int32(stop), key)
        return jax.block_until_ready(result) if self._waits else result


def _mapped(step: Callable, layout: Layout, *, updates_state: bool) -> Callable:
    looped = layout.rows_per_dispatch > 1
    devices = len(layout.devices)

    def on_one_device(device, state, data, order, start, stop, key):  # noqa: PLR0913
        share = order.shape[1] // devices
        places = device * share + jnp.arange(share, dtype=jnp.int32)

        def one_row(row, state):
            return step(state, data, order[row, places], places, key)

        def next_row(row, carry):
            state, sums = carry
            state, more = one_row(row, state)
            return state, jax.tree.map(jnp.add, sums, more)

        if looped:
            _, shapes = jax.eval_shape(one_row, start, state)
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            state, sums = lax.fori_loop(start, stop, next_row, (state, zeros))
        else:
            state, sums = one_row(start, state)
        sums = lax.psum(sums, AXIS)
        return (state, sums) if updates_state else sums

    if jax.process_count() == 1:
        mapped = jax.pmap(
            on_one_device,
            AXIS,
            in_axes=(0, None, None, None, None, None, None),
            out_axes=None,
            devices=layout.devices,
        )
    else:  # Inside jit pmap sees the devices of this process alone.
        shared = PartitionSpec()
        mapped = jax.shard_map(
            lambda device, *args: on_one_device(device[0], *args),
            mesh=layout.everywhere.mesh,
            in_specs=(PartitionSpec(AXIS), *[shared] * 6),
            out_specs=shared,
            check_vma=False,
        )
    return jax.jit(
        lambda *args: mapped(jnp.arange(devices, dtype=jnp.int32), *args),
        donate_argnums=(0,) if updates_state else (),
        compiler_options=dict(layout.compiler_options),
    )

"""The one place that maps a step over the devices, and over the rows of an epoch's order."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from jaxcifar.devices import backend
from jaxcifar.devices.collectives import AXIS
from jaxcifar.devices.kept_programs import KeptPrograms
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
    """A step mapped over the devices and over rows of an order, in one dispatch.

    A program is made for each number of rows in a dispatch. XLA's GPU runtime launches a loop ahead only if
    the number of iterations is known at compile time. Else it fetches the loop's condition, and so waits for
    the device, in every iteration.
    """

    def __init__(
        self,
        step: Callable,
        layout: Layout,
        *,
        updates_state: bool,
        streamed: bool = False,
        sums: Any = None,
        kept: KeptPrograms | None = None,
    ):
        """Map `step`.

        Args:
          step: `(state, data, index, places, key) -> (state, sums)`. `index: [share] int32` are
            this device's part of a row of the order, `places: [share] int32` their columns in it;
            `sums` is a pytree that is added up over the devices.
          layout: the devices, and the compiler options.
          updates_state: whether to return the state that `step` returns; if so, the one passed in
            is donated, and must not be used again.
          streamed: whether the data hold only the rows of the dispatch, [row, device, ...] each;
            `step` is then given this device's part of its row. Else `step` is given all data.
          sums: a tree with the structure of the sums; needed where programs are kept.
          kept: stores the programs that `lower` traces; None to store none.
        """
        self._layout, self._streamed = layout, streamed
        self._updates_state, self._sums, self._kept = updates_state, sums, kept
        self._program: Any = _mapped(step, layout, updates_state=updates_state, streamed=streamed)
        self._compiled: dict[tuple, Any] = {}
        # Virtual CPU devices share few threads: with many dispatches in flight, the collectives of one would
        # wait for ever for threads that another's collectives hold.
        self._waits = layout.devices[0].platform == "cpu" and len(layout.devices) > 1

    def lower(
        self, rows: int, state: Any, data: Any, order: Any, key: Any = None
    ) -> Callable[[], jax.stages.Compiled]:
        """Trace the program of `rows` rows for arguments like these; shapes and dtypes are enough.

        Returns:
          A function that compiles the program, for the calls that follow, and returns it. It may be called in
          another thread.
        """

        def placed(tree, sharding=self._layout.everywhere):
            like = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            return jax.tree.map(like, tree)

        data = placed(data, self._layout.split_rows) if self._streamed else placed(data)
        arguments = (placed(state), data, *placed((order, np.int32(0), key)))
        if self._kept is None:
            lowered = self._program.lower(rows, *arguments)
        else:
            lowered = self._lower_kept(self._kept, rows, arguments)

        kind = _kind(rows, data, order)

        def compile_():
            self._compiled[kind] = lowered.compile()
            backend.give_back_freed_memory()
            return self._compiled[kind]

        return compile_

    def _lower_kept(self, kept: KeptPrograms, rows: int, arguments: tuple) -> jax.stages.Lowered:
        state = arguments[0]
        flat = kept.flat(
            f"{rows} rows",
            functools.partial(self._program.__wrapped__, rows),
            arguments,
            donated=len(jax.tree.leaves(state)) if self._updates_state else 0,
        )
        tree = jax.tree.structure((state, self._sums) if self._updates_state else self._sums)
        again = lambda *arguments: jax.tree.unflatten(tree, flat(*jax.tree.leaves(arguments)))
        donated = (0,) if self._updates_state else ()
        options = dict(self._layout.compiler_options)
        return jax.jit(again, donate_argnums=donated, compiler_options=options).lower(*arguments)

    def __call__(
        self, state: Any, data: Any, order: jax.Array, start: int, stop: int, key: Any = None
    ) -> Any:
        """Run rows `start` to `stop` of `order: [rows, batch] int32`.

        Returns:
          `(state, sums)` if the state is updated, else `sums`; every leaf of `sums` has a leading axis, the
          rows of this dispatch.

        Raises:
          ValueError: there are no rows, or more than `layout.rows_per_dispatch`.
        """
        rows = stop - start
        if not 0 < rows <= self._layout.rows_per_dispatch:
            raise ValueError(f"{rows} rows in a dispatch of 1 to {self._layout.rows_per_dispatch}")
        kind = _kind(rows, data, order)
        if self._kept is not None and kind not in self._compiled:
            self.lower(rows, state, data, order, key)()
        program = self._compiled.get(kind) or functools.partial(self._program, rows)
        result = program(state, data, order, np.int32(start), key)
        return jax.block_until_ready(result) if self._waits else result


def _kind(rows: int, data: Any, order: Any) -> tuple:
    """Return what distinguishes a step's programs; state and key always have the same shapes."""
    return (rows, *(leaf.shape for leaf in jax.tree.leaves((data, order))))


def _mapped(step: Callable, layout: Layout, *, updates_state: bool, streamed: bool) -> Callable:
    """Return the function `(rows, state, data, order, start, key)`, a program for each `rows`."""
    devices = len(layout.devices)

    def on_one_device(rows, device, state, data, order, start, key):  # noqa: PLR0913
        share = order.shape[1] // devices
        places = device * share + jnp.arange(share, dtype=jnp.int32)

        def one_row(state, row):
            own = jax.tree.map(lambda leaf: leaf[row], data) if streamed else data
            return step(state, own, order[row, places], places, key)

        if rows == 1:
            state, sums = one_row(state, start)
            sums = jax.tree.map(lambda leaf: leaf[None], sums)
        else:
            state, sums = lax.scan(one_row, state, start + jnp.arange(rows, dtype=jnp.int32))
        sums = lax.psum(sums, AXIS)
        return (state, sums) if updates_state else sums

    def over_devices(rows: int, *args):
        on_one = functools.partial(on_one_device, rows)
        if jax.process_count() == 1:
            mapped = jax.pmap(
                on_one,
                AXIS,
                in_axes=(0, None, 1 if streamed else None, None, None, None),
                out_axes=None,
                devices=layout.devices,
            )
        else:  # Inside jit pmap sees the devices of this process alone.
            shared, own = PartitionSpec(), PartitionSpec(None, AXIS)

            def on_own(device, state, data, *args):
                if streamed:
                    data = jax.tree.map(lambda leaf: leaf[:, 0], data)
                return on_one(device[0], state, data, *args)

            mapped = jax.shard_map(
                on_own,
                mesh=layout.everywhere.mesh,
                in_specs=(PartitionSpec(AXIS), shared, own if streamed else shared, *[shared] * 3),
                out_specs=shared,
                check_vma=False,
            )
        return mapped(jnp.arange(devices, dtype=jnp.int32), *args)

    return jax.jit(
        over_devices,
        static_argnums=0,
        donate_argnums=(1,) if updates_state else (),
        compiler_options=dict(layout.compiler_options),
    )

"""The devices on which a program runs, and the placement of arrays on them."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcifar.devices import backend, platform, processes
from jaxcifar.devices.collectives import AXIS


@dataclasses.dataclass(frozen=True)
class Layout:
    """Say on which devices a program runs, and how."""

    devices: tuple[jax.Device, ...]  # pyright: ignore[reportInvalidTypeForm]
    compiler_options: Mapping[str, Any]
    """XLA options, understood by the devices' compiler."""

    @property
    def rows_per_dispatch(self) -> int:
        """The most rows that one dispatch may hold.

        One on a CPU: inside a loop XLA's CPU compiler makes the gradient of a convolution many
        times slower (see jax issue 12868), and a signal waits for a dispatch to end. Elsewhere as many
        as the caller likes.
        """
        return 1 if platform.current() == "cpu" else 2**31 - 1

    def room_for_data(self) -> int:
        """Return the bytes of the largest split that the devices should hold: a quarter of their memory."""
        own = jax.local_devices()
        memory = (own[0].memory_stats() or {}).get("bytes_limit")
        if not memory:  # a CPU's devices share the machine's memory, and hold a copy each
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(own)
        return processes.smallest(memory // 4)

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes files; the others compute, and save their part."""
        return jax.process_index() == 0

    @property
    def everywhere(self) -> NamedSharding:
        """The sharding of an array that every device holds whole."""
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec())

    @property
    def split_rows(self) -> NamedSharding:
        """The sharding of an array [row, device, ...] of which each device holds its own part."""
        return NamedSharding(self.everywhere.mesh, PartitionSpec(None, AXIS))

    def put(self, tree: Any) -> Any:
        """Copy every leaf to every device, once: an array left on the host is sent at each dispatch."""

        def placed(leaf):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(placed(jax.random.key_data(leaf)))
            leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, self.everywhere, leaf.__getitem__)

        return jax.tree.map(placed, tree)

    def traced(self, function: Callable, *args: Any) -> jax.stages.Traced:
        """Trace `function` for every device, with options for quick compilation, since it runs once."""
        jitted = jax.jit(
            function, out_shardings=self.everywhere, compiler_options=self._hasty_options()
        )
        return jitted.trace(*args)

    def run_once(self, function: Callable, *args: Any) -> Any:
        """Return `function(*args)`, on every device."""
        program = self.traced(function, *args).lower().compile()
        backend.give_back_freed_memory()
        return program(*args)

    def run_aside(self, function: Callable, *args: Any) -> np.ndarray:
        """Return the array `function(*args)`, computed on one device of this process.

        Other devices may be busy meanwhile, and any thread may call this.
        """
        result = jax.jit(function, compiler_options=self._hasty_options())(*args)
        return np.asarray(result)

    def _hasty_options(self) -> dict[str, Any]:
        """Return the options for a program that runs once.

        On a CPU, compiling optimised code for a handful of random draws takes seconds.
        """
        if platform.current() == "cpu":
            return {"xla_backend_optimization_level": 0}
        return dict(self.compiler_options)

"""Keeps traced programs from one start to the next, before they are compiled.

JAX traces a function again in every process, which takes a second or more for a training step. The result,
StableHLO, is kept in the user's cache directory, beside the programs that XLA has compiled.
"""

import contextlib
import dataclasses
import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from jaxcifar.host.files import user_cache

_MOST = 200
"""The number of programs kept, the newest; one takes about 0.1 MB."""


@dataclasses.dataclass(frozen=True)
class KeptPrograms:
    """Identify the programs of a run, and keep them."""

    fingerprint: str
    """A text that differs where the same function may be traced to a different program."""
    foreign_calls: tuple[str, ...] = ()
    """Names of the functions outside XLA that programs may call."""

    def of(self, part: str) -> "KeptPrograms":
        """Return the `KeptPrograms` for a part of the run."""
        return dataclasses.replace(self, fingerprint=f"{self.fingerprint}\n{part}")

    def flat(
        self, name: str, function: Callable, arguments: tuple, donated: int = 0
    ) -> Callable[..., Any]:
        """Return `function` from leaves to a list of leaves, traced now or at an earlier start.

        Args:
          name: of the function, among those of this run.
          function: depends on arrays, and on nothing else that may change from one start to the next.
          arguments: like those of every call; shapes and types are enough.
          donated: how many leaves, from the first on, may be overwritten.
        """
        leaves, tree = jax.tree.flatten(arguments)
        specs = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        call = lambda *leaves: jax.tree.leaves(function(*jax.tree.unflatten(tree, leaves)))

        def trace():
            allowed = map(jax.export.DisabledSafetyCheck.custom_call, self.foreign_calls)
            jitted = jax.jit(call, donate_argnums=range(donated))
            return jax.export.export(jitted, disabled_checks=tuple(allowed))(*specs)

        try:
            exported = self._found_or_made(
                (name, specs, tree, donated),
                trace,
                lambda exported: bytes(exported.serialize()),
                lambda data: jax.export.deserialize(bytearray(data)),
            )
        except Exception:
            # JAX does not export callbacks, such as jax.debug.print. Errors of the function are raised again.
            return call
        return exported.call

    def array(self, name: str, compute: Callable[[], Any]) -> np.ndarray:
        """Return the array that `compute()` returns, computed now or at an earlier start."""

        def as_bytes(array):
            file = io.BytesIO()
            np.save(file, array, allow_pickle=False)
            return file.getvalue()

        return self._found_or_made(
            (name,),
            lambda: np.asarray(compute()),
            as_bytes,
            lambda data: np.load(io.BytesIO(data), allow_pickle=False),
        )

    def _found_or_made(
        self,
        name: tuple,
        make: Callable[[], Any],
        as_bytes: Callable[[Any], bytes],
        from_bytes: Callable[[bytes], Any],
    ) -> Any:
        """Return the object in the cache; if it is missing or damaged, make it and, if possible, keep it."""
        text = f"{self.fingerprint}\n{name}"
        folder = user_cache("programs")
        path = folder and folder / hashlib.sha256(text.encode()).hexdigest()
        if path is None:
            return make()
        with contextlib.suppress(Exception):
            data = path.read_bytes()
            if hashlib.sha256(data[32:]).digest() == data[:32]:
                return from_bytes(data[32:])
        made = make()
        with contextlib.suppress(OSError, ValueError):  # ValueError: it cannot be serialised
            _write(path, as_bytes(made))
        return made


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically, and keep only the newest `_MOST`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(hashlib.sha256(data).digest() + data)
    Path(file.name).replace(path)
    for old in sorted(path.parent.iterdir(), key=lambda each: -each.stat().st_mtime)[_MOST:]:
        old.unlink(missing_ok=True)

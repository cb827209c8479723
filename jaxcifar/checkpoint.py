"""Checkpoints: Orbax saves, keeps the newest, restores."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxcifar.errors import UserError


class Checkpoints:
    """Keep the newest checkpoints of a run in a directory, each a state and a JSON description."""

    def __init__(self, directory: Path, *, keep: int = 1):
        """Open `directory`, which is made by the first save; the newest `keep` are kept."""
        self._directory = directory.absolute()
        self._keep = keep
        self._opened = None

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._opened is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, enable_async_checkpointing=True
            )
            self._opened = ocp.CheckpointManager(
                self._directory, item_names=("state", "description"), options=options
            )
        return self._opened

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints there are, the newest last; makes no directory."""
        return sorted(self._manager.all_steps()) if self._directory.exists() else []

    def save(self, step: int, state: Any, description: dict) -> None:
        """Start to save; the state may be donated as soon as this returns."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                description=ocp.args.JsonSave(description | {"arrays": _shapes(state)}),
            ),
        )

    def description(self, step: int) -> dict:
        """Return what was saved beside the state, and its `arrays`: shape and dtype by name."""
        args = ocp.args.Composite(description=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["description"]

    def restore(self, step: int, like: Any, sharding: jax.sharding.Sharding) -> Any:
        """Return the state saved at `step`.

        Args:
          step: of a checkpoint that exists.
          like: a pytree of the same structure, whose leaves have shapes and dtypes.
          sharding: where to put every leaf, whatever devices it was saved from.

        Raises:
          UserError: the checkpoint holds a state of another structure or other shapes.
        """
        saved, wanted = self.description(step)["arrays"], _shapes(like)
        for name in sorted({*saved, *wanted}):
            if saved.get(name) != wanted.get(name):
                raise UserError(
                    f"checkpoint {step} in {self._directory} does not fit the config: {name} is "
                    f"{saved.get(name, 'absent')} there and {wanted.get(name, 'absent')} here; use "
                    "the config that it was saved under, or another --workdir"
                )
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like
        )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        return self._manager.restore(step, args=args)["state"]

    def close(self) -> None:
        """Wait until what was started is saved."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _shapes(state: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }

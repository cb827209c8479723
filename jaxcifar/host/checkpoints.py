"""Checkpoints: Orbax saves and restores them and keeps the newest; our checksums tell if one is whole."""

import re
import shutil
import threading
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxcifar.errors import UserError, first_line
from jaxcifar.host import checkpoint_sums, compat


class Checkpoints:
    """Keep the newest checkpoints of a run in a directory, each a state and a JSON description."""

    def __init__(self, directory: Path, *, keep: int | None = None):
        """Open `directory`, which is made by the first save.

        Args:
          directory: of the checkpoints alone.
          keep: how many of the newest stay; None to read only. There must be only one writer.

        Raises:
          UserError: TensorStore would misread the path.
        """
        self._directory = directory.absolute()
        _check_path(self._directory)
        self._keep = keep
        self.saved = 0
        """The newest step of which a whole checkpoint was written here."""
        self._opened = None
        self._opening = threading.Lock()
        self._saving = 0
        self._shapes = {}

    @property
    def _manager(self):
        with self._opening:
            return self._open()

    def _open(self):
        if self._opened is None:
            ocp = compat.orbax()
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                cleanup_tmp_directories=self._keep is not None,
                async_options=ocp.AsyncOptions(
                    post_finalization_callback=self._seal, timeout_secs=300
                ),
            )
            self._opened = ocp.CheckpointManager(
                self._directory, item_names=("state", "description"), options=options
            )
            compat.ask_nobody_where_to_stop(self._opened)
        return self._opened

    def prepare(self) -> None:
        """Import Orbax and make the directory, which the first save would otherwise do."""
        _ = self._manager

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints there are, whole or not, the newest last."""
        if not self._directory.is_dir():
            return []
        folders = (path.name for path in self._directory.iterdir() if path.is_dir())
        return sorted(int(name) for name in folders if re.fullmatch("0|[1-9][0-9]*", name))

    def fault(self, step: int) -> str | None:
        """Return what is wrong with the files of a checkpoint, None if nothing is."""
        if fault := checkpoint_sums.fault(self._directory / str(step)):
            return fault
        saved = self.description(step).get("step")
        return None if saved == step else f"it is a copy of checkpoint {saved}"

    def tidy(self, damaged: list[int], kept: int) -> None:
        """Leave only the checkpoints that a run meant to keep in the directory; to be called before any save.

        Args:
          damaged: steps of the checkpoints to move to `damaged` beside the directory.
          kept: how many the run kept; a run that was cut off at a save has left one more, which is removed.

        Raises:
          UserError: a damaged checkpoint cannot be moved.
        """
        if jax.process_index() == 0:
            for step in damaged:
                self._set_aside(step)
            for step in self.steps()[:-kept]:
                shutil.rmtree(self._directory / str(step), ignore_errors=True)
        multihost_utils.sync_global_devices("the checkpoints are tidy")
        if self._opened is not None:
            self._opened.reload()

    def _set_aside(self, step: int) -> None:
        aside = self._directory.with_name("damaged") / str(step)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.parent.mkdir(exist_ok=True)
            # Not renamed, because the directory may be a link to another file system.
            shutil.move(self._directory / str(step), aside)
        except OSError as error:
            raise UserError(
                f"checkpoint {step} in {self._directory} is damaged and cannot be moved to {aside} "
                f"({error}): move it away"
            ) from error

    def save(self, step: int, state: Any, description: dict) -> None:
        """Start to save; the state may be donated as soon as this returns.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written.
        """
        self.wait()
        self._saving, self._shapes = step, _shapes(state)
        ocp = compat.orbax()
        try:
            begun = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    description=ocp.args.JsonSave(
                        description | {"step": step, "arrays": self._shapes}
                    ),
                ),
            )
        except Exception as error:
            raise self._explained(error) from error
        assert begun, f"Orbax holds that checkpoint {step} is not due"

    def description(self, step: int) -> dict:
        """Return what was saved beside the state, its `step`, and its `arrays`: shape and dtype by name."""
        ocp = compat.orbax()
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
        ocp = compat.orbax()
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        return self._manager.restore(step, args=args)["state"]

    def wait(self) -> None:
        """Wait until the started save is done.

        Raises:
          UserError: it failed.
        """
        if self._opened is None:
            return
        try:
            self._opened.wait_until_finished()
        except Exception as error:
            raise self._explained(error) from error
        self.saved = self._saving

    def close(self) -> None:
        """Wait as `wait` does, and close Orbax's manager."""
        try:
            self.wait()
        finally:
            with self._opening:
                if self._opened is not None:
                    self._opened.close()
                    self._opened = None

    def _explained(self, error: Exception) -> Exception:
        """Return a `UserError` if the system did not allow a save, and any other error unchanged."""
        text = first_line(error)
        if not (isinstance(error, OSError) or "os_error_code" in text):
            return error
        # TensorStore's messages name each path and layer first, and the cause last.
        return self._not_saved(getattr(error, "strerror", None) or text.split(": ")[-1])

    def _not_saved(self, reason: str) -> UserError:
        others = ", ".join(str(step) for step in self.steps() if step != self._saving)
        there = f"those of the steps {others} are as they were" if others else "there is no other"
        return UserError(
            f"checkpoint {self._saving} could not be saved in {self._directory} ({reason}); {there}: "
            "make room, or make the directory writable, and start the same command again"
        )

    def _seal(self) -> None:
        """Check the checkpoint that Orbax has just completed, and write its sums, before it gets its name.

        Raises:
          UserError: an array in it is missing or not whole.
        """
        (folder,) = self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        try:
            arrays = checkpoint_sums.whole_arrays(folder / "state")
        except ValueError as error:  # what TensorStore raises
            raise self._not_saved(f"what was written cannot be read: {error}") from error
        if missing := {name.replace("/", ".") for name in self._shapes} - arrays:
            raise self._not_saved(f"{min(missing)} is not whole in what was written")
        checkpoint_sums.write(folder)


def _check_path(path: Path) -> None:
    """Check that TensorStore, which writes and reads the arrays, takes the path as it is."""
    reasons = {
        "a backslash, which TensorStore takes for a slash": "\\" in str(path),
        "a directory gs:, which TensorStore takes for a bucket": "gs:" in path.parts,
        "a name that is not UTF-8": any("\ud800" <= letter <= "\udfff" for letter in str(path)),
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise UserError(
            f"no checkpoint can be saved in {str(path)!r}, for the path holds {reason}: name another "
            "--workdir, or rename the directory"
        )


def _shapes(state: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }

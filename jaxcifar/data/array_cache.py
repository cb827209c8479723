"""Arrays that are slow to make, kept on disk; safe against kills and against other processes."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxcifar.host.progress import warn

Arrays = tuple[np.ndarray, np.ndarray]
"""`images: [n, height, width, channel] uint8` and `labels: [n] int32`."""


def cached(entry: Path | None, make: Callable[[], Arrays]) -> Arrays:
    """Return what `make` returns, from a cache if it is there.

    Args:
      entry: the directory in which it is kept, whose name changes whenever the arrays would; None to
        keep nothing.
      make: called once by all the processes that ask at the same time and can write to the cache.

    Returns:
      The arrays; images from the cache are mapped into memory, where all processes share them.
    """
    if entry is None:
        return make()
    if (arrays := _load(entry)) is not None:
        return arrays
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(entry))
        except OSError as error:
            _warn_not_kept(entry, error)
            return make()
        # Another process may have made it while this one waited.
        if (arrays := _load(entry)) is not None:
            return arrays
        arrays = make()
        try:
            _save(entry, arrays)
        except OSError as error:
            _warn_not_kept(entry, error)
        return _load(entry) or arrays


def identity(files: Sequence[str], *more: object) -> str:
    """Return a word that changes when a name, a size or a time of modification does, or one of `more`."""
    stats = [(Path(file).name, Path(file).stat()) for file in sorted(files)]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr((facts, more)).encode()).hexdigest()[:16]


def _load(entry: Path) -> Arrays | None:
    try:
        images = np.load(entry / "images.npy", mmap_mode="r")
        return images, np.load(entry / "labels.npy")
    except (OSError, ValueError, EOFError):
        return None


def _save(entry: Path, arrays: Arrays) -> None:
    """Write beside the entry, then rename, so that `entry` is whole or absent."""
    unfinished = entry.with_name(entry.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        for name, array in zip(("images", "labels"), arrays, strict=True):
            np.save(unfinished / f"{name}.npy", array)
        shutil.rmtree(entry, ignore_errors=True)
        unfinished.rename(entry)
    except OSError:  # such as a full disk, on which it would take the room of checkpoints
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Hold the lock of an entry; the kernel drops it when the process ends, however it ends.

    Raises:
      OSError: the cache cannot be written to.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_name(entry.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _warn_not_kept(entry: Path, error: OSError) -> None:
    warn(
        f"decoded images cannot be kept in {entry.parent} ({error.strerror or error}), and are decoded "
        "at every start: --config.data.cache_dir names another directory"
    )

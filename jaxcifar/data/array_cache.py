"""Arrays that are slow to make, kept on disk; safe against kills and against other processes."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]
"""`images: [n, height, width, channel] uint8` and `labels: [n] int32`."""


def cached(parents: Sequence[Path], entry: str, make: Callable[[], Arrays]) -> Arrays:
    """Return what `make` returns, from the cache if it is there.

    Args:
      parents: directories to look in, and to keep it in: the first that can be written to.
      entry: a name that changes whenever the arrays would.
      make: called once by all the processes that ask at the same time and can write to the cache.
    """
    folders = [parent / "jaxcifar-decoded" / entry for parent in parents]
    for folder in folders:
        if (arrays := _load(folder)) is not None:
            return arrays
    for folder in folders:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_locked(folder))
            except OSError:
                continue
            # Another process may have made it while this one waited.
            if (arrays := _load(folder)) is None:
                arrays = make()
                with contextlib.suppress(OSError):
                    _save(folder, arrays)
            return arrays
    return make()


def identity(files: Sequence[str]) -> str:
    """Return a word that changes when a name, a size or a time of modification does."""
    stats = [(Path(file).name, Path(file).stat()) for file in sorted(files)]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _load(folder: Path) -> Arrays | None:
    try:
        return np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    except (OSError, ValueError, EOFError):
        return None


def _save(folder: Path, arrays: Arrays) -> None:
    """Write beside the final folder, then rename, so that `folder` is whole or absent."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name, array in zip(("images", "labels"), arrays, strict=True):
        np.save(unfinished / f"{name}.npy", array)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a cache entry; the kernel drops it when the process ends, however it ends.

    Raises:
      OSError: the directory cannot be written to, or says that it should not be (root could).
    """
    above = folder.parent.parent
    if above.exists() and not above.stat().st_mode & 0o222:
        raise PermissionError(above)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

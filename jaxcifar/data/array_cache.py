"""A disk cache of arrays that are slow to make, safe against kills and other processes."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxcifar.host.progress import warn

Arrays = Mapping[str, np.ndarray]
"""By name; the arrays of one name in several mappings are joined along the first axis."""


def cached(
    entry: Path | None, names: Collection[str], make: Callable[[], Iterable[Arrays]]
) -> dict[str, np.ndarray]:
    """Return the arrays of `make`, from the cache if they are there.

    Args:
      entry: the directory in which the arrays are cached, whose name changes whenever they would; None
        to cache nothing.
      names: of the arrays.
      make: yields blocks of the arrays. With a cache, no more than one block is held in memory. Of all
        processes that ask at the same time and can write to the cache, only one calls it.

    Returns:
      The arrays by name; images from the cache are mapped into memory, where all processes share them.
    """
    if entry is None:
        return _joined(make())
    if (arrays := _load(entry, names)) is not None:
        return arrays
    try:
        with _locked(entry):
            # Another process may have made it while this one waited.
            if (arrays := _load(entry, names)) is None:
                _save(entry, make())
                arrays = _load(entry, names)
    except _NotKeptError as error:
        warn(
            f"decoded images cannot be kept in {entry.parent} ({error}), and are decoded at every start: "
            "--config.data.cache_dir names another directory"
        )
        arrays = None
    return _joined(make()) if arrays is None else arrays


class _NotKeptError(Exception):
    """The cache cannot be written to."""


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Distinguish errors of the cache from those of the files that are read meanwhile."""
    try:
        yield
    except OSError as error:
        raise _NotKeptError(error.strerror or error) from error


def _joined(blocks: Iterable[Arrays]) -> dict[str, np.ndarray]:
    columns: dict[str, list[np.ndarray]] = {}
    for block in blocks:
        for name, part in block.items():
            columns.setdefault(name, []).append(part)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def identity(files: Sequence[str], *more: object) -> str:
    """Return a hash of the files' names, sizes and modification times, and of `more`."""
    stats = [(Path(file).name, Path(file).stat()) for file in sorted(files)]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr((facts, more)).encode()).hexdigest()[:16]


def _load(entry: Path, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    try:
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in names}
    except (OSError, ValueError, EOFError):
        return None
    return {name: array if array.ndim == 4 else np.array(array) for name, array in arrays.items()}


def _save(entry: Path, blocks: Iterable[Arrays]) -> None:
    """Write beside the entry, then rename, so that `entry` is whole or absent."""
    unfinished = entry.with_name(entry.name + ".unfinished")
    files: dict[str, _Growing] = {}
    try:
        with _writing():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
        for block in blocks:
            with _writing():
                for name, part in block.items():
                    if name not in files:
                        files[name] = _Growing(unfinished / f"{name}.npy", part)
                    files[name].append(part)
        with _writing():
            for file in files.values():
                file.finish()
            shutil.rmtree(entry, ignore_errors=True)
            unfinished.rename(entry)
    except BaseException:  # such as a full disk: the files would take checkpoints' space
        for file in files.values():
            file.give_up()
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


class _Growing:
    """An array in a file of NumPy's format, to which parts are appended."""

    def __init__(self, path: Path, like: np.ndarray):
        self._like, self._length = like[:0], 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, part: np.ndarray) -> None:
        assert part.dtype == self._like.dtype and part.shape[1:] == self._like.shape[1:]
        self._file.write(np.ascontiguousarray(part).data)
        self._length += len(part)

    def finish(self) -> None:
        # The header is as long as before: NumPy leaves room in it for a longer first axis.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def give_up(self) -> None:
        with contextlib.suppress(OSError):  # from data that could not be written before
            self._file.close()

    def _write_header(self) -> None:
        header = np.lib.format.header_data_from_array_1_0(self._like)
        shape = (self._length, *self._like.shape[1:])
        np.lib.format.write_array_header_1_0(self._file, header | {"shape": shape})


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Hold the lock of an entry; the kernel drops it when the process ends, however it ends."""
    with _writing():
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = entry.with_name(entry.name + ".lock").open("w")
    with lock:
        with _writing():
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

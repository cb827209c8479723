"""Locations of files, atomic writes, reading, and the lock of the only writer."""

import contextlib
import fcntl
import json
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxcifar.errors import UserError, did_you_mean


def user_cache(part: str) -> Path | None:
    """Return a part of this program's cache, which need not exist; None for a user without a home."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "jaxcifar" / part


def existing(path: Path) -> Path:
    """Return `path` if it exists, else the nearest directory above it that does."""
    above = path.absolute()
    return next(each for each in (above, *above.parents) if os.path.exists(each))


def near_runs(workdir: Path) -> str:
    """Return a question that suggests the run beside `workdir` with the nearest name; empty if none is."""
    runs = {str(file.parent) for file in workdir.parent.glob("*/config.json")} - {str(workdir)}
    return did_you_mean(str(workdir), sorted(runs), form="{}")


def expanded(path: str | Path) -> Path:
    """Return the path with the home directory for a leading tilde.

    Raises:
      UserError: that directory is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{path}: the home directory is not known: set HOME, or name the directory in full"
        ) from error


def with_tuples(value: Any) -> Any:
    """Return a value read from JSON with tuples for its lists, at any depth."""
    if isinstance(value, dict):
        return {name: with_tuples(item) for name, item in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def write_text(path: Path, text: str) -> None:
    """Write `text` beside `path`, then rename, so that `path` never holds half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, as `write_text` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays by name to a `.npz` file, as `write_text` does."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    unfinished.replace(path)


def unmap(array: np.ndarray) -> None:
    """Release the pages of a memory-mapped array from this process's memory.

    They stay in the system's page cache, from which they come back when they are read again.
    """
    if isinstance(array, np.memmap) and (mapped := getattr(array, "_mmap", None)):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_records(path: Path) -> list[dict]:
    """Return the whole records of a `metrics.jsonl`, none if there is no such file.

    A last line that was cut off is left out, and so are a damaged line and all after it.
    """
    records = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
    return records


@contextlib.contextmanager
def sole_writer(directory: Path) -> Iterator[None]:
    """Make `directory` if need be, and keep every other `sole_writer` out of it.

    The kernel drops the lock when the process ends, however it ends. A directory to which nothing was
    added is left as it was found.

    Raises:
      UserError: the directory cannot be made or written to, or another process holds the lock.
    """
    made = [path for path in (directory, *directory.parents) if not os.path.exists(path)]
    lock = directory / "lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = set(directory.iterdir())
        file = lock.open("a+")
    except OSError as error:
        raise UserError(
            f"--workdir={directory} cannot be written to ({error.strerror}): name another"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"--workdir={directory}: {file.read() or 'another process'} is training in it: wait "
                "for its end, or use another --workdir"
            ) from error
        except OSError:  # a filesystem without locks
            pass
        if not (lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())):
            raise UserError(
                f"--workdir={directory}: another process has just ended in it: start again"
            )
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield
        finally:
            if lock not in found and set(directory.iterdir()) == found | {lock}:
                lock.unlink()
                with contextlib.suppress(OSError):  # another run has come to stand beside
                    for path in made:
                        path.rmdir()

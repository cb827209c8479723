"""Where files lie, and how they are written whole and read again."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def user_cache() -> Path:
    """Return this program's directory in the user's cache directory; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxcifar"


def write_json(path: Path, value: Any) -> None:
    """Write `value` beside `path`, then rename, so that `path` never holds half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(value, indent=2) + "\n")
    unfinished.replace(path)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Do the same with arrays by name, as a `.npz` file."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)


def read_records(path: Path) -> list[dict]:
    """Return the whole records of a `metrics.jsonl`, none if there is no such file.

    A last line that was cut off is left out.
    """
    records = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return records

"""Tells whether a checkpoint is whole, by its arrays and by checksums, which Orbax does not keep."""

import collections
import hashlib
import json
import math
import os
from pathlib import Path

_SUMS = "SHA256SUMS"
"""This file of a checkpoint has a line for each other file, as `sha256sum --check` reads them."""
_MANIFEST = "state/manifest.ocdbt"
"""Without it no array can be read."""
_WRITTEN_AFTER_THE_SUMS = ("_CHECKPOINT_METADATA", "commit_success.txt")


def write(folder: Path) -> None:
    """Write the checksums of the files in `folder`, and flush them to the disk."""
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    names = sorted(files.difference(_WRITTEN_AFTER_THE_SUMS))
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    with (folder / _SUMS).open("w") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def fault(folder: Path) -> str | None:
    """Return what is wrong with the files of the checkpoint in `folder`, None if nothing is."""
    if not (folder / _SUMS).exists():
        return f"no {_SUMS}: they were removed, or a version saved it that made none"
    name = _SUMS
    try:
        lines = (folder / _SUMS).read_text().splitlines()
        if not any(line.endswith(f"  {_MANIFEST}") for line in lines):
            return f"{_SUMS} does not name {_MANIFEST}"
        for line in lines:
            expected, name = line.split("  ", 1)
            if _sha256(folder / name) != expected:
                return f"{name} is not what was written"
    except OSError as error:
        return f"{name}: {error.strerror or error}"
    except ValueError:
        return f"{_SUMS} is not what was written"
    return None


def whole_arrays(folder: Path) -> set[str]:
    """Return the names of the arrays in `folder` whose metadata can be read and whose chunks are all there.

    The chunks themselves are not read, because reading leaks memory, which would grow from save to save.

    Raises:
      ValueError: TensorStore's, for data that cannot be read.
    """
    import tensorstore

    base = {"driver": "file", "path": f"{folder}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    chunks = collections.defaultdict(list)
    for key in store.list().result():
        name, _, chunk = key.decode().rpartition("/")
        chunks[name].append(chunk)
    whole = set()
    for name, found in chunks.items():
        array = json.loads(store.read(f"{name}/.zarray").result().value)
        sizes = zip(array["shape"], array["chunks"], strict=True)
        if len(found) - 1 == math.prod(-(-size // chunk) for size, chunk in sizes):
            whole.add(name)
    return whole


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

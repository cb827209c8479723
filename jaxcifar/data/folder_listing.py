"""What is known of the images of a folder, or of a CSV file, before any image is opened."""

import dataclasses
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxcifar.errors import UserError

SPLITS = ("train", "validation", "test")
SPLIT_OF = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""Splits by the name of a directory in lower case, or by the value in a CSV file."""


class File(NamedTuple):
    """Hold what is known of a file before it is opened."""

    path: str
    """Relative to the root, as the system gives it."""
    label: int
    split: str
    """Empty where none is given."""


class LeftOut(NamedTuple):
    """Hold why a file is not read."""

    path: str
    """As `printable` gives it."""
    why: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """Hold the files of a dataset in order: that of a CSV file's lines, or one that mixes the classes."""

    source: Path
    """The directory, or the CSV file."""
    root: Path
    """To which the paths are relative."""
    class_names: tuple[str, ...]
    files: Sequence[File]
    left_out: Sequence[LeftOut]

    @property
    def has_splits(self) -> bool:
        """Whether splits are given."""
        return any(file.split for file in self.files)


def printable(path: str) -> str:
    """Return a path as it can be printed on a line: control characters and stray bytes escaped."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def normal(name: str) -> str:
    """Return a name in Unicode's form NFC (macOS decomposes names), as it can be printed."""
    return printable(unicodedata.normalize("NFC", name))


def fault(path: Path, what: str) -> UserError:
    """Return the error for a folder or a CSV file; `what` says what is wrong with it."""
    return UserError(f"--config.data.folder.path={printable(str(path))} {what}")

"""Which images a folder, or a CSV file, names, of which classes and splits; no file is opened."""

import collections
import csv
import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxcifar.data import images
from jaxcifar.errors import UserError

SPLITS = ("train", "validation", "test")
_SPLIT_OF = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""By the name of a directory in lower case, or by the value of a CSV file."""
_UNKNOWN_TO_PILLOW = {".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".svg"}
"""Images, or what people take for such, by their suffixes."""
_NOT_TOLD = {"Thumbs.db", "desktop.ini", "__MACOSX"}


class File(NamedTuple):
    """Hold what is known of a file before it is opened."""

    path: str
    """Below the root, as the system has it."""
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
    """Hold the files of a dataset, in its order: of a CSV file's lines, or one that mixes the classes."""

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


def find(path: Path) -> Listing:
    """List the files of a directory, or of a CSV file.

    A directory holds one for each class, or `train`, `validation` (or `val`) and `test` that do. A CSV file
    has the columns `path` (relative to the file), `label` and, if splits are given, `split`.

    Hidden files and those that systems leave behind are passed over without a word; what is no image by its
    name is left out.

    Raises:
      UserError: there is no such directory or file, or its classes are not clear.
    """
    if not os.path.exists(path):
        from_here = "" if path.is_absolute() else f" in {printable(str(Path.cwd()))}"
        raise _fault(
            path,
            f"does not exist{from_here}: name a directory that holds one for each class, or a CSV file",
        )
    if not path.is_dir() and path.suffix.lower() != ".csv":
        raise _fault(path, "is neither a directory nor a CSV file")
    try:
        listing = _from_csv(path) if path.is_file() else _from_folder(path)
    except OSError as error:
        raise _fault(path, f"cannot be read ({error})") from error
    if not listing.files:
        what = (
            "names no image"
            if path.is_file()
            else "holds no image in a directory of a class: put the images of each class into one of its own"
        )
        raise _fault(path, what)
    if len(listing.class_names) == 1:
        raise _fault(path, f"has one class, {listing.class_names[0]}: a classifier needs two")
    _check_names(path, listing.class_names)
    return listing


def printable(path: str) -> str:
    """Return a path as it can be printed on a line: control characters and stray bytes escaped."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def _fault(path: Path, what: str) -> UserError:
    return UserError(f"--config.data.folder.path={printable(str(path))} {what}")


def _from_folder(root: Path) -> Listing:
    left_out: list[LeftOut] = []
    top = _directories(root, "", left_out)
    splits = _given_splits(root, top)
    of_splits = [
        (split, path)
        for split, folder in splits.items()
        for path in _directories(root, folder, left_out)
    ]
    classes = of_splits if splits else [("", name) for name in top]
    found = {(split, path): list(_walk(root, path, left_out)) for split, path in classes}
    for (_, path), files in found.items():
        if not files:
            raise _fault(
                root, f"holds no image in {printable(path)}: add some, or remove that directory"
            )
    names = sorted({_class_of(path) for _, path in found})
    for split, folder in splits.items():
        if missing := set(names) - {_class_of(path) for of, path in found if of == split}:
            raise _fault(
                root,
                f"holds no directory {min(missing)} in {folder}, which it has in another split: add one with "
                "images, or remove the others",
            )
    files = [
        File(file, names.index(_class_of(path)), split)
        for (split, path), files in found.items()
        for file in files
    ]
    # A part of a split, as train[:1000], is to hold images of all classes.
    files.sort(key=lambda file: hashlib.sha256(os.fsencode(file.path)).digest())
    return Listing(root, root, tuple(names), files, left_out)


def _given_splits(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the directory of each split that is given, none where the directories are classes."""
    given = [name for name in names if name.lower() in _SPLIT_OF]
    if "train" not in [name.lower() for name in given]:
        return {}
    if (other := [name for name in names if name not in given]) or len(given) == 1:
        raise _fault(
            root,
            f"holds {', '.join([*given, *map(printable, other[:1])])}: splits are train, test and, if there "
            "is one, validation, with no other directory beside them; a class called train needs a CSV file",
        )
    splits = {_SPLIT_OF[name.lower()]: name for name in given}
    if len(splits) < len(given):
        raise _fault(root, "holds both val and validation: rename one")
    return splits


def _directories(root: Path, folder: str, left_out: list[LeftOut]) -> list[str]:
    """Return the directories in a directory below `root`, sorted; files beside them are left out."""
    found = []
    for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
        path = os.path.join(folder, entry.name)  # noqa: PTH118
        if not _is_told(entry.name):
            continue
        if entry.is_dir() and not _is_image(entry.name):
            found.append(path)
        else:
            left_out.append(LeftOut(printable(path), "in no directory of a class"))
    return found


def _walk(
    root: Path, folder: str, left_out: list[LeftOut], above: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the images in a directory below `root` and in those in it, sorted; links are followed."""
    here = os.path.realpath(root / folder)
    if here in above:
        left_out.append(LeftOut(printable(folder), "a link to a directory above it"))
        return
    for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
        path, image = os.path.join(folder, entry.name), _is_image(entry.name)  # noqa: PTH118
        if not _is_told(entry.name):
            continue
        if entry.is_dir():
            if image:
                left_out.append(LeftOut(printable(path), "a directory with the name of an image"))
            else:
                yield from _walk(root, path, left_out, [*above, here])
        elif not image:
            suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
            why = "not an image by its name"
            if suffix in _UNKNOWN_TO_PILLOW:
                why = f"Pillow does not read {suffix[1:].upper()}: convert it to JPEG or PNG"
            left_out.append(LeftOut(printable(path), why))
        elif entry.is_file() or not os.path.exists(
            entry.path
        ):  # the latter is named when it is read
            yield path
        else:
            left_out.append(LeftOut(printable(path), "not a regular file"))


def _is_told(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_TOLD


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in images.suffixes()  # noqa: PTH122


def _class_of(folder: str) -> str:
    """Return the class of which a directory holds images."""
    return _normal(os.path.basename(folder))  # noqa: PTH119


def _normal(name: str) -> str:
    """Return a name in one form of Unicode's (macOS decomposes names), as it can be printed."""
    return printable(unicodedata.normalize("NFC", name))


def _check_names(path: Path, names: Sequence[str]) -> None:
    same = collections.defaultdict(list)
    for name in names:
        same[name.casefold()].append(name)
    for alike in same.values():
        if len(alike) > 1:
            raise _fault(
                path,
                f"has classes that differ in case alone, {' and '.join(alike)}: give them one name, or "
                "clearly different ones",
            )


def _from_csv(path: Path) -> Listing:
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, strict=True)
            columns = [
                name for name in ("path", "label", "split") if name in (reader.fieldnames or ())
            ]
            if columns[:2] != ["path", "label"]:
                raise _fault(
                    path,
                    f"begins with the line {printable(','.join(reader.fieldnames or ()))!r}: it must name "
                    "the columns path and label, and split where splits are given, with commas between them",
                )
            for row in reader:
                if missing := [name for name in columns if not row[name]]:
                    raise _fault(path, f"has no {missing[0]} in line {reader.line_num}")
                split = _SPLIT_OF.get(row["split"]) if "split" in columns else ""
                if split is None:
                    raise _fault(
                        path,
                        f"has the split {row['split']!r} in line {reader.line_num}: it must be one of "
                        f"{', '.join(SPLITS)}",
                    )
                rows.append((row["path"], _normal(row["label"]), split))
        except (csv.Error, UnicodeError) as error:
            raise _fault(path, f"is no CSV file in UTF-8 ({error})") from error
    names = sorted({label for _, label, _ in rows})
    label_of = {name: label for label, name in enumerate(names)}
    files = [File(name, label_of[label], split) for name, label, split in rows]
    return Listing(path, path.parent, tuple(names), files, ())

"""The images of a directory with a subdirectory for each class, or with such a directory for each split."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxcifar.data import images
from jaxcifar.data.folder_listing import SPLIT_OF, File, LeftOut, Listing, fault, normal, printable

_NOT_TOLD = {"Thumbs.db", "desktop.ini", "__MACOSX"}


def from_folder(root: Path) -> Listing:
    """List the images of the directory `root`.

    Raises:
      UserError: its classes or splits are not clear.
      OSError: it cannot be read.
    """
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
            raise fault(
                root, f"holds no image in {printable(path)}: add some, or remove that directory"
            )
    names = sorted({_class_of(path) for _, path in found})
    for split, folder in splits.items():
        if missing := set(names) - {_class_of(path) for of, path in found if of == split}:
            raise fault(
                root,
                f"holds no directory {min(missing)} in {folder}, which it has in another split: add one with "
                "images, or remove the others",
            )
    files = [
        File(file, names.index(_class_of(path)), split)
        for (split, path), files in found.items()
        for file in files
    ]
    # So that a part of a split, such as train[:1000], holds images of all classes.
    files.sort(key=lambda file: hashlib.sha256(os.fsencode(file.path)).digest())
    return Listing(root, root, tuple(names), files, left_out)


def _given_splits(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the directory of each given split; empty where the directories are classes."""
    given = [name for name in names if name.lower() in SPLIT_OF]
    if "train" not in [name.lower() for name in given]:
        return {}
    if (other := [name for name in names if name not in given]) or len(given) == 1:
        raise fault(
            root,
            f"holds {', '.join([*given, *map(printable, other[:1])])}: splits are train, test and, if there "
            "is one, validation, with no other directory beside them; a class called train needs a CSV file",
        )
    splits = {SPLIT_OF[name.lower()]: name for name in given}
    if len(splits) < len(given):
        raise fault(root, "holds both val and validation: rename one")
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
    """Yield the images in a directory below `root` and in its subdirectories, sorted; links are followed."""
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
            why = images.unknown_format(path) or "not an image by its name"
            left_out.append(LeftOut(printable(path), why))
        elif entry.is_file() or not os.path.exists(
            entry.path
        ):  # a broken link is reported when it is read
            yield path
        else:
            left_out.append(LeftOut(printable(path), "not a regular file"))


def _is_told(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_TOLD


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in images.suffixes()  # noqa: PTH122


def _class_of(folder: str) -> str:
    """Return the class of the images in a directory."""
    return normal(os.path.basename(folder))  # noqa: PTH119

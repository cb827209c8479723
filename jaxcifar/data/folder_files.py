"""The images that a folder or a CSV file names, with their classes and splits; no image is opened."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path

from jaxcifar.data.folder_csv import from_csv
from jaxcifar.data.folder_directories import from_folder
from jaxcifar.data.folder_listing import Listing, fault, printable


def find(path: Path) -> Listing:
    """List the files of a directory, or of a CSV file.

    A directory holds a subdirectory for each class, or `train`, `validation` (or `val`) and `test`, each of
    which holds one for each class. A CSV file has the columns `path` (relative to the file), `label` and, if
    splits are given, `split`.

    Hidden files and those that systems leave behind are skipped silently; files that are no images by their
    names are listed as left out.

    Raises:
      UserError: there is no such directory or file, or its classes are not clear.
    """
    if not os.path.exists(path):
        from_here = "" if path.is_absolute() else f" in {printable(str(Path.cwd()))}"
        raise fault(
            path,
            f"does not exist{from_here}: name a directory that holds one for each class, or a CSV file; a "
            "run whose images were moved is told their new place so",
        )
    if not path.is_dir() and path.suffix.lower() != ".csv":
        raise fault(path, "is neither a directory nor a CSV file")
    try:
        listing = from_csv(path) if path.is_file() else from_folder(path)
    except OSError as error:
        raise fault(path, f"cannot be read ({error})") from error
    if not listing.files:
        what = (
            "names no image"
            if path.is_file()
            else "holds no image in a directory of a class: put the images of each class into one of its own"
        )
        raise fault(path, what)
    if len(listing.class_names) == 1:
        raise fault(path, f"has one class, {listing.class_names[0]}: a classifier needs two")
    _check_names(path, listing.class_names)
    return listing


def _check_names(path: Path, names: Sequence[str]) -> None:
    same = collections.defaultdict(list)
    for name in names:
        same[name.casefold()].append(name)
    for alike in same.values():
        if len(alike) > 1:
            raise fault(
                path,
                f"has classes that differ in case alone, {' and '.join(alike)}: give them one name, or "
                "clearly different ones",
            )

"""A folder of images, or a CSV file of their paths and labels, as a dataset."""

import collections
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from jaxcifar.data import array_cache, folder_files, images
from jaxcifar.data.datasets import Dataset, SplitError, select
from jaxcifar.data.folder_files import SPLITS, Listing, printable
from jaxcifar.data.reading import Reading, decoded
from jaxcifar.errors import UserError
from jaxcifar.host.files import expanded
from jaxcifar.options import MAY_CHANGE, PATH, SHARE_BELOW_ONE, OptionError, between, with_checks

_UNREADABLE = len(SPLITS)
"""In place of the number of a split."""


def _check(*, validation_share: float, test_share: float, **others: Any) -> None:
    del others
    if validation_share + test_share >= 1:
        raise OptionError(
            "{validation_share} and {test_share} leave nothing to train on: below 1 in sum"
        )


@with_checks(check=_check)
def folder(  # noqa: PLR0913, the options of a folder
    split: str,
    *,
    reading: Reading,
    path: Annotated[str, "a directory with one for each class, or a CSV file", PATH],
    validation_share: Annotated[float, SHARE_BELOW_ONE, "of the files, where no splits are given"],
    test_share: Annotated[float, SHARE_BELOW_ONE, "of the files, where no splits are given"],
    split_seed: Annotated[int, between(0, 2**32 - 1), "of what is held out"],
    strict: Annotated[bool, "whether a file that cannot be read ends the run", MAY_CHANGE],
) -> Dataset:
    """Read the images that `folder_files.find` lists, of any size, mode and format that Pillow reads.

    Where no splits are given, a file is held out by its content: by SHA-256 of `split_seed` and of what is
    in the file. So no file moves to another split when others are added, and files with the same content
    are in one split. The files of `train` are those that neither `validation` nor `test` holds.

    Images without a size in `reading` must have one size; they become RGB unless `reading` says otherwise.

    Returns:
      The dataset, with a `survey`: `sizes`, height and width of the `smallest`, `median` and `largest` image;
      `left_out` and `unreadable`, path and reason of each such file; `same_in_two_classes` and
      `same_in_two_splits`, paths of files that have the same content.

    Raises:
      UserError: there is no such folder, its classes are not clear, or a class has no image in a split.
    """
    listing = folder_files.find(expanded(path))
    shares = () if listing.has_splits else (validation_share, test_share, split_seed)
    arrays = _contents(listing, shares, reading)
    if strict and len(arrays["unreadable"]):
        found = [f"{path}: {why}" for path, why in _unreadable(listing, arrays)]
        raise UserError(
            f"--config.data.folder.strict=True, and {len(found)} files of {printable(path)} cannot be read "
            f"({'; '.join(found[:5])}{' …' if len(found) > 5 else ''}): mend or remove them"
        )
    labels = np.array([file.label for file in listing.files], np.int32)
    split_of = arrays["split"]
    of_split = {name: labels[split_of == number] for number, name in enumerate(SPLITS)}
    for name, share in (("validation", validation_share), ("test", test_share)):
        if shares and share and not len(of_split[name]):
            raise UserError(
                f"--config.data.folder.{name}_share={share} of {len(labels)} images is none in the split "
                f"{name}: raise it, or take another --config.data.folder.split_seed"
            )
    sizes = {name: len(own) for name, own in of_split.items() if len(own)}
    _check_all_classes(listing, {name: of_split[name] for name in sizes}, path, shares)
    whole = lambda name: (arrays[name], of_split[name])
    try:
        dataset = select(split, sizes, whole, listing.class_names)
    except SplitError as error:
        if not shares:
            raise
        raise SplitError(
            f"{error}; --config.data.folder.validation_share and --config.data.folder.test_share say how "
            "much is held out"
        ) from error
    return dataclasses.replace(dataset, survey=_survey(listing, arrays))


def share_of(digests: np.ndarray, seed: int) -> np.ndarray:
    """Return where files lie between 0 and 1, by their content: [n], evenly spread.

    Args:
      digests: [n, 32] uint8, the SHA-256 sum of each file's content.
      seed: another one spreads them otherwise.
    """
    start = f"{seed} ".encode()
    first = [hashlib.sha256(start + digest.tobytes()).digest()[:8] for digest in digests]
    return np.array([int.from_bytes(each, "big") for each in first], np.float64) / 2**64


def _contents(listing: Listing, shares: tuple, reading: Reading) -> dict[str, np.ndarray]:
    """Return what is in the files, decoded once and kept.

    Returns:
      For each split its images, [n, height, width, channel] uint8, in the order of the files; `split` [files]
      int8, of `SPLITS`, or `_UNREADABLE`; `digest` [files, 32] uint8; `size` [files, 2] int32, height and
      width; `unreadable` [m] int32, which files are.
    """
    stats = [_stat(listing.root / file.path) for file in listing.files]
    facts = [(file.path, file.split, *stat) for file, stat in zip(listing.files, stats)]
    root = listing.root.resolve()
    how = repr((str(root), reading.image_size, reading.channels, shares, listing.has_splits))
    entry = None
    if cache := reading.cache():
        place = cache / "folder" / f"{root.name[:50]}-{_hash(how)}"
        entry = place / _hash(repr((images.VERSION, facts)))
    names = (*SPLITS, "split", "digest", "size", "unreadable")
    arrays = array_cache.cached(entry, names, lambda: _decode(listing, shares, reading))
    if entry:
        _remove_earlier(entry)
    return arrays


def _remove_earlier(entry: Path) -> None:
    """Remove what was kept of a folder before files in it changed."""
    for other in entry.parent.glob("*"):
        if other.is_dir() and other.suffix != ".unfinished" and other != entry:
            shutil.rmtree(other, ignore_errors=True)


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (-1, -1)
    return stat.st_size, stat.st_mtime_ns


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _decode(listing: Listing, shares: tuple, reading: Reading) -> Iterator[array_cache.Arrays]:
    shape = (*(reading.height_width or _first_size(listing)), reading.channels or 3)

    def decode(index: range) -> array_cache.Arrays:
        pixels = np.empty((len(index), *shape), np.uint8)
        digests = np.zeros((len(index), 32), np.uint8)
        sizes = np.zeros((len(index), 2), np.int32)
        readable = np.zeros(len(index), bool)
        for place, file in enumerate(listing.files[index.start : index.stop]):
            try:
                data = images.read_bytes(listing.root / file.path)
                digests[place] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
                image = images.opened(data)
                pixels[place] = images.fit(image, shape)
            except Exception:  # Pillow raises errors of many kinds
                continue
            readable[place], sizes[place] = True, images.upright_size(image)
            if not reading.image_size and tuple(sizes[place]) != shape[:2]:
                raise UserError(
                    f"{printable(str(listing.root))} holds images of different sizes, "
                    f"{shape[0]}×{shape[1]} and, {printable(file.path)}, {'×'.join(map(str, sizes[place]))}: "
                    "--config.data.image_size=64 scales and crops all of them to 64×64"
                )
        if shares:
            split = _split_by_shares(digests, *shares)
        else:
            given = listing.files[index.start : index.stop]
            split = np.array([SPLITS.index(file.split) for file in given], np.int8)
        split[~readable] = _UNREADABLE
        return {name: pixels[split == number] for number, name in enumerate(SPLITS)} | {
            "split": split,
            "digest": digests,
            "size": sizes,
            "unreadable": index.start + np.flatnonzero(~readable).astype(np.int32),
        }

    words = f"decoding {printable(listing.root.name)}"
    return decoded(decode, len(listing.files), shape, os.cpu_count() or 1, words)


def _split_by_shares(
    digests: np.ndarray, validation_share: float, test_share: float, seed: int
) -> np.ndarray:
    place = share_of(digests, seed)
    split = np.full(len(place), SPLITS.index("train"), np.int8)
    split[place < validation_share + test_share] = SPLITS.index("validation")
    split[place < test_share] = SPLITS.index("test")
    return split


def _first_size(listing: Listing) -> tuple[int, int]:
    """Return height and width of the first image that can be read."""
    for file in listing.files:
        try:
            image = images.opened(images.read_bytes(listing.root / file.path))
            image.load()
        except Exception:  # Pillow raises errors of many kinds
            continue
        return images.upright_size(image)
    raise UserError(
        f"none of the {len(listing.files)} images in {printable(str(listing.root))} can be read; "
        f"{printable(listing.files[0].path)}: {_why(listing, listing.files[0].path)}"
    )


def _unreadable(listing: Listing, arrays: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return path and reason of each file that cannot be read."""
    paths = [listing.files[i].path for i in arrays["unreadable"]]
    return [(printable(path), _why(listing, path)) for path in paths]


def _why(listing: Listing, path: str) -> str:
    try:
        images.fit(images.opened(images.read_bytes(listing.root / path)), (8, 8, 3))
    except Exception as error:
        return images.reason(error)
    return "it could not be read before"


def _check_all_classes(
    listing: Listing, labels: Mapping[str, np.ndarray], path: str, shares: tuple
) -> None:
    """Check that every split holds images of every class."""
    for split, own in labels.items():
        counts = np.bincount(own, minlength=len(listing.class_names))
        if counts.all():
            continue
        name = listing.class_names[int(counts.argmin())]
        remedy = (
            f"raise --config.data.folder.{split}_share, or take another --config.data.folder.split_seed"
            if shares and split != "train"
            else f"add images of {name}, or remove the class"
        )
        raise UserError(
            f"--config.data.folder.path={printable(path)}: no image of the class {name} is in the split "
            f"{split}, which holds {len(own)}: {remedy}"
        )


def _survey(listing: Listing, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    readable = np.flatnonzero(arrays["split"] != _UNREADABLE)
    sizes = arrays["size"][readable]
    by_area = sizes[np.argsort(sizes.prod(1), kind="stable")]
    digests = np.ascontiguousarray(arrays["digest"][readable]).view(np.dtype((np.void, 32)))[:, 0]
    _, content, counts = np.unique(digests, return_inverse=True, return_counts=True)
    content = content.reshape(-1)
    alike: dict[int, list[int]] = collections.defaultdict(list)
    for index in np.flatnonzero(counts[content] > 1):
        alike[int(content[index])].append(int(readable[index]))

    def differing(values: Sequence | np.ndarray) -> list[list[str]]:
        return [
            [printable(listing.files[i].path) for i in group]
            for group in alike.values()
            if len({values[i] for i in group}) > 1
        ]

    return {
        "sizes": {
            name: by_area[place].tolist()
            for name, place in (("smallest", 0), ("median", len(by_area) // 2), ("largest", -1))
        },
        "left_out": [list(each) for each in listing.left_out],
        "unreadable": [list(each) for each in _unreadable(listing, arrays)],
        "same_in_two_classes": differing([file.label for file in listing.files]),
        "same_in_two_splits": differing(arrays["split"]),
    }

"""The contents of a folder's files: read once, decoded, assigned to splits by content, and cached."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from jaxcifar.data import array_cache, images
from jaxcifar.data.folder_listing import SPLITS, Listing, printable
from jaxcifar.data.reading import Reading, decoded
from jaxcifar.errors import UserError

UNREADABLE = len(SPLITS)
"""Marks a file that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Shares:
    """Say how much is held out where no splits are given."""

    validation: float
    test: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Contents:
    """Hold the contents of a listing's files, in their order."""

    images: Mapping[str, np.ndarray]
    """By split: [n, height, width, channel] uint8."""
    split: np.ndarray
    """[files] int8, the index of each file's split, or `UNREADABLE`."""
    digests: np.ndarray
    """[files, 32] uint8, SHA-256."""
    sizes: np.ndarray
    """[files, 2] int32, height and width."""
    unreadable: tuple[tuple[str, str], ...]
    """Path and reason of each file that cannot be read."""


def read(listing: Listing, shares: Shares | None, reading: Reading) -> Contents:
    """Read the files of a listing, from the cache if they have not changed.

    Args:
      listing: of a folder.
      shares: how much is held out; None where splits are given.
      reading: how images are read.

    Raises:
      UserError: no file can be read, or images have different sizes and `reading` gives none.
    """
    entry = _entry(listing, shares, reading)
    names = (*SPLITS, "split", "digest", "size")
    make = lambda: _decode(listing, shares, reading)
    arrays = array_cache.cached(entry, names, make)
    found = _unreadable(listing, np.flatnonzero(arrays["split"] == UNREADABLE))
    if entry and not all(found.values()):  # a file that could not be read before can be read now
        shutil.rmtree(entry, ignore_errors=True)
        arrays = array_cache.cached(entry, names, make)
        found = _unreadable(listing, np.flatnonzero(arrays["split"] == UNREADABLE))
    if entry:
        _remove_earlier(entry)
    return Contents(
        {name: arrays[name] for name in SPLITS},
        arrays["split"],
        arrays["digest"],
        arrays["size"],
        tuple((path, why or "it could not be read before") for path, why in found.items()),
    )


def share_of(digests: np.ndarray, seed: int) -> np.ndarray:
    """Return a number between 0 and 1 for each file, by its content: [n], evenly spread.

    Args:
      digests: [n, 32] uint8, the SHA-256 sum of each file's content.
      seed: another seed gives other numbers.
    """
    start = f"{seed} ".encode()
    first = [hashlib.sha256(start + digest.tobytes()).digest()[:8] for digest in digests]
    return np.array([int.from_bytes(each, "big") for each in first], np.float64) / 2**64


def _entry(listing: Listing, shares: Shares | None, reading: Reading) -> Path | None:
    """Return where the contents of the files are cached, None if nothing is."""
    cache = reading.cache()
    if cache is None:
        return None
    stats = [_stat(listing.root / file.path) for file in listing.files]
    facts = [(file.path, file.split, *stat) for file, stat in zip(listing.files, stats)]
    source = listing.source.resolve()
    how = (str(source), reading.image_size, reading.channels, shares)
    place = cache / "folder" / f"{source.name[:50]}-{_hash(how)}"
    return place / _hash((images.VERSION, facts))


def _remove_earlier(entry: Path) -> None:
    """Remove what was cached of a folder before files in it changed."""
    for other in entry.parent.glob("*"):
        if other.is_dir() and other.suffix != ".unfinished" and other != entry:
            shutil.rmtree(other, ignore_errors=True)


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (-1, -1)
    return stat.st_size, stat.st_mtime_ns


def _hash(facts: tuple) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _decode(
    listing: Listing, shares: Shares | None, reading: Reading
) -> Iterator[array_cache.Arrays]:
    first = _first_size(listing)  # raises an error if there is none
    shape = (*(reading.height_width or first), reading.channels or 3)

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
            split = _split_by_shares(digests, shares)
        else:
            given = listing.files[index.start : index.stop]
            split = np.array([SPLITS.index(file.split) for file in given], np.int8)
        split[~readable] = UNREADABLE
        return {name: pixels[split == number] for number, name in enumerate(SPLITS)} | {
            "split": split,
            "digest": digests,
            "size": sizes,
        }

    words = f"decoding {printable(listing.source.resolve().name)}"
    return decoded(decode, len(listing.files), shape, os.cpu_count() or 1, words)


def _split_by_shares(digests: np.ndarray, shares: Shares) -> np.ndarray:
    place = share_of(digests, shares.seed)
    split = np.full(len(place), SPLITS.index("train"), np.int8)
    split[place < shares.validation + shares.test] = SPLITS.index("validation")
    split[place < shares.test] = SPLITS.index("test")
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
    first = listing.files[0].path
    raise UserError(
        f"none of the {len(listing.files)} images of {printable(str(listing.source))} can be read; "
        f"{printable(first)}: {_unreadable(listing, np.zeros(1, int))[printable(first)]}"
    )


def _unreadable(listing: Listing, files: np.ndarray) -> dict[str, str]:
    """Return why each of some files cannot be read, by path; empty if it can be."""
    found = {}
    for index in files.tolist():
        path = listing.files[index].path
        try:
            images.fit(images.opened(images.read_bytes(listing.root / path)), (8, 8, 3))
            found[printable(path)] = ""
        except Exception as error:  # Pillow raises errors of many kinds
            found[printable(path)] = images.reason(error)
    return found

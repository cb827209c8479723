"""A folder of images, or a CSV file of their paths and labels, as a dataset."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from jaxcifar.data import folder_contents, folder_files
from jaxcifar.data.datasets import Dataset, SplitError, select
from jaxcifar.data.folder_contents import UNREADABLE, Contents, Shares
from jaxcifar.data.folder_listing import SPLITS, Listing, printable
from jaxcifar.data.reading import Reading
from jaxcifar.errors import UserError
from jaxcifar.host.files import expanded
from jaxcifar.options import MAY_CHANGE, PATH, SHARE_BELOW_ONE, OptionError, between, with_checks


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
    """Read the images of a directory with a subdirectory for each class, or those that a CSV file names.

    They may have any size, mode and format that Pillow reads; `folder_files.find` says which files count.

    Where no splits are given, a file is held out by its content: by SHA-256 of `split_seed` and the content.
    So no file moves to another split when others are added, and files with the same content are in one split.
    The split `train` holds the files that are in neither `validation` nor `test`.

    Without a size in `reading`, images must have the same size. They become RGB unless `reading` says
    otherwise.

    Returns:
      The dataset, with `digests`, `files` and a `survey`: `sizes`, the `smallest`, the `median` and the
      `largest` height, and width; `left_out` and `unreadable`, path and reason of each such file;
      `same_in_two_classes` and `same_in_two_splits`, paths of files that have the same content.

    Raises:
      UserError: there is no such folder, its classes are not clear, or a class has no image in a split.
    """
    if not path:
        raise UserError(
            "--config.data.folder.path is empty: name a directory that holds one for each class, or a CSV "
            "file"
        )
    listing = folder_files.find(expanded(path))
    drawn = None if listing.has_splits else Shares(validation_share, test_share, split_seed)
    contents = folder_contents.read(listing, drawn, reading)
    if strict and contents.unreadable:
        found = [f"{path}: {why}" for path, why in contents.unreadable]
        raise UserError(
            f"--config.data.folder.strict=True, and {len(found)} files of {printable(path)} cannot be read "
            f"({'; '.join(found[:5])}{' …' if len(found) > 5 else ''}): mend or remove them"
        )
    labels = np.array([file.label for file in listing.files], np.int32)
    of_split = {name: labels[contents.split == number] for number, name in enumerate(SPLITS)}
    of_split = {name: own for name, own in of_split.items() if len(own)}
    sizes = {name: len(own) for name, own in of_split.items()}
    try:
        dataset = select(
            split, sizes, lambda name: (contents.images[name], of_split[name]), listing.class_names
        )
    except SplitError as error:
        if drawn is None:
            raise
        raise SplitError(
            f"{error}; --config.data.folder.validation_share and --config.data.folder.test_share say how "
            "much is held out"
        ) from error
    taken = dict.fromkeys(name for name, _, _ in dataset.parts)
    _check_classes(listing, {name: of_split[name] for name in taken}, path, drawn)
    digests = {
        name: contents.digests[contents.split == number, :8].copy().view(np.uint64)[:, 0]
        for number, name in enumerate(SPLITS)
    }
    own = [digests[name][start:stop] for name, start, stop in dataset.parts]
    examples = {
        name: np.flatnonzero(contents.split == number) for number, name in enumerate(SPLITS)
    }
    files = [
        printable(listing.files[index].path)
        for name, start, stop in dataset.parts
        for index in examples[name][start:stop]
    ]
    survey = _survey(listing, contents)
    return dataclasses.replace(dataset, digests=np.concatenate(own), files=files, survey=survey)


def _check_classes(
    listing: Listing, labels: Mapping[str, np.ndarray], path: str, drawn: Shares | None
) -> None:
    """Check that the splits with these labels together hold images of every class."""
    every = np.concatenate(list(labels.values()))
    counts = np.bincount(every, minlength=len(listing.class_names))
    if counts.all():
        return
    name, split = listing.class_names[int(counts.argmin())], " and ".join(labels)
    remedy = (
        f"raise --config.data.folder.{split}_share, or take another --config.data.folder.split_seed"
        if drawn and split in ("validation", "test")
        else f"add images of {name}, or remove the class"
    )
    raise UserError(
        f"--config.data.folder.path={printable(path)}: no image of the class {name} is in the split "
        f"{split}, which holds {len(every)}: {remedy}"
    )


def _survey(listing: Listing, contents: Contents) -> dict[str, Any]:
    readable = np.flatnonzero(contents.split != UNREADABLE)
    sizes = np.sort(contents.sizes[readable], axis=0)  # heights and widths, each by itself
    digests = np.ascontiguousarray(contents.digests[readable]).view(np.dtype((np.void, 32)))[:, 0]
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
            name: sizes[place].tolist()
            for name, place in (("smallest", 0), ("median", len(sizes) // 2), ("largest", -1))
        },
        "left_out": [list(each) for each in listing.left_out],
        "unreadable": [list(each) for each in contents.unreadable],
        "same_in_two_classes": differing([file.label for file in listing.files]),
        "same_in_two_splits": differing(contents.split),
    }


def describe_sizes(sizes: Mapping[str, Sequence[int]]) -> str:
    """Return the range and the median of the heights and of the widths in words."""
    return "; ".join(
        f"{name} {low} to {high} pixels (median {median})"
        for name, low, median, high in zip(("heights", "widths"), *sizes.values())
    )

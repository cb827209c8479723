"""Datasets: each split is two arrays and the names of the classes."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from jaxcifar.data import shapes as drawn, tfds_reader
from jaxcifar.errors import UserError
from jaxcifar.host.files import user_cache


class SplitError(UserError):
    """There is no such split."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Hold one split, decoded."""

    images: np.ndarray
    """[n, height, width, channel] uint8."""
    labels: np.ndarray
    """[n] int32, from 0."""
    class_names: tuple[str, ...]
    parts: tuple[tuple[str, int, int], ...] = ()
    """What of the dataset they are, in order: `(split, start, stop)`."""
    name: str = ""
    """Of the dataset."""
    split: str = ""
    """As the config has it."""

    def __len__(self) -> int:
        return len(self.labels)


def shapes(split: str, *, seed: int, train_examples: int, test_examples: int) -> Dataset:
    """Draw the built-in images; `split` is a TFDS split of `train` and `test`."""
    sizes = {"train": train_examples, "test": test_examples}

    def whole(name):
        return drawn.draw_shapes(sizes[name], (seed, list(sizes).index(name)))

    images, labels, parts = _select(split, sizes, whole)
    return Dataset(images, labels, drawn.CLASS_NAMES, parts)


def tfds(split: str, *, name: str, data_dir: str, cache_dir: str, image_size: int) -> Dataset:
    """Read any image-classification dataset of TFDS, e.g. `cifar10`, preparing it if need be.

    Args:
      split: in TFDS's syntax, e.g. `train[:45000]`.
      name: of the builder, with a config or version if wanted: `cifar10`, `cifar10:3.0.2`.
      data_dir: where TFDS keeps prepared datasets; empty for TFDS's own choice.
      cache_dir: where decoded images are kept; empty for the user's cache, if there is one.
      image_size: height and width to which images are scaled and cropped; 0 to leave them.

    Raises:
      UserError: the dataset is unknown, cannot be fetched, or is not of images and one label.
    """
    cache = Path(cache_dir).expanduser() if cache_dir else user_cache("decoded")
    if cache and cache.is_file():
        raise UserError(f"--config.data.cache_dir={cache_dir} is a file: name a directory")
    builder = tfds_reader.prepared_builder(name, data_dir)
    sizes = {key: info.num_examples for key, info in builder.info.splits.items()}
    images, labels, parts = _select(
        split, sizes, lambda key: tfds_reader.read_split(builder, key, image_size, cache)
    )
    return Dataset(images, labels, tfds_reader.class_names(builder), parts)


DATASETS = {"shapes": shapes}
"""`DATASETS[name](split, **options)`; a name that is not here is one of TFDS."""


def load(
    name: str, split: str, *, data_dir: str, cache_dir: str, image_size: int, options: Mapping
) -> Dataset:
    """Load one split of a dataset; `options` are those of a dataset in `DATASETS`, the others as for `tfds`.

    Raises:
      UserError: there is no such dataset or split, or it cannot be had here.
    """
    if name in DATASETS:
        dataset = DATASETS[name](split, **options)
    else:
        dataset = tfds(
            split, name=name, data_dir=data_dir, cache_dir=cache_dir, image_size=image_size
        )
    return dataclasses.replace(dataset, name=name, split=split)


def _select(split, sizes, whole) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Cut the parts that `split` names out of the arrays that `whole(name)` gives; name them, too."""
    from tensorflow_datasets.core import ReadInstruction

    infos = {name: SimpleNamespace(num_examples=size) for name, size in sizes.items()}
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, AssertionError, AttributeError, NotImplementedError) as error:
        by_shard = isinstance(error, AttributeError)
        reason = "parts by shard are not known here." if by_shard else str(error)
        raise SplitError(
            f"split {split!r}: {reason.splitlines()[0]} "
            f"Known are {', '.join(f'{name} ({size} examples)' for name, size in sizes.items())}; "
            "part of one is written train[:45000] or test[50%:]"
        ) from error
    pieces = [[array[part.from_ : part.to] for array in whole(part.splitname)] for part in parts]
    images, labels = (
        column[0] if len(column) == 1 else np.concatenate(column) for column in zip(*pieces)
    )
    if not len(labels):
        raise SplitError(f"split {split!r} is empty: a split must hold at least one example")
    named = (
        (part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to)
        for part in parts
    )
    return images, labels, tuple(named)

"""Datasets: each split is two arrays and the names of the classes."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np

from jaxcifar.data import shapes as drawn, tfds_reader
from jaxcifar.data.reading import Reading
from jaxcifar.data.tfds_prepare import NAMED_NONE, Features, prepared_builder
from jaxcifar.errors import UserError, first_line
from jaxcifar.options import between


class SplitError(UserError):
    """There is no such split."""


Part = tuple[str, int, int]
"""A stretch of a split: its name, the first example, the one after the last."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Hold one split, decoded."""

    images: np.ndarray
    """[n, height, width, channel] uint8."""
    labels: np.ndarray
    """[n] int32, from 0."""
    class_names: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    """The parts of splits that hold the examples, in order."""
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Examples of each whole split of the dataset, by name."""
    digests: np.ndarray | None = None
    """[n] uint64, hashes of the contents of the examples' files; None where examples are not files."""
    files: Sequence[str] = ()
    """[n], the printable path of each example's file; empty where examples are not files."""
    survey: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Other facts of the whole dataset, in JSON's types; see `image_folder.folder`."""
    name: str = ""
    """The dataset's name in the config; `load_split` adds it."""
    split: str = ""
    """The split, likewise."""

    def __len__(self) -> int:
        return len(self.labels)


Examples = Annotated[int, between(1, 1_000_000), "images of the split"]


def shapes(
    split: str,
    *,
    seed: Annotated[int, between(0, 2**32 - 1), "of the images"],
    train_examples: Examples,
    test_examples: Examples,
) -> Dataset:
    """Draw the built-in images; `split` is a TFDS split of `train` and `test`."""
    sizes = {"train": train_examples, "test": test_examples}

    def whole(name):
        return drawn.draw_shapes(sizes[name], (seed, list(sizes).index(name)))

    return select(split, sizes, whole, drawn.CLASS_NAMES)


def tfds(
    split: str, *, name: str, data_dir: str, reading: Reading, features: Features = NAMED_NONE
) -> Dataset:
    """Read any image-classification dataset of TFDS, e.g. `cifar10`, preparing it if need be.

    Args:
      split: in TFDS's syntax, e.g. `train[:45000]`.
      name: of the builder, with a config or version if wanted: `cifar10`, `cifar10:3.0.2`.
      data_dir: where TFDS keeps prepared datasets; empty for TFDS's own choice.
      reading: how its images are read.
      features: those that hold image and label.

    Raises:
      UserError: the dataset is unknown, cannot be fetched, or is not of images and one label.
    """
    reading.cache()  # raises its errors before anything is fetched
    builder = prepared_builder(name, data_dir, features)
    sizes = {key: info.num_examples for key, info in builder.info.splits.items()}
    read = lambda key: tfds_reader.read_split(builder, key, features, reading)
    return select(split, sizes, read, tfds_reader.class_names(builder, features))


def options_of_split(options: Mapping, split: str) -> dict:
    """Return those options of a dataset on which the examples of `split` depend."""
    sizes = {name: f"{name}_examples" for name in ("train", "test")}
    others = {size for name, size in sizes.items() if not re.search(rf"\b{name}\b", split)}
    return {name: value for name, value in options.items() if name not in others}


def was_read_otherwise(dataset: Dataset, data_dir: str) -> bool:
    """Return whether training in version 0.1.0 made different pixels of some image of a TFDS dataset."""
    builder = prepared_builder(dataset.name, data_dir)
    return any(tfds_reader.was_read_otherwise(builder, part) for part in dataset.parts)


def parts(split: str, sizes: Mapping[str, int]) -> tuple[Part, ...]:
    """Return the parts that `split`, in TFDS's syntax, takes from splits of these sizes.

    Raises:
      SplitError: there is no such split.
    """
    from tensorflow_datasets.core import ReadInstruction

    infos = {name: SimpleNamespace(num_examples=size) for name, size in sizes.items()}
    try:
        found = ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, AssertionError, AttributeError, NotImplementedError) as error:
        reason = first_line(error)
        if isinstance(error, AttributeError):
            reason = "parts by shard are not known here."
        if reason.startswith("Unknown split"):
            reason = "there is none."
        raise SplitError(
            f"split {split!r}: {reason} "
            f"Known are {', '.join(f'{name} ({size} examples)' for name, size in sizes.items())}; "
            "part of one is written train[:45000] or test[50%:]"
        ) from error
    return tuple(
        (part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to)
        for part in found
    )


def select(
    split: str,
    sizes: Mapping[str, int],
    whole: Callable[[str], tuple[np.ndarray, np.ndarray]],
    class_names: tuple[str, ...],
) -> Dataset:
    """Cut the examples of `split` out of whole splits.

    Args:
      split: in TFDS's syntax, as `train[:45000]`.
      sizes: examples of each split, by its name.
      whole: `whole(name) -> images: [n, height, width, channel] uint8, labels: [n] int32`.
      class_names: in the order of the labels.

    Raises:
      SplitError: there is no such split, or it is empty.
    """
    chosen = parts(split, sizes)
    pieces = [[array[start:stop] for array in whole(name)] for name, start, stop in chosen]
    images, labels = (
        column[0] if len(column) == 1 else np.concatenate(column) for column in zip(*pieces)
    )
    if not len(labels):
        raise SplitError(f"split {split!r} is empty: a split must hold at least one example")
    return Dataset(images, labels, class_names, chosen, sizes)

"""What a model must know of the data it is trained on."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.host.files import unmap, with_tuples


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Hold what a model must know of the data it was trained on; kept in every checkpoint."""

    image_shape: tuple[int, int, int]
    """Height, width, channel."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """The mean of each channel of pixels in [0, 1]; subtracted."""
    std: tuple[float, ...]
    """The standard deviation; divided by."""
    train_examples: int
    fingerprint: str = ""
    """A hash of pixels, labels and their order; empty if an earlier version saved the facts."""
    class_counts: tuple[int, ...] = ()
    """Training examples of each class; empty likewise."""

    @classmethod
    def from_json(cls, value: Mapping) -> "DataFacts":
        """Return the facts from a dict made by `dataclasses.asdict` and JSON."""
        return cls(**with_tuples(dict(value)))


def measure(train: Dataset, normalisation: str) -> DataFacts:
    """Measure the training split; `normalisation` is one of `NORMALISATIONS`."""
    mean, std = NORMALISATIONS[normalisation](train.images)
    return DataFacts(
        train.images.shape[1:],
        train.class_names,
        tuple(mean),
        tuple(std),
        len(train),
        fingerprint(train),
        tuple(np.bincount(train.labels, minlength=len(train.class_names)).tolist()),
    )


def fingerprint(dataset: Dataset) -> str:
    """Return a hash of the pixels, the labels and their order."""
    digest = hashlib.sha256(np.ascontiguousarray(dataset.labels).data)
    for block in _blocks(dataset.images):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()[:16]


def channel_statistics(images: np.ndarray) -> tuple[Sequence[float], Sequence[float]]:
    """Return each channel's mean and standard deviation, of pixels scaled to [0, 1].

    The sums are taken over whole numbers, so they are exact. A standard deviation is at
    least one grey level, so that a channel that never changes can be divided by it.
    """
    channels = images.shape[-1]
    sums = np.zeros((2, channels), np.int64)
    for part in _blocks(images):
        # Down the columns of flattened images, which NumPy vectorises.
        block = part.reshape(len(part), -1).astype(np.uint16)
        for total, values in zip(sums, (block, block * block)):
            total += values.sum(0, np.uint32).reshape(-1, channels).sum(0, np.int64)
    pixels = images.size // channels
    mean, mean_of_squares = sums / pixels / np.array([[255], [255**2]])
    std = np.sqrt(np.maximum(mean_of_squares - mean**2, 0))
    return mean.tolist(), np.maximum(std, 1 / 255).tolist()


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images in blocks of 500; unmap those of a file when they have been used."""
    for start in range(0, len(images), 500):
        yield images[start : start + 500]
        unmap(images)


def _constants(mean: float, std: float) -> Callable[[np.ndarray], tuple]:
    return lambda images: ([mean] * images.shape[-1], [std] * images.shape[-1])


NORMALISATIONS = {
    "statistics": channel_statistics,
    "unit": _constants(0.0, 1.0),
    "symmetric": _constants(0.5, 0.5),
    "pixels": _constants(0.0, 1 / 255),
}
"""By name, functions that return each channel's `mean, std` from the training images."""

"""Datasets: from files to arrays."""

from collections.abc import Callable, Mapping

from jaxcifar.data import datasets, image_folder

DATASETS: Mapping[str, Callable[..., datasets.Dataset]] = {
    "shapes": datasets.shapes,
    "folder": image_folder.folder,
}
"""`DATASETS[name](split, **options)`; any other name is a dataset of TFDS."""

"""Datasets: from files to arrays."""

from collections.abc import Callable, Mapping

from jaxcifar.data import datasets, image_folder

DATASETS: Mapping[str, Callable[..., datasets.Dataset]] = {
    "shapes": datasets.shapes,
    "folder": image_folder.folder,
}
"""`DATASETS[name](split, **options)`; a name that is not here is one of TFDS."""

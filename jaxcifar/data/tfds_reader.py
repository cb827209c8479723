"""Reads a prepared TFDS dataset without TensorFlow: decodes it once, then reads it from the cache."""

import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxcifar.data import array_cache, images
from jaxcifar.data.reading import Reading, decoded
from jaxcifar.data.tfds_prepare import NAMED_NONE, Features, features_of
from jaxcifar.errors import UserError


def class_names(builder: Any, features: Features = NAMED_NONE) -> tuple[str, ...]:
    """Return the names of the classes, in the order of the labels."""
    return tuple(builder.info.features[features_of(builder, features).label].names)


def read_split(
    builder: Any, split: str, features: Features, reading: Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Return `images: [n, height, width, channel] uint8` and `labels: [n] int32` of a whole split.

    They are decoded once and cached under the location, version, split and files of the dataset.

    Args:
      builder: of a dataset that is prepared.
      split: a whole one.
      features: those that hold image and label.
      reading: how they are read.

    Raises:
      UserError: the files are incomplete or damaged, or the images differ in size.
    """
    files = [os.fspath(path) for path in builder.info.splits[split].filepaths]
    cache, size = reading.cache(), reading.height_width
    try:
        place = Path(builder.data_path).resolve()
        chosen = [dataclasses.astuple(features)] if features != NAMED_NONE else []
        grey = [reading.channels] if reading.channels else []
        known_by = array_cache.identity(files, place, images.VERSION, *chosen, *grey)
        sides = "×".join(map(str, dict.fromkeys(size or ["original"])))
        entry = f"{builder.info.full_name}/{split}-{sides}-{known_by}"
        arrays = array_cache.cached(
            cache / entry if cache else None,
            ("images", "labels"),
            lambda: _decode_split(builder, split, features, reading),
        )
        return arrays["images"], arrays["labels"]
    except OSError as error:
        raise UserError(
            f"split {split!r} of {builder.name!r} in {builder.data_path} cannot be read ({error}): "
            "copy the dataset there again, or remove it to prepare it anew"
        ) from error


def was_read_otherwise(builder: Any, part: tuple[str, int, int]) -> bool:
    """Return whether training in version 0.1.0 made different pixels of some image in a part of a split."""
    import tensorflow_datasets as tfds

    image_key = features_of(builder, NAMED_NONE).image
    split, start, stop = part
    source = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    files = (io.BytesIO(source[i][image_key]) for i in range(start, stop))
    return any(images.was_read_otherwise(Image.open(file)) for file in files)


def _decode_split(
    builder: Any, split: str, features: Features, reading: Reading
) -> Iterator[array_cache.Arrays]:
    import tensorflow_datasets as tfds

    features = features_of(builder, features)
    feature = builder.info.features[features.image]
    height, width, channels = feature.shape
    if reading.height_width:
        height, width = reading.height_width
    channels = reading.channels or channels
    if channels not in (1, 3):
        raise UserError(
            f"dataset {builder.name!r} has images of {channels} channels: --config.data.channels=3 reads "
            "them as RGB, 1 as grey"
        )
    if not (height and width):
        raise UserError(
            f"dataset {builder.name!r} has images of different sizes: "
            "--config.data.image_size=64 scales and crops all of them to 64×64"
        )
    is_float = feature.np_dtype == np.float32
    source = builder.as_data_source(split, decoders={features.image: tfds.decode.SkipDecoding()})
    shape = (height, width, channels)

    def decode(index: range) -> array_cache.Arrays:
        pixels, labels = np.empty((len(index), *shape), np.uint8), np.empty(len(index), np.int32)
        for place, record in enumerate(source.__getitems__(list(index))):
            try:
                image = images.opened(record[features.image])
                if is_float:
                    image = _float_image(image)
                pixels[place] = images.fit(image, shape)
            except Exception as error:
                raise UserError(
                    f"image {index[place]} of split {split!r} of {builder.name!r} in {builder.data_path} "
                    f"cannot be read: {images.reason(error)}"
                ) from error
            labels[place] = record[features.label]
        if (labels < 0).any():
            raise UserError(
                f"split {split!r} of {builder.name!r} holds examples without a label: name another split"
            )
        return {"images": pixels, "labels": labels}

    # Pillow decodes without the GIL. For thumbnails, however, most of the work holds the GIL, and two
    # threads that pass it to and fro take 1.4 times as long as one.
    small = height * width <= 64 * 64 and not reading.image_size
    threads = 1 if small else os.cpu_count() or 1
    words = f"decoding {builder.name} {split}"
    return decoded(decode, len(source), shape, threads, words)


def _float_image(image: Image.Image) -> Image.Image:
    """Return the floating-point image whose bytes TFDS has stored as the four channels of a PNG."""
    return Image.fromarray(np.asarray(image).view(np.float32)[..., 0])

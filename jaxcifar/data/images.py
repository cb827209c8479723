"""Finds image files, reads them, and fits them to the shape of the training images."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jaxcifar.errors import UserError


def fit(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Scale and crop an image as the training images were, to `shape`: height, width, channel.

    What is transparent becomes white; 16 bits a channel become eight; a camera's rotation is undone.

    Returns:
      [height, width, channel] uint8.
    """
    height, width, channels = shape
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float32)
        scale = 1.0 if values.max(initial=0) <= 255 else 1 / 257
        image = Image.fromarray(np.clip(values * scale + 0.5, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def find_images(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files among `paths`, and the images in the directories among them, by name.

    Raises:
      UserError: a directory holds no image.
    """
    known = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in known)
        if not found:
            raise UserError(f"{path} holds no image: name files, or a directory that holds some")
        yield from found


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image, fitted to `shape`.

    Raises:
      UserError: the file is not there, or no image that can be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                return fit(image, shape)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            limit = Image.MAX_IMAGE_PIXELS
            raise UserError(
                f"{path} is too large: at most {limit:,} pixels; make it smaller"
            ) from error
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist") from error
        except Exception as error:  # Pillow's readers raise whatever a broken file makes them raise
            reason = "no image that Pillow knows" if "cannot identify" in str(error) else error
            raise UserError(f"{path} cannot be read: {reason}") from error

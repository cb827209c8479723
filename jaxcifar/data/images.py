"""Finds image files, and turns images into pixels: in datasets, in folders and in prediction alike."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxcifar.errors import UserError

VERSION = 2
"""Of what `fit` returns for an image. Raise it with every change: arrays that were kept are decoded anew."""

_WIDE_INTEGER_FORMATS = ("PNG", "PPM")
"""Where Pillow reads 32-bit integers, 65,535 is white."""


def fit(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Turn an image into pixels of `shape`: height, width, channel.

    - An orientation tag (EXIF) is obeyed.
    - What is transparent is laid on white.
    - 16-bit grey: 65,535 becomes 255, whatever the largest value. Of 16-bit colours Pillow keeps the
      upper eight bits.
    - Floating point: 0 becomes 0 and 1 becomes 255.
    - Colour becomes grey by its luma (ITU-R 601-2); CMYK, palettes and other modes become RGB as Pillow
      converts them, without colour profiles.
    - An image of another size is scaled until it covers `shape` (bilinear), and cropped around its centre.

    Returns:
      [height, width, channel] uint8.

    Raises:
      UserError: the image has no pixels or too many, or values whose black and white are not known.
    """
    height, width, channels = shape
    pixels = image.width * image.height
    if not pixels:
        raise UserError(f"it has no pixels: {image.width}×{image.height}")
    if pixels > (Image.MAX_IMAGE_PIXELS or pixels):
        raise _too_large()
    format_, image = image.format, _upright(image)
    if image.mode[0] in "IF":
        image = _with_eight_bits(image, format_)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def was_read_otherwise(image: Image.Image) -> bool:
    """Return whether version 1 of `fit`, in training, made other pixels of an image."""
    if image.mode[0] in "IF" or image.has_transparency_data:
        return True
    if _orientation(image) != 1:
        image.load()  # Pillow itself turns a TIFF upright, and removes the tag
    return _orientation(image) != 1


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a tag that cannot be read; Pillow raises errors of several kinds
        return 1


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _with_eight_bits(image: Image.Image, format_: str | None) -> Image.Image:
    values, white = np.asarray(image), 65535.0
    if image.mode == "F":
        if not (values.min() >= 0 and values.max() <= 1):
            raise UserError(
                f"its floating-point values run from {values.min():.3g} to {values.max():.3g}: scale "
                "them so that 0 is black and 1 is white"
            )
        white = 1.0
    elif image.mode == "I" and format_ not in _WIDE_INTEGER_FORMATS:
        raise UserError(
            "its values are 32-bit integers, whose white is not known: save it with 8 or 16 bits"
        )
    pixels = (values * (255 / white) + 0.5).astype(np.uint8)
    pixels[values == image.info.get("transparency")] = 255
    return Image.fromarray(pixels)


def _too_large() -> UserError:
    return UserError(f"it is too large: at most {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller")


def find_images(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files among `paths`, and the images in the directories among them, by name.

    In a directory an image is a file that ends as one. The files `._NAME` are left out, which macOS puts
    beside others.

    Raises:
      UserError: a directory holds no image.
    """
    known = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112, Path.is_dir() raises where a directory above may not be read
            yield path
            continue
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in known
            and not file.name.startswith("._")
            and (file.is_file() or file.is_symlink())
            and not file.is_dir()
        )
        if not found:
            raise UserError(f"{path} holds no image: name files, or a directory that holds some")
        yield from found


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image, fitted to `shape`.

    Raises:
      UserError: the file is not there, or no image that can be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, a device never ends
            raise UserError("it is no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return fit(image, shape)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except Exception as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return why an image cannot be read, of what Pillow or the system raised, which can be anything."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image that Pillow knows"
    if isinstance(error, Image.DecompressionBombError):
        return str(_too_large())
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

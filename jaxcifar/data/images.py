"""Finds image files, and turns images into pixels: in datasets, in folders and in prediction alike."""

import functools
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxcifar.errors import UserError

VERSION = 2
"""The version of the pixels that `fit` returns. Raise it with every change: cached arrays are made anew."""

# `fit` raises an error for the images that Pillow warns of. A temporary filter would not be thread-safe.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_WIDE_INTEGER_FORMATS = ("PNG", "PPM")
"""The formats in which white is 65,535 in Pillow's 32-bit integers."""


def fit(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Turn an image into pixels of `shape`: height, width, channel.

    - An orientation tag (EXIF) is obeyed.
    - Transparent pixels, as far as Pillow knows them, are composited onto white.
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
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if not pixels:
        raise UserError(f"it has no pixels: {image.width}×{image.height}")
    if limit and pixels > limit:
        raise _too_large()
    image.load()
    turn = _turn(image)
    if image.mode[0] in "IF":
        image = _with_eight_bits(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.has_transparency_data and image.mode != "La":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    try:
        image = image.convert("L" if channels == 1 else "RGB")
    except ValueError as error:
        raise UserError(f"its mode, {image.mode}, cannot be converted: {error}") from error
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width of a loaded image as `fit` sees it, with its orientation tag obeyed."""
    height, width = image.height, image.width
    return (width, height) if _turn(image) in _ON_ITS_SIDE else (height, width)


def was_read_otherwise(image: Image.Image) -> bool:
    """Return whether training in version 0.1.0 made different pixels of an image."""
    if image.mode[0] in "IF":
        return True
    image.load()
    if image.has_transparency_data:
        opacity, _ = image.convert("RGBA").getchannel("A").getextrema()
        return opacity != 255 or _turn(image) is not None
    return _turn(image) is not None


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns each orientation upright."""


_ON_ITS_SIDE = {_TURNS[tag] for tag in (5, 6, 7, 8)}


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that turns a loaded image upright; Pillow turns a TIFF itself on loading.

    `ImageOps.exif_transpose` also rewrites all tags, and fails where another tag is damaged.
    """
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a tag that cannot be read; Pillow raises errors of several kinds
        return None


def _with_eight_bits(image: Image.Image) -> Image.Image:
    values, white = np.asarray(image), 65535.0
    if image.mode == "F":
        if not (values.min() >= 0 and values.max() <= 1):
            raise UserError(
                f"its floating-point values run from {values.min():.3g} to {values.max():.3g}: scale "
                "them so that 0 is black and 1 is white"
            )
        white = 1.0
    elif image.mode == "I" and image.format not in _WIDE_INTEGER_FORMATS:
        raise UserError(
            "its values are 32-bit integers, whose white is not known: save it with 8 or 16 bits"
        )
    pixels = (values * (255 / white) + 0.5).astype(np.uint8)
    pixels[values == image.info.get("transparency")] = 255
    return Image.fromarray(pixels)


def _too_large() -> UserError:
    return UserError(f"it is too large: at most {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller")


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of files that Pillow can open, such as `.png`, in lower case."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN)


_UNKNOWN_TO_PILLOW = {".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".svg"}
"""Suffixes of images, or of files that people take for images."""


def unknown_format(path: str | Path) -> str:
    """Return why a file that is an image by its name cannot be read; nothing if Pillow knows the format."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if suffix not in _UNKNOWN_TO_PILLOW:
        return ""
    return f"Pillow does not read {suffix[1:].upper()}: convert it to JPEG or PNG"


def find_images(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files among `paths`, and the images in the directories among them, by name.

    In a directory a file is an image by its suffix, even if Pillow does not read it. Files named `._NAME`,
    which macOS puts beside others, are left out. A directory without images is yielded itself.

    Raises:
      UserError: the only path is a directory without images.
    """
    known = suffixes()
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112, Path.is_dir() raises where a directory above may not be read
            yield path
            continue
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in known | _UNKNOWN_TO_PILLOW
            and not file.name.startswith("._")
            # Unlike Path's these raise nothing; a file that cannot be checked is reported when it is read.
            and (os.path.isfile(file) or not os.path.exists(file))  # noqa: PTH113
        )
        if not found and len(paths) == 1:
            raise UserError(f"{path} holds no image: name files, or a directory that holds some")
        yield from found or [path]  # which `read_image` names


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image, fitted to `shape`.

    Raises:
      UserError: the file does not exist, or cannot be read as an image.
    """
    if os.path.isdir(path):  # noqa: PTH112, as above
        raise UserError(f"{path} holds no image")
    try:
        return fit(opened(read_bytes(path)), shape)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except Exception as error:
        why = unknown_format(path) or reason(error)
        raise UserError(f"{path} cannot be read: {why}") from error


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
      UserError: it is a pipe, which would block, a device, which never ends, or the like.
      OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError("it is no regular file")
    return path.read_bytes()


def opened(data: bytes) -> Image.Image:
    """Open the image in a file's bytes; `fit` decodes it. Pillow raises errors of many kinds."""
    return Image.open(io.BytesIO(data))


def reason(error: Exception) -> str:
    """Return why an image cannot be read, from any error that Pillow or the system raised."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image that Pillow knows"
    if isinstance(error, Image.DecompressionBombError):
        return str(_too_large())
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

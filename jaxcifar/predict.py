"""Says what is on images, with a trained model.

python -m jaxcifar.predict --workdir=DIR [--json] [--top_k=K] IMAGE_OR_DIRECTORY ...

From Python: `from jaxcifar import Classifier; Classifier("runs/default")(images)`.
"""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxcifar.host.signals import Stopping

if __name__ == "__main__":
    Stopping()  # before the imports that take a while

import jax
import numpy as np
from absl import flags
from PIL import Image, ImageOps

from jaxcifar.config.saved_config import as_config
from jaxcifar.devices import runtime
from jaxcifar.devices.parallel import OverRows
from jaxcifar.errors import UserError
from jaxcifar.experiment import build as experiments
from jaxcifar.experiment import restore
from jaxcifar.experiment.build import DataFacts
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.step.steps import on_rows

_MOST_AT_ONCE = 256
"""Images; fewer are padded to a power of two, so that few programs are compiled."""


class Classifier:
    """Hold a trained model, and answer with probabilities."""

    def __init__(self, workdir: str | Path, step: int | None = None):
        """Restore the newest checkpoint in `workdir`, or that of `step`; nothing else is needed.

        Raises:
          UserError: there is no such checkpoint, or this machine cannot run it.
        """
        runtime.start()  # before Orbax asks JAX for its devices
        workdir = Path(workdir).expanduser()
        checkpoints = Checkpoints(workdir / "checkpoints")
        step = restore.chosen_step(checkpoints, workdir, step)
        description = checkpoints.description(step)
        config = as_config(description["config"])
        facts = DataFacts.from_json(description["facts"])
        layout = experiments.start_layout(config)
        experiment = experiments.build(config, facts, layout)
        self._state = restore.restore_for_inference(checkpoints, step, experiment, layout)
        checkpoints.close()
        self._layout = layout
        self._run = OverRows(on_rows(experiment.evaluation_step), layout, updates_state=False)
        self.class_names: tuple[str, ...] = facts.class_names
        self.image_shape: tuple[int, int, int] = facts.image_shape
        """Height, width, channel: what every image is made to fit."""

    def __call__(self, images: Any) -> np.ndarray:
        """Return how probable each class is.

        Args:
          images: [n, height, width, channel] uint8 of any height and width, one array, or a
            sequence of such images and of Pillow's.

        Returns:
          [n, class] float32; each row sums to 1.

        Raises:
          TypeError: these are no such images, or a single one.
        """
        if isinstance(images, Image.Image) or getattr(images, "ndim", 4) != 4:
            raise TypeError("images are several: [n, height, width, channel], or a list of them")
        fitted = [fit(_as_pillow(image), self.image_shape) for image in images]
        if not fitted:
            return np.zeros((0, len(self.class_names)), np.float32)
        chunks = range(0, len(fitted), _MOST_AT_ONCE)
        answers = [self._answer(np.stack(fitted[i : i + _MOST_AT_ONCE])) for i in chunks]
        return np.concatenate(jax.device_get(answers))[: len(fitted)]

    def _answer(self, images: np.ndarray) -> jax.Array:
        devices = len(self._layout.devices)
        rows = 1 << (len(images) - 1).bit_length()
        rows = -(-rows // devices) * devices
        padding = np.zeros((rows - len(images), *images.shape[1:]), np.uint8)
        data = (np.concatenate([images, padding]), np.zeros(rows, np.int32))
        data, order = self._layout.place((data, np.arange(rows, dtype=np.int32)[None]))
        return self._run(self._state, data, order, 0, 1).probabilities[: len(images)]


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


def _as_pillow(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | Path):
        raise TypeError(f"images are arrays or Pillow's, not paths: Image.open({str(image)!r})")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise TypeError(
            f"an image is [height, width, channel] uint8, from 0 to 255, not {list(pixels.shape)} "
            f"{pixels.dtype}"
        )
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


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


def _parse(argv: list[str]) -> tuple[flags.FlagValues, list[Path]]:
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "directory of the run", flag_values=values)
    flags.DEFINE_integer("step", None, "of the checkpoint; else the newest", flag_values=values)
    flags.DEFINE_integer(
        "top_k",
        3,
        "how many classes to name, the likeliest first",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool("json", False, "print one JSON object an image", flag_values=values)
    flags.DEFINE_bool("help", False, "show this", short_name="h", flag_values=values)
    try:
        paths = values(argv)[1:]
    except flags.Error as error:
        raise UserError(f"{str(error).splitlines()[0]} (--help lists the flags)") from error
    if not values.help:
        if values.workdir is None:
            raise UserError("--workdir is missing: the directory of a run, such as runs/default")
        if not paths:
            raise UserError("no image is named: name files, or directories that hold images")
    return values, [Path(path) for path in paths]


def main(argv: list[str]) -> int:
    """Answer for every image that can be read, and return the exit code."""
    try:
        values, paths = _parse(argv)
        if values.help:
            print(__doc__ + values.get_help(include_special_flags=False))
            return 0
        classifier = Classifier(values.workdir, values.step)
        unread = _answer_all(classifier, list(find_images(paths)), values)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 1 if unread else 0


def _answer_all(classifier: Classifier, files: list[Path], values: flags.FlagValues) -> int:
    """Print the answers, and return how many files could not be read."""
    unread = 0
    width = max(map(len, map(str, files)))
    for start in range(0, len(files), _MOST_AT_ONCE):
        read = []
        for path in files[start : start + _MOST_AT_ONCE]:
            try:
                image = Image.fromarray(read_image(path, classifier.image_shape))
                read.append((path, image))
            except UserError as error:
                print("error:", error, file=sys.stderr)
                unread += 1
        answers = classifier([image for _, image in read])
        for (path, _), probabilities in zip(read, answers, strict=True):
            best = np.argsort(-probabilities, kind="stable")[: values.top_k]
            named = [(classifier.class_names[i], float(probabilities[i])) for i in best]
            if values.json:
                answer = [{"class": name, "probability": share} for name, share in named]
                print(json.dumps({"file": str(path), "predictions": answer}))
            else:
                shares = "  ".join(f"{name} {share:.1%}" for name, share in named)
                print(f"{path!s:{width}}  {shares}")
    return unread


if __name__ == "__main__":
    sys.exit(main(sys.argv))

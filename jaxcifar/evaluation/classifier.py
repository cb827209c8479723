"""A trained model that answers with probabilities."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxcifar.data.images import fit
from jaxcifar.errors import UserError
from jaxcifar.evaluation.two_classes import positive_class
from jaxcifar.experiment.setup import set_up_from_workdir
from jaxcifar.host.files import expanded
from jaxcifar.step.evaluation_step import Answers

MOST_AT_ONCE = 256
"""Images; fewer are padded to a power of two, so that few programs are compiled."""


class Classifier:
    """Hold a trained model, and answer with probabilities."""

    def __init__(
        self, workdir: str | Path, step: int | None = None, *, convolutions: str | None = None
    ):
        """Restore the newest checkpoint in `workdir`, or that of `step`.

        Nothing else is needed, but modules of your own that the run names.

        On a CPU `convolutions` says by what it convolves: `auto`, `onednn` or `xla`; None for what the
        run's config says.

        Raises:
          UserError: there is no such checkpoint, or this machine cannot run it.
        """
        setup, self._state = set_up_from_workdir(expanded(workdir), step, convolutions=convolutions)
        self._layout = setup.layout
        self._run = setup.mapped(
            setup.experiment.evaluation_step, "evaluation", Answers.empty(), updates_state=False
        )
        self.class_names: tuple[str, ...] = setup.experiment.facts.class_names
        self.rarer_class = positive_class(setup.experiment.facts.class_counts)
        """Of two classes the one with fewer training examples, to which a threshold applies."""
        self.image_shape: tuple[int, int, int] = setup.experiment.facts.image_shape
        """Height, width, channel: what every image is made to fit."""

    def __call__(self, images: Any) -> np.ndarray:
        """Return how probable each class is.

        Args:
          images: [n, height, width, channel] uint8 of any height and width, one array, or a
            sequence of such images and of Pillow's.

        Returns:
          [n, class] float32; those of an image sum to 1.

        Raises:
          TypeError: these are no such images, or a single one.
          UserError: an image has no pixels or too many, or values whose black and white are not known.
        """
        if isinstance(images, Image.Image) or getattr(images, "ndim", 4) != 4:
            raise TypeError("images are several: [n, height, width, channel], or a list of them")
        fitted = [self._fit(place, image) for place, image in enumerate(images)]
        if not fitted:
            return np.zeros((0, len(self.class_names)), np.float32)
        chunks = range(0, len(fitted), MOST_AT_ONCE)
        answers = [self._answer(np.stack(fitted[i : i + MOST_AT_ONCE])) for i in chunks]
        return np.concatenate(jax.device_get(answers))[: len(fitted)]

    def _fit(self, place: int, image: Any) -> np.ndarray:
        try:
            return fit(_as_pillow(image), self.image_shape)
        except UserError as error:
            raise UserError(f"image {place} cannot be read: {error}") from error

    def _answer(self, images: np.ndarray) -> jax.Array:
        devices = len(self._layout.devices)
        padded = 1 << (len(images) - 1).bit_length()
        padded = -(-padded // devices) * devices
        padding = np.zeros((padded - len(images), *images.shape[1:]), np.uint8)
        data = (np.concatenate([images, padding]), np.zeros(padded, np.int32))
        data, order = self._layout.put((data, np.arange(padded, dtype=np.int32)[None]))
        return self._run(self._state, data, order, 0, 1).probabilities[0, : len(images)]


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

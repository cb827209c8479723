"""A trained model that answers with probabilities."""

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from PIL import Image

from jaxcifar.data.images import fit
from jaxcifar.errors import UserError, first_line
from jaxcifar.evaluation.two_classes import positive_class
from jaxcifar.experiment.setup import set_up_from_workdir
from jaxcifar.host.files import expanded
from jaxcifar.models.dense import Dense
from jaxcifar.step.batch import normalise, with_full_products
from jaxcifar.step.evaluation_step import Answers

MOST_AT_ONCE = 256
"""Images in a batch; fewer are padded to a power of two (and to a multiple of the devices), so that few
programs are compiled."""


class Classifier:
    """Hold a trained model, and answer with probabilities."""

    def __init__(
        self, workdir: str | Path, step: int | None = None, *, convolutions: str | None = None
    ):
        """Restore the newest checkpoint in `workdir`, or that of `step`.

        Nothing else is needed, except modules of your own that the run names.

        On a CPU, `convolutions` chooses the library for convolutions: `auto`, `onednn` or `xla`; None for
        the choice of the run's config.

        Raises:
          UserError: there is no such checkpoint, or this machine cannot run it.
        """
        setup, self._state = set_up_from_workdir(expanded(workdir), step, convolutions=convolutions)
        self._layout, self._experiment = setup.layout, setup.experiment
        self.step = int(self._state.step)
        """Of the checkpoint."""
        self.module: nn.Module = setup.experiment.model
        """The Linen module: `module.apply(variables, images, train=False)` returns logits of normalised
        images, [n, height, width, channel] float."""
        self.variables: dict[str, Any] = {
            "params": self._state.params,
            "batch_stats": self._state.batch_stats,
        }
        self._run = setup.mapped(
            setup.experiment.evaluation_step, "evaluation", Answers.empty(), updates_state=False
        )
        self.class_names: tuple[str, ...] = setup.experiment.facts.class_names
        self.rarer_class = positive_class(setup.experiment.facts.class_counts)
        """The one of two classes with fewer training examples, or the second; a threshold applies to it."""
        self.image_shape: tuple[int, int, int] = setup.experiment.facts.image_shape
        """Height, width, channel, to which every image is fitted."""

    def __call__(self, images: Any) -> np.ndarray:
        """Return the probability of each class.

        Args:
          images: one array [n, height, width, channel] uint8 of any height and width, or a sequence of
            such images and of Pillow images.

        Returns:
          [n, class] float32; the probabilities of an image sum to 1.

        Raises:
          TypeError: `images` is a single image, or holds something else.
          UserError: an image has no pixels or too many, or values whose range (black to white) is unknown.
        """
        return self._in_chunks(images, self._answer, (len(self.class_names),))

    def logits(self, images: Any) -> np.ndarray:
        """Return the logits, whose softmax is the probabilities: [n, class] float32; images as in a call."""
        return self._in_chunks(
            images, lambda chunk: self._passed(chunk)[0], (len(self.class_names),)
        )

    def features(self, images: Any) -> np.ndarray:
        """Return the input of the network's last dense layer: [n, feature] float32; images as in a call.

        Raises:
          UserError: the network does not end in a dense layer.
        """
        shape = (1, *self.image_shape)
        _, features = jax.eval_shape(
            self._forward, self.variables, jax.ShapeDtypeStruct(shape, np.uint8)
        )
        if features is None:
            raise UserError(
                f"{type(self.module).__name__} has no features: it does not end in a dense layer of Flax's, "
                "or of jaxcifar.models"
            )
        return self._in_chunks(images, lambda chunk: self._passed(chunk)[1], features.shape[1:])

    def _in_chunks(self, images: Any, function: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return `function(chunk)` of all images, chunk by chunk: [n, *shape] float32."""
        if isinstance(images, Image.Image | str | Path) or getattr(images, "ndim", 4) != 4:
            raise TypeError("images are several: [n, height, width, channel], or a list of them")
        fitted = [self._fit(place, image) for place, image in enumerate(images)]
        if not fitted:
            return np.zeros((0, *shape), np.float32)
        chunks = range(0, len(fitted), MOST_AT_ONCE)
        answers = [function(np.stack(fitted[i : i + MOST_AT_ONCE])) for i in chunks]
        return np.concatenate(jax.device_get(answers))

    def _passed(self, images: np.ndarray) -> tuple[jax.Array, jax.Array]:
        padded = _padded(images, 1 << (len(images) - 1).bit_length())
        logits, features = self._forward(self.variables, padded)
        return logits[: len(images)], features[: len(images)]

    @functools.cached_property
    def _forward(self) -> Any:
        """Return the function from `images: [n, height, width, channel] uint8` to logits and any features."""
        wide, facts, classes = (
            self._experiment.compute.wide,
            self._experiment.facts,
            len(self.class_names),
        )
        mean, std = np.asarray(facts.mean, wide), np.asarray(facts.std, wide)

        def forward(variables, images):
            taken = []

            def take(layer, args, kwargs, context):
                answer = layer(*args, **kwargs)
                if isinstance(context.module, nn.Dense | Dense) and answer.shape == (
                    len(images),
                    classes,
                ):
                    taken.append(args[0])
                return answer

            with nn.intercept_methods(take):
                normalised = normalise(images.astype(wide) / 255, mean, std)
                logits = self.module.apply(variables, normalised, train=False)
            return logits, taken[-1].astype(wide) if taken else None

        return jax.jit(with_full_products(forward))

    def _fit(self, place: int, image: Any) -> np.ndarray:
        try:
            return fit(_as_pillow(image), self.image_shape)
        except TypeError:
            raise
        except Exception as error:  # Pillow, which decodes only now, raises errors of several kinds
            raise UserError(f"image {place} cannot be read: {first_line(error)}") from error

    def _answer(self, images: np.ndarray) -> jax.Array:
        devices = len(self._layout.devices)
        padded = 1 << (len(images) - 1).bit_length()
        padded = -(-padded // devices) * devices
        data = (_padded(images, padded), np.zeros(padded, np.int32))
        data, order = self._layout.put((data, np.arange(padded, dtype=np.int32)[None]))
        return self._run(self._state, data, order, 0, 1).probabilities[0, : len(images)]


def _padded(images: np.ndarray, count: int) -> np.ndarray:
    """Return the images followed by black ones, `count` in all."""
    padding = np.zeros((count - len(images), *images.shape[1:]), np.uint8)
    return np.concatenate([images, padding])


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

"""Work in another thread during training: for the report, and what would delay the run's end."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxcifar.augment.augmentations import Examples
from jaxcifar.data.datasets import Dataset
from jaxcifar.experiment.setup import Setup

T = TypeVar("T")


class Background:
    """Run jobs in one other thread, one after the other, from the end of the first step on.

    Earlier jobs would delay that step: Python runs one thread at a time.
    """

    def __init__(self):
        self._executor = ThreadPoolExecutor(1, "background")
        self._begun = threading.Event()
        self._executor.submit(self._begun.wait)

    def submit(self, work: Callable[..., T], *arguments) -> Future[T]:
        """Queue `work(*arguments)` after the jobs submitted before."""
        return self._executor.submit(work, *arguments)

    def begin(self) -> None:
        """Begin the jobs: the first step is done, or the run is at its end."""
        self._begun.set()

    def finish(self) -> None:
        """Begin, and wait until all is done."""
        self.begin()
        self.submit(int).result()

    def close(self) -> None:
        """End after the job that is running; the others are cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self.begin()


def draw_augmented(setup: Setup, dataset: Dataset) -> dict[str, np.ndarray]:
    """Return eight training images and four draws of their augmentation, for the report.

    Returns:
      `images: [8, height, width, channel] uint8` and `augmented: [4, 8, height, width, channel]`.
    """
    images, labels = dataset.images[:8], dataset.labels[:8]

    def draw(key, epoch, images, labels):
        index = jnp.arange(len(images))
        targets = jax.nn.one_hot(labels, len(dataset.class_names))
        examples = Examples(images / jnp.float32(255), targets, index, epoch)
        drawn = setup.experiment.augment(key, index, examples).images
        return jnp.round(jnp.clip(drawn, 0, 1) * 255).astype(jnp.uint8)

    keys = jax.random.split(jax.random.key(setup.config.seed), 4)
    draws = jax.vmap(draw, (0, 0, None, None))
    augmented = setup.remembered(
        f"drawn augmentation {setup.config.seed}",
        lambda: setup.layout.run_aside(draws, keys, np.arange(4), images, labels),
    )
    return {"images": images, "augmented": augmented}

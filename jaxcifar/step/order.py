"""The pieces that the training loop is made of: order, pace, and sums between two records."""

import time
from typing import Any

import jax
import numpy as np

from jaxcifar.errors import UserError
from jaxcifar.step.counts import Counts


def epoch_order(seed: int, epoch: int, examples: int, batch_size: int) -> np.ndarray:
    """Shuffle an epoch: [steps, batch_size] int32 indices, each at most once.

    What is left over when `batch_size` does not divide `examples` is left out, another remainder
    in every epoch.
    """
    steps = examples // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def is_due(epochs_done: int, every: int, num_epochs: int) -> bool:
    """Return whether something is due after `epochs_done`: every so often, and after the last."""
    return epochs_done % every == 0 or epochs_done == num_epochs


def is_finite(tree: Any) -> bool:
    """Return whether no leaf of `tree`, NumPy arrays, holds an infinity or a NaN."""
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def diverged(what: str, step: int, learning_rate: float, saved: int) -> UserError:
    """Return the error for a run in which `what` is not finite; `saved` is the newest checkpoint's step."""
    kept = f"the checkpoint of step {saved} stays" if saved else "there is no checkpoint yet"
    return UserError(
        f"{what} is not finite after step {step}, at a learning rate of {learning_rate:.3g}; {kept}: "
        "lower --config.optimizer.learning_rate, lengthen --config.schedule.warmup_epochs or set "
        "--config.optimizer.clip_norm=1, in another --workdir"
    )


def prefixed(evaluated: dict[str, Counts]) -> dict[str, float]:
    """Return the metrics of several splits by name, as `test/accuracy`."""
    return {
        f"{split}/{name}": value
        for split, counts in evaluated.items()
        for name, value in counts.compute().items()
    }


class Interval:
    """Sum what was counted between two records."""

    def __init__(
        self, loss_sum: float = 0.0, correct: int = 0, seen: int = 0, seconds: float = 0.0
    ):
        """Begin, or go on from what `as_json` returned."""
        self._loss_sum, self._correct, self.seen = loss_sum, correct, seen
        self._began = time.monotonic() - seconds

    def add(self, counts: Counts) -> None:
        """Add the counts of one dispatch."""
        self._loss_sum += float(counts.loss_sum)
        self._correct += int(counts.correct)
        self.seen += int(counts.seen)

    def as_json(self) -> dict:
        """Return what a run that is cut off here goes on from."""
        return {
            "loss_sum": self._loss_sum,
            "correct": self._correct,
            "seen": self.seen,
            "seconds": time.monotonic() - self._began,
        }

    def metrics(self) -> dict[str, float]:
        """Return the metrics of what was added, with the images a second."""
        return {
            "train/loss": self._loss_sum / self.seen,
            "train/accuracy": self._correct / self.seen,
            "images_per_second": self.seen / (time.monotonic() - self._began),
        }

"""What is counted between two records."""

import time

from jaxcifar.step.counts import Counts


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

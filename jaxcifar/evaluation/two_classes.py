"""The scores of a threshold on the probability of one of two classes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxcifar.evaluation.analysis import Predictions, wilson_interval


@dataclasses.dataclass(frozen=True)
class Curve:
    """Hold true and false positives as a threshold on the scores of one class of two falls."""

    thresholds: np.ndarray
    """[points], falling; an example of at least this score is predicted positive."""
    true_positives: np.ndarray
    """[points] int."""
    false_positives: np.ndarray
    """[points] int."""
    positives: int
    negatives: int

    @classmethod
    def of(cls, scores: np.ndarray, is_positive: np.ndarray) -> "Curve":
        """Rank the examples by `scores: [n]`; `is_positive: [n] bool` has both values."""
        order = np.argsort(-scores, kind="stable")
        ranked, hits = scores[order], np.cumsum(is_positive[order])
        ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
        positives = int(is_positive.sum())
        return cls(
            ranked[ends], hits[ends], ends + 1 - hits[ends], positives, len(scores) - positives
        )

    @property
    def true_positive_rate(self) -> np.ndarray:
        """The recall of the class at each threshold."""
        return self.true_positives / self.positives

    @property
    def false_positive_rate(self) -> np.ndarray:
        """The share of the other class that is mistaken."""
        return self.false_positives / self.negatives

    @property
    def precision(self) -> np.ndarray:
        """The share of the examples predicted positive that are positive."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def roc_area(self) -> float:
        """The area under the ROC curve: how often a positive outscores a negative; ties count half."""
        x = np.concatenate([[0], self.false_positive_rate])
        y = np.concatenate([[0], self.true_positive_rate])
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))

    @property
    def average_precision(self) -> float:
        """The area under the precision-recall curve, as steps: the mean precision over the recalls."""
        recall = np.concatenate([[0], self.true_positive_rate])
        return float(np.sum(np.diff(recall) * self.precision))

    @property
    def best_threshold(self) -> float:
        """The threshold of the largest balanced accuracy, halfway to the next lower score."""
        best = int(np.argmax(self.true_positive_rate - self.false_positive_rate))
        below = self.thresholds[best + 1] if best + 1 < len(self.thresholds) else 0.0
        return float((self.thresholds[best] + below) / 2)


def positive_class(class_counts: Sequence[int]) -> int:
    """Return which of two classes is positive: the rarer one, or the second if both are equal."""
    return int(len(class_counts) == 2 and class_counts[1] <= class_counts[0]) if class_counts else 1


def scores_of(found: Predictions, positive: int) -> np.ndarray:
    """Return the probability of the class `positive` of two: [n]."""
    return np.where(found.predictions == positive, found.confidence, 1 - found.confidence)


def summarise(found: Predictions, positive: int, name: str, threshold: float | None) -> dict:
    """Return the entry of `evaluation.json` for two classes.

    Args:
      found: of a split that holds both classes.
      positive: the positive class.
      name: of this class.
      threshold: the least probability of an example that is predicted positive, chosen on another split;
        None for none.

    Returns:
      `positive`, the name of the class; `roc_area`; `average_precision`; and `at_threshold`, None without a
      threshold: the `threshold`, and at it the `recall` and `precision` with their intervals, the
      `specificity` (the recall of the other class) and the `balanced_accuracy`.
    """
    is_positive = found.labels == positive
    scores = scores_of(found, positive)
    curve = Curve.of(scores, is_positive)
    at = None
    if threshold is not None:
        taken = scores >= threshold
        hits = int((taken & is_positive).sum())
        recall = hits / curve.positives
        specificity = float((~taken & ~is_positive).sum() / curve.negatives)
        named = int(taken.sum())
        at = {
            "threshold": threshold,
            "recall": recall,
            "recall_interval": wilson_interval(hits, curve.positives),
            "precision": hits / max(named, 1),
            "precision_interval": wilson_interval(hits, named) if named else None,
            "specificity": specificity,
            "balanced_accuracy": (recall + specificity) / 2,
        }
    return {
        "positive": name,
        "roc_area": curve.roc_area,
        "average_precision": curve.average_precision,
        "at_threshold": at,
    }

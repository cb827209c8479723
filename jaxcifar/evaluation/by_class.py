"""Scores that weight every class equally, however many examples it has."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxcifar.evaluation.analysis import Predictions, per_class


@dataclasses.dataclass(frozen=True)
class ByClass:
    """Hold two scores that weight every class equally, each with the interval that holds the true score.

    The means are over the classes with examples; for the F1 score, also over classes with predictions only.
    The intervals hold 95% of a posterior distribution: the examples of each class are drawn from a population
    in which the shares of right and of each wrong prediction are unknown (Jeffreys' prior).
    """

    balanced_accuracy: float
    """The mean recall of the classes."""
    balanced_accuracy_interval: tuple[float, float]
    macro_f1: float
    """The mean F1 score of the classes."""
    macro_f1_interval: tuple[float, float]


def by_class(found: Predictions, classes: int, draws: int = 1000) -> ByClass:
    """Return scores that weight every class equally; deterministic."""
    examples = per_class(found, classes)["examples"]
    labels = np.flatnonzero(examples)
    named = (examples > 0) | (np.bincount(found.predictions, minlength=classes) > 0)
    hits = np.bincount(found.labels[found.right], minlength=classes)[labels]
    mistakes = (
        found.labels[~found.right].astype(np.int64) * classes + found.predictions[~found.right]
    )
    cells, counts = np.unique(mistakes, return_counts=True)
    label_of, prediction_of = np.divmod(cells, classes)

    def sums(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Add up `values: [draws, cell]` by class: [draws, class]."""
        found = np.zeros((classes, len(values)))
        np.add.at(found, where, values.T)
        return found.T

    def means(right: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both scores for `right: [draws, label]` and `wrong: [draws, cell]` examples."""
        hits = sums(right, labels)
        f1 = 2 * hits / np.maximum(examples + hits + sums(wrong, prediction_of), 1)
        return (right / examples[labels]).mean(1), f1[:, named].mean(1)

    (accuracy,), (f1,) = means(hits[None], counts[None])
    rng = np.random.default_rng(0)
    right, wrong = (
        rng.standard_gamma(shape, (draws, len(shape))) for shape in (hits + 0.5, counts)
    )
    unseen = rng.standard_gamma(0.5, right.shape)  # wrong in a way that was not seen
    scale = examples / np.maximum(sums(right + unseen, labels) + sums(wrong, label_of), 1e-300)
    drawn = means(right * scale[:, labels], wrong * scale[:, label_of])
    # The posterior of a score that is near 1 may lie below the score itself.
    accuracy_interval, f1_interval = (
        (min(float(low), float(score)), max(float(high), float(score)))
        for score, (low, high) in zip(
            (accuracy, f1), (np.quantile(each, (0.025, 0.975)) for each in drawn)
        )
    )
    return ByClass(float(accuracy), accuracy_interval, float(f1), f1_interval)


def is_unequal(examples: np.ndarray) -> bool:
    """Return whether the largest class has more than one and a half times the examples of the smallest."""
    return bool(np.max(examples) > 1.5 * np.min(examples))


def at_chance(evaluation: Mapping) -> str:
    """Return in words the chance level that an evaluation does not clearly exceed; empty if it does.

    Args:
      evaluation: what `evaluation.json` holds.
    """
    if evaluation.get("unequal_classes"):
        low, _ = evaluation["balanced_accuracy_interval"]
        chance = 1 / sum(score["examples"] > 0 for score in evaluation["per_class"])
        if low <= chance < 1:
            return f"naming one class for every image has a balanced accuracy of {chance:.2%}"
        return ""
    low, _ = evaluation["accuracy_interval"]
    if low <= (chance := evaluation.get("majority_accuracy", 0)) < 1:
        return f"naming the commonest class for every image has an accuracy of {chance:.2%}"
    return ""

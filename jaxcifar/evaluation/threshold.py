"""The decision between two classes, chosen on the training and the validation split before testing."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.evaluation.two_classes import Curve, positive_class
from jaxcifar.step.evaluation_step import Answers


def decision(
    class_counts: Sequence[int], validation: Dataset | None, answer: Callable[[Dataset], Answers]
) -> dict[str, Any]:
    """Choose on the validation split how to decide between two classes.

    Args:
      class_counts: training examples of each class; empty if unknown.
      validation: the validation split, if there is one.
      answer: returns the answers on it; called only if they are needed.

    Returns:
      The `positive` class and the `threshold`, None without a split to choose it, for `write_evaluation`.
    """
    positive = positive_class(class_counts)
    if (
        validation is None
        or len(validation.class_names) != 2
        or len(np.unique(validation.labels)) != 2
    ):
        return {"positive": positive, "threshold": None}
    scores = np.asarray(answer(validation).probabilities)[:, positive]
    curve = Curve.of(scores, validation.labels == positive)
    return {"positive": positive, "threshold": curve.best_threshold}

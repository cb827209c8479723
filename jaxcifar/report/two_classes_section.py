"""The part of a run's report on telling two classes apart; empty for other numbers of classes."""

from html import escape

import numpy as np
from matplotlib.figure import Figure

from jaxcifar.evaluation.two_classes import Curve, scores_of
from jaxcifar.report import plots
from jaxcifar.report.workdir_files import Run


def _curve(run: Run) -> Curve | None:
    two = run.evaluation.get("two_classes")
    if not two or run.predictions is None:
        return None
    positive = run.evaluation["class_names"].index(two["positive"])
    return Curve.of(scores_of(run.predictions, positive), run.predictions.labels == positive)


def roc(run: Run) -> Figure | None:
    """Plot the ROC curve: recall of the positive class against the false positive rate."""
    if (found := _curve(run)) is None:
        return None
    x, y = np.append(0, found.false_positive_rate), np.append(0, found.true_positive_rate)
    names = "share of the other class that is mistaken", "recall"
    return plots.rates(x, y, names, diagonal="a guess")


def precision_recall(run: Run) -> Figure | None:
    """Plot the precision of the positive class against its recall."""
    if (found := _curve(run)) is None:
        return None
    names = "recall", "precision"
    return plots.rates(found.true_positive_rate, found.precision, names)


def note(run: Run) -> str:
    """Return the areas under both curves, and the scores at the chosen threshold."""
    two = run.evaluation.get("two_classes")
    if not two:
        return ""
    text = (
        f"An image is taken for {escape(two['positive'])} if its probability reaches a threshold; along the "
        f"curves the threshold falls from 1 to 0. The area under the ROC curve is {two['roc_area']:.4f}, the "
        f"average precision {two['average_precision']:.4f}."
    )
    if not (at := two["at_threshold"]):
        return text + " With a validation split a threshold would be chosen."
    return (
        f"{text} At the threshold {at['threshold']:.3f}, which has the largest balanced accuracy on the "
        f"validation split, the recall is {at['recall']:.1%}, the precision {at['precision']:.1%} and the "
        f"balanced accuracy {at['balanced_accuracy']:.1%}."
    )

"""The plots of a run, from its workdir; None where a plot lacks data."""

import numpy as np
from matplotlib.figure import Figure

from jaxcifar.evaluation import analysis
from jaxcifar.report import plots
from jaxcifar.report.workdir_files import Run


def _splits(run: Run, metric: str) -> list[plots.Series]:
    found = [(split, *run.series(f"{split}/{metric}")) for split in ("validation", "test")]
    return [series for series in (_training(run, metric), *found) if series[1]]


def _training(run: Run, metric: str) -> plots.Series:
    """Return a training metric; a record of few steps, at an epoch's end, is averaged with the one before."""
    epochs, values, steps, before = [], [], [], 0
    for record in run.records:
        taken, before = record["step"] - before, record["step"]
        value = record[f"train/{metric}"]
        if values and record["epoch"] % 1 == 0 and taken < steps[-1] / 2:
            value = (value * taken + values.pop() * steps[-1]) / (taken + steps[-1])
            taken += steps.pop()
            epochs.pop()
        epochs.append(record["epoch"])
        values.append(value)
        steps.append(taken)
    return "train", epochs, values


def accuracy(run: Run) -> Figure | None:
    """Plot accuracies by epoch."""
    series = _splits(run, "accuracy")
    return plots.curves(series, name="accuracy", percent=True) if series else None


def loss(run: Run) -> Figure | None:
    """Plot losses by epoch."""
    series = _splits(run, "loss")
    return plots.curves(series, name="loss, nats") if series else None


def learning_rate(run: Run) -> Figure | None:
    """Plot the schedule."""
    epochs, rates = run.schedule
    return plots.curves([("", epochs, rates)], name="learning rate") if rates else None


MOST_NAMED_CLASSES = 100
"""With more classes, the report's plots name only the worst."""
_MOST_CELLS = 200
"""On a side of a confusion matrix; with more classes, a cell stands for several."""
WORST_CLASSES = 50


def classes_per_cell(run: Run) -> int:
    """Return how many classes make one cell of the confusion matrix."""
    return -(-len(run.evaluation["class_names"]) // _MOST_CELLS)


def confusion(run: Run) -> Figure | None:
    """Plot the confusion matrix; with many classes, a cell may stand for several."""
    if not run.evaluation:
        return None
    names = run.evaluation["class_names"]
    if len(names) <= MOST_NAMED_CLASSES:
        return plots.confusion(np.array(run.evaluation["confusion_matrix"]), names)
    if run.predictions is None:
        return None
    block = classes_per_cell(run)
    matrix = analysis.confusion_matrix(run.predictions, len(names), block)
    return plots.confusion_of_blocks(matrix, block)


def class_bars(run: Run) -> Figure | None:
    """Plot the scores of the classes; of many classes, only the worst."""
    if not run.evaluation:
        return None
    scores = sorted(run.evaluation["per_class"], key=lambda score: score["f1"])
    return plots.class_bars(scores if len(scores) <= MOST_NAMED_CLASSES else scores[:WORST_CLASSES])


def reliability(run: Run) -> Figure | None:
    """Plot accuracy by confidence."""
    return plots.reliability(analysis.calibration(run.predictions)) if run.predictions else None

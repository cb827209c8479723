"""Writes `evaluation.json`, and the arrays that belong to it."""

import csv
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.evaluation import analysis, two_classes
from jaxcifar.evaluation.analysis import Predictions
from jaxcifar.evaluation.by_class import by_class, is_unequal
from jaxcifar.host.files import write_arrays, write_json
from jaxcifar.step.evaluation_step import Answers

MOST_CLASSES_OF_A_MATRIX = 100
"""With more classes, `evaluation.json` holds no confusion matrix; `predictions.npz` determines it."""


_MOST_LOOKED_AT = 8
"""Images, mistakes first, whose Grad-CAM the report shows."""


def write_evaluation(  # noqa: PLR0913, all that is known of an evaluation
    folder: Path,
    dataset: Dataset,
    answers: Answers,
    augmented: Mapping[str, Answers],
    step: int,
    *,
    trained_on: int | None = 0,
    positive: int = 1,
    threshold: float | None = None,
    look: Callable[[np.ndarray], Mapping[str, np.ndarray]] = lambda images: {},
) -> dict:
    """Write `evaluation.json`, `predictions.npz` and `examples.npz`, and return the first.

    Where the examples are files, `predictions.csv` names them.

    Args:
      folder: where the files go; made if need be.
      dataset: the split that was evaluated.
      answers: on the whole split.
      augmented: the answers under test-time augmentations, by their names.
      step: of the evaluated state.
      trained_on: how many of the examples the state was trained on; None if unknown.
      positive: the positive class, if there are two.
      threshold: the least probability for predicting `positive`; None for none.
      look: returns filters, feature maps and Grad-CAM for some images, see `inside.look`.

    Returns:
      The contents of `evaluation.json`: `accuracy` is top-1 in [0, 1], `accuracy_interval` its 95% confidence
      interval, `majority_accuracy` the accuracy of naming the commonest class for every image, `loss` the
      mean cross-entropy in nats, `confusion_matrix` is [label, prediction] int, in the order of
      `class_names`, or None for more than 100 classes. `unequal_classes` says whether the largest class has
      more than one and a half times the examples of the smallest; `balanced_accuracy`, `macro_f1` and their
      intervals are as in `ByClass`; `two_classes` is the result of `two_classes.summarise`, None for other
      numbers of classes.
    """
    counts, labels = answers.counts, dataset.labels
    probabilities = np.asarray(answers.probabilities)
    found, classes = analysis.Predictions.of(probabilities, labels), len(dataset.class_names)
    correct, examples = int(counts.correct), int(counts.seen)
    scores, alike = analysis.per_class(found, classes), by_class(found, classes)
    intervals = analysis.intervals_per_class(found, classes)
    matrix = None
    if classes <= MOST_CLASSES_OF_A_MATRIX:
        matrix = analysis.confusion_matrix(found, classes).tolist()
    evaluation = {
        "dataset": dataset.name,
        "split": dataset.split,
        "step": step,
        "examples": examples,
        "examples_trained_on": trained_on,
        "correct": correct,
        **counts.compute(),
        "accuracy_interval": analysis.wilson_interval(correct, examples),
        "majority_accuracy": scores["examples"].max() / examples,
        "unequal_classes": is_unequal(scores["examples"]),
        **dataclasses.asdict(alike),
        "top_5_accuracy": analysis.top_k_accuracy(probabilities, labels, 5),
        "calibration_error": analysis.calibration(found).error,
        "test_time_augmentation": {
            name: {"correct": int(augmented.counts.correct), **augmented.counts.compute()}
            for name, augmented in augmented.items()
        },
        "two_classes": _two_classes(found, dataset, positive, threshold),
        "class_names": list(dataset.class_names),
        "per_class": [
            {"name": name}
            | {score: values[i].item() for score, values in scores.items()}
            | {f"{score}_interval": found[i] for score, found in intervals.items()}
            for i, name in enumerate(dataset.class_names)
        ],
        "confused_pairs": [
            {
                "classes": [dataset.class_names[pair.a], dataset.class_names[pair.b]],
                "counts": [pair.a_as_b, pair.b_as_a],
            }
            for pair in analysis.confused_pairs(found, 20)
        ],
        "confusion_matrix": matrix,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # If interrupted from here on, this leaves no evaluation, rather than one with the arrays of another.
    (folder / "evaluation.json").unlink(missing_ok=True)
    write_arrays(
        folder / "predictions.npz",
        probabilities=probabilities,
        **dataclasses.asdict(found),
        index=np.arange(examples),
    )
    worth = analysis.worth_seeing(found)
    shown = worth.all
    looked_at = np.concatenate([worth.mistakes, worth.right])[:_MOST_LOOKED_AT]
    examples = {"images": dataset.images[shown], "index": shown, "looked_at": looked_at}
    examples |= look(dataset.images[looked_at])
    (folder / "predictions.csv").unlink(missing_ok=True)
    if dataset.files:
        examples["files"] = np.array([dataset.files[index] for index in shown], str)
        _write_csv(folder / "predictions.csv", dataset, probabilities)
    write_arrays(folder / "examples.npz", **examples)
    write_json(folder / "evaluation.json", evaluation)
    return evaluation


def _write_csv(path: Path, dataset: Dataset, probabilities: np.ndarray) -> None:
    """Write a line for each file: its label, the likeliest class and how probable that is."""
    names, guesses = dataset.class_names, probabilities.argmax(1)
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["file", "label", "prediction", "probability"])
        lines.writerows(
            (name, names[label], names[guess], f"{share:.6f}")
            for name, label, guess, share in zip(
                dataset.files, dataset.labels, guesses, probabilities.max(1), strict=True
            )
        )


def _two_classes(
    found: Predictions, dataset: Dataset, positive: int, threshold: float | None
) -> dict | None:
    if len(dataset.class_names) != 2 or len(np.unique(found.labels)) != 2:
        return None
    return two_classes.summarise(found, positive, dataset.class_names[positive], threshold)

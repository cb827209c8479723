"""Writes `evaluation.json`, and the arrays that belong to it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.evaluation import analysis
from jaxcifar.host.files import write_arrays, write_json
from jaxcifar.step.evaluation_step import Answers

MOST_CLASSES_OF_A_MATRIX = 100
"""`evaluation.json` holds no confusion matrix of more classes; `predictions.npz` tells the same."""


def write_evaluation(
    folder: Path,
    dataset: Dataset,
    answers: Answers,
    augmented: Mapping[str, Answers],
    step: int,
    trained_on: int = 0,
) -> dict:
    """Write `evaluation.json`, `predictions.npz` and `examples.npz`, and return the first.

    Args:
      folder: where they go; made if need be.
      dataset: the split that was evaluated.
      answers: on the whole of it.
      augmented: the answers under test-time augmentations, by their names.
      step: of the state that answered.
      trained_on: how many of the examples the state was trained on.

    Returns:
      What `evaluation.json` holds: `accuracy` is top-1 in [0, 1], `accuracy_interval` what holds
      the true one with 95% confidence, `majority_accuracy` that of naming the commonest class
      for every image, `loss` the mean cross-entropy in nats, `confusion_matrix`
      is [label, prediction] int, in the order of `class_names`, or None for more than 100 classes.
    """
    counts, labels = answers.counts, dataset.labels
    probabilities = np.asarray(answers.probabilities)
    found, classes = analysis.Predictions.of(probabilities, labels), len(dataset.class_names)
    correct, examples = int(counts.correct), int(counts.seen)
    scores = analysis.per_class(found, classes)
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
        "top_5_accuracy": analysis.top_k_accuracy(probabilities, labels, 5),
        "calibration_error": analysis.calibration(found).error,
        "test_time_augmentation": {
            name: {"correct": int(augmented.counts.correct), **augmented.counts.compute()}
            for name, augmented in augmented.items()
        },
        "class_names": list(dataset.class_names),
        "per_class": [
            {"name": name} | {score: values[i].item() for score, values in scores.items()}
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
    # Cut off from here on there is no evaluation, rather than one with the arrays of another.
    (folder / "evaluation.json").unlink(missing_ok=True)
    write_arrays(
        folder / "predictions.npz",
        probabilities=probabilities,
        **dataclasses.asdict(found),
        index=np.arange(examples),
    )
    mistakes, of_pairs = analysis.worth_seeing(found)
    shown = np.unique(np.concatenate([mistakes, *of_pairs.values()]))
    write_arrays(folder / "examples.npz", images=dataset.images[shown], index=shown)
    write_json(folder / "evaluation.json", evaluation)
    return evaluation

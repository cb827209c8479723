"""Writes `evaluation.json`, and the arrays that belong to it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.evaluation import analysis
from jaxcifar.host.files import write_arrays, write_json
from jaxcifar.step.evaluation_step import Answers


def write_evaluation(
    workdir: Path,
    dataset: Dataset,
    answers: Answers,
    augmented: Mapping[str, Answers],
    step: int,
) -> dict:
    """Write `evaluation.json`, `predictions.npz` and `examples.npz`, and return the first.

    Args:
      workdir: where they go.
      dataset: the split that was evaluated.
      answers: on the whole of it.
      augmented: the answers under test-time augmentations, by their names.
      step: of the state that answered.

    Returns:
      What `evaluation.json` holds: `accuracy` is top-1 in [0, 1], `accuracy_interval` what holds
      the true one with 95% confidence, `loss` the mean cross-entropy in nats, `confusion_matrix`
      is [label, prediction] int, in the order of `class_names`.
    """
    counts, labels = answers.counts, dataset.labels
    probabilities, confusion = np.asarray(answers.probabilities), np.asarray(counts.confusion)
    correct, examples = int(counts.correct), int(counts.seen)
    pairs = analysis.confused_pairs(confusion)
    scores = analysis.per_class(confusion)
    evaluation = {
        "dataset": dataset.name,
        "split": dataset.split,
        "step": step,
        "examples": examples,
        "correct": correct,
        **counts.compute(),
        "accuracy_interval": analysis.wilson_interval(correct, examples),
        "top_5_accuracy": analysis.top_k_accuracy(probabilities, labels, 5),
        "calibration_error": analysis.calibration(probabilities, labels).error,
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
            for pair in pairs[:20]
        ],
        "confusion_matrix": confusion.tolist(),
    }
    index = np.arange(examples)
    # Cut off from here on there is no evaluation, rather than one with the arrays of another.
    (workdir / "evaluation.json").unlink(missing_ok=True)
    write_arrays(
        workdir / "predictions.npz", probabilities=probabilities, labels=labels, index=index
    )
    mistakes, of_pairs = analysis.worth_seeing(probabilities, labels)
    shown = np.unique(np.concatenate([mistakes, *of_pairs.values()]))
    write_arrays(workdir / "examples.npz", images=dataset.images[shown], index=shown)
    write_json(workdir / "evaluation.json", evaluation)
    return evaluation

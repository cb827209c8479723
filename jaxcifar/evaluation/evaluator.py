"""Evaluates a state on a whole split, and writes down what came of it."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.parallel import Layout, OverRows, one_behind
from jaxcifar.evaluation import analysis
from jaxcifar.host.files import write_arrays, write_json
from jaxcifar.step.counts import Counts
from jaxcifar.step.state import TrainState
from jaxcifar.step.steps import Answers, Step, on_rows


def padded_order(examples: int, batch_size: int) -> np.ndarray:
    """Return every index once, in order, in rows: [rows, batch_size] int32, padded with -1."""
    rows = -(-examples // batch_size)
    order = np.full(rows * batch_size, -1, np.int32)
    order[:examples] = np.arange(examples)
    return order.reshape(rows, batch_size)


class Evaluator:
    """Hold one split on the devices, and evaluate states on all of it."""

    def __init__(self, evaluation_step: Step, dataset: Dataset, layout: Layout, batch_size: int):
        """Place the split; `batch_size` is global, rounded up to a multiple of the devices."""
        devices = len(layout.devices)
        rows = min(batch_size, len(dataset))
        order = padded_order(len(dataset), -(-rows // devices) * devices)
        self._examples = len(dataset)
        self._data, self._order = layout.place(((dataset.images, dataset.labels), order))
        self._run = OverRows(on_rows(evaluation_step), layout, updates_state=False)

    def __call__(self, state: TrainState, between: Callable[[], None] = lambda: None) -> Answers:
        """Return the answers on every example, none left out or counted twice, as NumPy arrays.

        `probabilities` is [n, class] float. `between` is called after every batch, and may raise.
        """
        rows = range(len(self._order))
        parts = []
        for part in one_behind(
            self._run(state, self._data, self._order, row, row + 1) for row in rows
        ):
            parts.append(jax.device_get(part))
            between()
        counts = functools.reduce(Counts.merge, (part.counts for part in parts))
        assert counts.seen == self._examples, (counts.seen, self._examples)
        probabilities = np.concatenate([part.probabilities for part in parts])
        return Answers(counts, probabilities[: self._examples])


def write_evaluation(
    workdir: Path,
    answers: Answers,
    *,
    dataset: Dataset,
    augmented: Mapping[str, Answers],
    name: str,
    split: str,
    step: int,
) -> dict:
    """Write `evaluation.json`, `predictions.npz` and `examples.npz`, and return the first.

    Args:
      workdir: where they go.
      answers: on the whole of `dataset`.
      dataset: the split that was evaluated.
      augmented: the answers under test-time augmentations, by their names.
      name: of the dataset.
      split: as the config has it.
      step: of the state that answered.

    Returns:
      What `evaluation.json` holds: `accuracy` is top-1 in [0, 1], `accuracy_interval` what holds
      the true one with 95% confidence, `loss` the mean cross-entropy in nats, `confusion_matrix`
      counts examples by label (rows) and prediction (columns), in the order of `class_names`.
    """
    counts, probabilities, labels = answers.counts, answers.probabilities, dataset.labels
    correct, examples = int(counts.correct), int(counts.seen)
    pairs = analysis.confused_pairs(counts.confusion)
    scores = analysis.per_class(counts.confusion)
    evaluation = {
        "dataset": name,
        "split": split,
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
        "confusion_matrix": counts.confusion.tolist(),
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

"""Evaluates a run, plainly and under test-time augmentation, and writes down what came of it."""

from pathlib import Path

from jaxcifar.config.fields import Config
from jaxcifar.data.datasets import Dataset
from jaxcifar.evaluation.evaluation_files import write_evaluation
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.experiment import agreement
from jaxcifar.experiment.setup import Setup, load_split, set_up_from_workdir
from jaxcifar.step.evaluation_step import Answers
from jaxcifar.step.state import TrainState


def evaluate(config: Config, workdir: Path, step: int | None) -> dict | None:
    """Evaluate a checkpoint in `workdir` on `config.data.test_split`.

    Args:
      config: whole.
      workdir: of a run.
      step: of the checkpoint; None for the newest.

    Returns:
      What it wrote to `evaluation.json`, see `evaluation_files.write_evaluation`; None in the processes
      that write nothing, all but the first of several.

    Raises:
      UserError: there is no such checkpoint, or it, the config and the data do not go together.
    """
    setup, state, step = set_up_from_workdir(workdir, step, config)
    dataset = load_split(config, "test_split")
    agreement.check_same_classes(setup.experiment.facts, dataset)
    answers = Evaluator(setup, dataset)(state)
    return finish_evaluation(setup, workdir, dataset, answers, state, step)


def finish_evaluation(
    setup: Setup, workdir: Path, dataset: Dataset, answers: Answers, state: TrainState, step: int
) -> dict | None:
    """Evaluate under the config's test-time augmentation too, if it has one, and write all down.

    Args:
      setup: of the run.
      workdir: where it is written.
      dataset: the split.
      answers: plain ones, on the whole of it.
      state: the one that answered.
      step: of that state.

    Returns:
      As `evaluate`.
    """
    augmented = {}
    if (name := setup.config.evaluation.test_time_augmentation) != "none":
        augmented[name] = Evaluator(setup, dataset, augmented=True)(state)
    if not setup.layout.leads:
        return None
    return write_evaluation(workdir, dataset, answers, augmented, step)

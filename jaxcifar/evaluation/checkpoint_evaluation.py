"""Evaluates a checkpoint of a run, plainly and under test-time augmentation."""

from pathlib import Path

from ml_collections import ConfigDict

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.parallel import Layout
from jaxcifar.evaluation.evaluator import Evaluator, write_evaluation
from jaxcifar.experiment import build as experiments
from jaxcifar.experiment import restore
from jaxcifar.experiment.build import DataFacts, Experiment
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.step.state import TrainState
from jaxcifar.step.steps import Answers


def evaluate(config: ConfigDict, workdir: Path, step: int | None) -> dict | None:
    """Evaluate a checkpoint in `workdir` on `config.data.test_split`.

    Args:
      config: whole.
      workdir: of a run.
      step: of the checkpoint; None for the newest.

    Returns:
      What it wrote to `evaluation.json`, see `evaluate.write_evaluation`; None in the processes that
      write nothing, all but the first of several.

    Raises:
      UserError: there is no such checkpoint, or it, the config and the data do not go together.
    """
    experiments.check(config)
    layout = experiments.start_layout(config)  # before Orbax asks JAX for its devices
    checkpoints = Checkpoints(workdir / "checkpoints")
    step = restore.chosen_step(checkpoints, workdir, step)
    facts = DataFacts.from_json(checkpoints.description(step)["facts"])
    dataset = experiments.load_split(config, "test_split")
    restore.check_same_classes(facts, dataset)
    experiment = experiments.build(config, facts, layout)
    state = restore.restore_for_inference(checkpoints, step, experiment, layout)
    checkpoints.close()
    batch_size = config.evaluation.batch_size
    answers = Evaluator(experiment.evaluation_step, dataset, layout, batch_size)(state)
    augmented = evaluate_augmented(config, experiment, state, dataset, layout)
    if not layout.leads:
        return None
    return write_evaluation(
        workdir,
        answers,
        dataset=dataset,
        augmented=augmented,
        name=config.data.name,
        split=config.data.test_split,
        step=step,
    )


def evaluate_augmented(
    config: ConfigDict, experiment: Experiment, state: TrainState, dataset: Dataset, layout: Layout
) -> dict[str, Answers]:
    """Evaluate under the config's test-time augmentation, and return the answers by its name."""
    name = config.evaluation.test_time_augmentation
    if name == "none":
        return {}
    batch_size = config.evaluation.batch_size
    step = experiment.augmented_evaluation_step
    return {name: Evaluator(step, dataset, layout, batch_size)(state)}

"""Evaluates a run, plainly and under test-time augmentation, and writes the results."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from jaxcifar.config import checks
from jaxcifar.config.saved_config import get_config
from jaxcifar.config.schema import Config
from jaxcifar.data import datasets
from jaxcifar.data.datasets import Dataset
from jaxcifar.data.facts import fingerprint
from jaxcifar.evaluation.evaluation_files import write_evaluation
from jaxcifar.evaluation.inside import looker
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.evaluation.threshold import decision
from jaxcifar.evaluation.two_classes import positive_class
from jaxcifar.experiment import agreement
from jaxcifar.experiment.setup import Setup, load_split, set_up_from_workdir
from jaxcifar.host.progress import warn
from jaxcifar.step.state import TrainState


def evaluate(config: Config, workdir: Path, step: int | None) -> tuple[Path, dict] | None:
    """Evaluate a checkpoint in `workdir` on `config.data.test_split`.

    The files go to `workdir` for the run's own test split, and for another split or dataset to a directory
    of its own in `workdir/evaluations`.

    Args:
      config: of the evaluation, with the run's model.
      workdir: of a run.
      step: of the checkpoint; None for the newest.

    Returns:
      The directory, and the contents of its `evaluation.json`, see `evaluation_files.write_evaluation`; None
      in all processes but the first, which alone writes.

    Raises:
      UserError: there is no such checkpoint, or checkpoint, config and data do not go together.
    """
    setup, state = set_up_from_workdir(workdir, step, config)
    dataset = load_split(config, "test_split")
    agreement.check_same_classes(setup.experiment.facts, dataset)
    there = (workdir / "config.json").exists()
    own = agreement.saved_config(get_config(str(workdir)).to_dict(), workdir) if there else config
    trained_on = _count_trained_on(own, config, dataset, workdir)
    if setup.layout.leads:
        _warn(config, dataset, trained_on, earlier=not setup.experiment.facts.fingerprint)
    tested = _split_before(workdir, "test", dataset)
    folder, name = workdir, _name_if_not_own(own, config)
    if name and not (own.data.name == config.data.name and tested and tested["same"]):
        folder = workdir / "evaluations" / name
    elif setup.layout.leads:
        _warn_if_changed("test", tested, dataset)
    evaluator = Evaluator(setup, dataset)
    answers = evaluator(state)
    augmented = {name: views(state) for name, views in evaluator.augmented().items()}
    if folder == workdir:
        chosen = _decision(setup, config, workdir, state)
    else:
        chosen = _earlier_decision(setup, own, workdir, state, dataset)
    if not setup.layout.leads:
        return None
    step = int(state.step)
    look = looker(setup, state)
    return folder, write_evaluation(
        folder, dataset, answers, augmented, step, trained_on=trained_on, look=look, **chosen
    )


def _decision(setup: Setup, config: Config, workdir: Path, state: TrainState) -> dict[str, Any]:
    """Choose the positive one of two classes, and its threshold on the run's own validation split."""
    facts, validation = setup.experiment.facts, None
    if len(facts.class_names) == 2 and config.data.validation_split:
        validation = load_split(config, "validation_split")
        if setup.layout.leads:
            before = _split_before(workdir, "validation", validation)
            _warn_if_changed("validation", before, validation)
    return decision(
        facts.class_counts, validation, lambda validation: Evaluator(setup, validation)(state)
    )


def _earlier_decision(
    setup: Setup, own: Config, workdir: Path, state: TrainState, dataset: Dataset
) -> dict[str, Any]:
    """Return the choice of the run's own evaluation; no threshold for the examples that chose it."""
    threshold, validation = None, own.data.validation_split
    if not (dataset.name == own.data.name and dataset.split == validation):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            evaluation = json.loads((workdir / "evaluation.json").read_text())
            if evaluation["step"] == int(state.step):
                threshold = evaluation["two_classes"]["at_threshold"]["threshold"]
    positive = positive_class(setup.experiment.facts.class_counts)
    return {"positive": positive, "threshold": threshold}


def _split_before(workdir: Path, name: str, dataset: Dataset) -> dict[str, Any]:
    """Return the run's own split as `data.json` describes it, and whether it is the `same` now.

    Empty if `dataset` is of another split, or if nothing is known.
    """
    try:
        found = json.loads((workdir / "data.json").read_text())["splits"][name]
        if found["split"] != dataset.split:
            return {}
        return found | {"same": found["fingerprint"] == fingerprint(dataset)}
    except (OSError, ValueError, KeyError, TypeError):  # an earlier version has trained the run
        return {}


def _warn_if_changed(name: str, before: Mapping[str, Any], dataset: Dataset) -> None:
    if before and not before["same"]:
        warn(
            f"the {name} split has changed since the run was trained: it held "
            f"{sum(before['class_counts']):,} examples then, and holds {len(dataset):,}"
        )


def _warn(config: Config, dataset: Dataset, trained_on: int | None, *, earlier: bool) -> None:
    """Warn of what an evaluation cannot tell; `earlier` if version 0.1.0 trained the run."""
    where = f"{dataset.name}, split {dataset.split}"
    if trained_on:
        warn(
            f"{trained_on:,} of the {len(dataset):,} examples of {where}, are among those that the run "
            "was trained on: the result says little of new images"
        )
    of_tfds = not config.data.component
    if earlier and of_tfds and datasets.was_read_otherwise(dataset, config.data.data_dir):
        warn(
            f"{where}, holds images with 16 bits, transparency or an orientation tag, which version 0.1.0, "
            "under which the run was trained, read otherwise"
        )


def _name_if_not_own(own: Config, config: Config) -> str:
    """Return a name for an evaluation under `config`; none if it is on the test split of `own`."""
    data, split = config.data, config.data.test_split
    mine, other = _options(own, split), _options(config, split)
    if (own.data.name, own.data.test_split, mine) == (data.name, split, other):
        return ""
    options = [f"-{key}={value}" for key, value in other.items() if value != mine.get(key)]
    name = quote(f"{data.name}-{split}{''.join(options)}", safe="[]:+,=")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return name


_LONGEST_NAME = 150
"""Bytes; file systems allow 255."""


def _options(config: Config, split: str) -> dict:
    options = config.data.component.options if config.data.component else {}
    return datasets.options_of_split(options, split)


def _count_trained_on(own: Config, config: Config, dataset: Dataset, workdir: Path) -> int | None:
    """Return how many examples of the evaluated split the run was trained on, None if unknown.

    Files count as the same if their content is, wherever they lie.
    """
    if dataset.digests is not None:
        try:
            with np.load(workdir / "data.npz") as saved:
                return int(np.isin(dataset.digests, saved["digests"]).sum())
        except (OSError, KeyError, ValueError):
            return None
    split, data = config.data.test_split, (own.data, config.data)
    # The version in a TFDS name does not count.
    names = {each.name if each.component else each.name.partition(":")[0] for each in data}
    if len(names) > 1 or _options(own, split) != _options(config, split):
        return 0
    try:
        trained = datasets.parts(own.data.train_split, dataset.sizes)
    except datasets.SplitError:  # in another version of the dataset, say
        return 0
    return checks.count_shared(trained, dataset.parts)

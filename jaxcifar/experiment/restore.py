"""Whether a workdir can be gone on with, and how its newest checkpoint becomes a state again."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices import runtime
from jaxcifar.devices.parallel import Layout
from jaxcifar.errors import UserError
from jaxcifar.experiment.build import DataFacts, Experiment
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.progress import warn
from jaxcifar.step.order import Interval
from jaxcifar.step.state import TrainState

RESUMABLE = (
    "data.data_dir",
    "data.test_split",
    "data.validation_split",
    "logging",
    "evaluation",
    "checkpoint",
)
"""The fields and sections of a config that may differ when a run is resumed."""


def as_json(config: ConfigDict) -> dict:
    """Return the config as JSON gives it back: dicts and lists."""
    return json.loads(json.dumps(config.to_dict()))


def describe(config: ConfigDict, facts: DataFacts, interval: Interval) -> dict:
    """Return what is saved beside a state, for those who have nothing but the checkpoint."""
    return {
        "config": as_json(config),
        "facts": dataclasses.asdict(facts),
        "interval": interval.as_json(),
    }


def newest_whole(checkpoints: Checkpoints, workdir: Path) -> tuple[int, list[int]]:
    """Return the step of the newest checkpoint that is as it was written, 0 if there is none at all.

    Returns:
      That step, and those of newer ones, which are damaged and were warned of.

    Raises:
      UserError: there are checkpoints, and all are damaged.
    """
    steps = checkpoints.steps()
    faults = {}
    for step in reversed(steps):
        if (fault := checkpoints.fault(step)) is None:
            for damaged, fault in faults.items():
                warn(
                    f"checkpoint {damaged} in {workdir} is damaged ({fault}): using {step} instead"
                )
            return step, list(faults)
        faults[step] = fault
    if not steps:
        return 0, []
    listed = "; ".join(f"{step}: {fault}" for step, fault in faults.items())
    raise UserError(
        f"--workdir={workdir} holds no checkpoint that is whole ({listed}); all are left as they are: "
        "bring one back from a copy, or train anew in another --workdir"
    )


def chosen_step(checkpoints: Checkpoints, workdir: Path, step: int | None) -> int:
    """Return `step`, or if that is None the step of the newest whole checkpoint in `workdir`.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    steps = checkpoints.steps()
    if not steps:
        raise UserError(
            f"--workdir={workdir} holds no checkpoint: train one with "
            f"python -m jaxcifar.main --config=configs/default.py --workdir={workdir}, or name the "
            "workdir of a run"
        )
    if step is None:
        return newest_whole(checkpoints, workdir)[0]
    if step not in steps:
        raise UserError(
            f"--step={step}: --workdir={workdir} holds checkpoints of the steps "
            f"{', '.join(map(str, steps))} (--config.checkpoint.keep says how many are kept)"
        )
    if fault := checkpoints.fault(step):
        raise UserError(
            f"--step={step}: that checkpoint in --workdir={workdir} is damaged ({fault}): name "
            "another, or none for the newest that is whole"
        )
    return step


def restore_state(
    checkpoints: Checkpoints, step: int, experiment: Experiment, layout: Layout
) -> TrainState:
    """Restore a state to the devices of `layout`, whatever devices it was saved from."""
    image = jax.ShapeDtypeStruct((1, *experiment.facts.image_shape), np.uint8)
    like = jax.eval_shape(experiment.init_state, jax.random.key(0), image)
    return checkpoints.restore(step, like, layout.everywhere)


def restore_for_inference(
    checkpoints: Checkpoints, step: int, experiment: Experiment, layout: Layout
) -> TrainState:
    """Restore a state as `restore_state` does, and give up what only the optimiser needs of it."""
    return restore_state(checkpoints, step, experiment, layout).replace(opt_state=None)


def check_same_classes(facts: DataFacts, dataset: Dataset) -> None:
    """Check that a model of data with `facts` can be evaluated on `dataset`.

    Raises:
      UserError: the images have another shape, or the classes other names.
    """
    had, has = facts.image_shape, dataset.images.shape[1:]
    if had != has:
        raise UserError(
            f"the model was trained on images of {had} and the dataset has images of {has}: "
            "evaluate on a dataset with the same shape, or scale it with --config.data.image_size"
        )
    if facts.class_names != dataset.class_names:
        raise UserError(
            f"the model was trained on the classes {', '.join(facts.class_names[:5])} … and the "
            f"dataset has {', '.join(dataset.class_names[:5])} …: evaluate on one with the same classes"
        )


def check_same_run(config: ConfigDict, saved: Mapping, workdir: Path, *, extend: bool) -> None:
    """Check that going on in `workdir` under `config` is going on with the same run.

    Raises:
      UserError: the configs differ in more than how a run is logged, evaluated and saved; with
        `extend` the new `num_epochs` may be larger, too.
    """
    changed = differences(saved, as_json(config))
    longer = [line for line in changed if line.startswith("num_epochs:")]
    if extend and config.num_epochs < saved["num_epochs"]:
        raise UserError(
            f"--extend goes on to more epochs than the {saved['num_epochs']} of the run in "
            f"--workdir={workdir}, not to --config.num_epochs={config.num_epochs}"
        )
    if not changed or (extend and changed == longer):
        return
    remedy = "use that config, or another --workdir for this one"
    if changed == longer and config.num_epochs > saved["num_epochs"]:
        remedy += "; --extend goes on with it, under a schedule of the new length"
    raise UserError(
        f"--workdir={workdir} holds a run with another config ({'; '.join(changed)}): {remedy}"
    )


def check_same_data(facts: DataFacts, saved: Mapping, workdir: Path) -> None:
    """Check that the training split is still the one that the run in `workdir` began with.

    Raises:
      UserError: it is not.
    """
    then, now = dataclasses.asdict(DataFacts.from_json(saved)), dataclasses.asdict(facts)
    if changed := [
        f"{name}: {then[name]} -> {now[name]}" for name in now if then[name] != now[name]
    ]:
        raise UserError(
            f"--workdir={workdir} holds a run on other data ({'; '.join(changed)}): bring that data "
            "back, or use another --workdir"
        )


def check_processes_agree(config: ConfigDict, facts: DataFacts, step: int, recorded: bool) -> None:
    """Check that all processes of the run are about to do the same.

    Raises:
      UserError: they are not; in all of them.
    """
    standing = as_json(config), dataclasses.asdict(facts), step, recorded
    del standing[0]["data"]["data_dir"]
    if not runtime.all_agree(json.dumps(standing)):
        raise UserError(
            "the processes of this run differ in config, data or what they see in the workdir: start "
            "each with the same command, on the same data, and with --workdir in a file system that "
            "they share"
        )


def differences(old: Mapping, new: Mapping, prefix: str = "") -> list[str]:
    """Return `name: old -> new` for every field whose value differs, but for those `RESUMABLE`."""
    lines = []
    for name in sorted({*old, *new}):
        path, before, after = prefix + name, old.get(name), new.get(name)
        if path in RESUMABLE:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{path}.")
        elif before != after:
            lines.append(f"{path}: {before} -> {after}")
    return lines

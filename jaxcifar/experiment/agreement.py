"""Whether a config and its data are those of the run that a workdir holds."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from jaxcifar.config.fields import Config
from jaxcifar.config.saved_config import as_config
from jaxcifar.data.datasets import Dataset
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices.processes import all_agree
from jaxcifar.errors import UserError, first_line
from jaxcifar.experiment.saved_run import SavedRun

RESUMABLE = (
    *("data.data_dir", "data.cache_dir", "data.test_split", "data.validation_split"),
    *("logging", "evaluation", "checkpoint"),
)
"""The fields and sections of a config that may differ when a run is resumed."""


def as_json(config: Config) -> dict:
    """Return the config as JSON gives it back: dicts and lists.

    Raises:
      UserError: it holds what JSON does not.
    """
    try:
        return json.loads(json.dumps(config.to_dict()))
    except TypeError as error:
        raise UserError(
            f"the config cannot be saved ({first_line(error)}): each --config.key must hold a number, a "
            "text, true or false, or a tuple of these"
        ) from error


def describe(config: Config, facts: DataFacts, interval: dict) -> dict:
    """Return what is saved beside a state, for those who have nothing but the checkpoint."""
    return {
        "config": as_json(config),
        "facts": dataclasses.asdict(facts),
        "interval": interval,
    }


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


def check_same_config(config: Config, run: SavedRun, workdir: Path, *, extend: bool) -> None:
    """Check that going on in `workdir` under `config` is going on with the run that was saved there.

    Raises:
      UserError: the config cannot be saved, or the configs differ in more than how a run is logged,
        evaluated and saved; with `extend` the new `num_epochs` may be larger, too.
    """
    wanted = as_json(config)
    if not run.step:
        return
    saved = as_json(as_config(run.description["config"]))
    changed = differences(saved, wanted)
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


def check_same_data(
    facts: DataFacts, run: SavedRun, workdir: Path, read_otherwise: Callable[[], bool]
) -> None:
    """Check that the training split is still the one that the run in `workdir` began with.

    Args:
      facts: of the training split.
      run: what was saved.
      workdir: of the run.
      read_otherwise: tells whether the first version read pixels of the split otherwise; asked if the
        run was saved by that version.

    Raises:
      UserError: it is not.
    """
    if not run.step:
        return
    saved = DataFacts.from_json(run.description["facts"])
    then, now = dataclasses.asdict(saved), dataclasses.asdict(facts)
    before, after = then.pop("fingerprint"), now.pop("fingerprint")
    changed = [f"{name}: {then[name]} -> {now[name]}" for name in now if then[name] != now[name]]
    if before and before != after and not changed:
        changed = ["its pixels, its labels or their order have changed"]
    if not before and read_otherwise():
        raise UserError(
            f"--workdir={workdir} holds a run of version 0.1.0 on images with 16 bits, transparency or an "
            "orientation tag, which this version reads otherwise: go on with that version, or train anew in "
            "another --workdir"
        )
    if changed:
        raise UserError(
            f"--workdir={workdir} holds a run on other data ({'; '.join(changed)}): bring that data back, "
            "or use another --workdir"
        )


def check_processes_agree(config: Config, facts: DataFacts, run: SavedRun) -> None:
    """Check that all processes of the run are about to do the same.

    Raises:
      UserError: they are not; in all of them.
    """
    standing = as_json(config), dataclasses.asdict(facts), run.step, run.unrecorded
    for place in ("data_dir", "cache_dir"):
        del standing[0]["data"][place]
    if not all_agree(json.dumps(standing)):
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

"""Checks whether a config and its data match the run in a workdir."""

import dataclasses
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxcifar.config import components
from jaxcifar.config.fields import fields
from jaxcifar.config.reader import read_config
from jaxcifar.config.schema import Config
from jaxcifar.data.datasets import Dataset
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices.processes import all_agree
from jaxcifar.errors import UserError
from jaxcifar.experiment.saved_run import SavedRun
from jaxcifar.host.progress import warn
from jaxcifar.options import Mark


def describe(config: Config, facts: DataFacts, steps_per_dispatch: int, interval: dict) -> dict:
    """Return what is saved beside a state, so that a checkpoint can be used by itself."""
    return {
        "config": config.whole,
        "modules": components.hashes(config.components),
        "facts": dataclasses.asdict(facts),
        "steps_per_dispatch": steps_per_dispatch,
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


def saved_config(saved: dict, workdir: Path) -> Config:
    """Read the config of the run in `workdir`.

    Raises:
      UserError: it cannot be read, for example because a module of the user's own is missing.
    """
    try:
        return read_config(saved)
    except UserError as error:
        raise UserError(f"the run in --workdir={workdir}: {error}") from error


def check_same_model(config: Config, own: Config, workdir: Path) -> None:
    """Check that `config` has the model of the run in `workdir`, whose config is `own`.

    Raises:
      UserError: the models or their options differ.
    """
    changed = [line for line in differences(own, config) if line.startswith("model.")]
    if changed:
        raise UserError(
            f"--workdir={workdir} holds a run with another model ({'; '.join(changed)}): leave these fields "
            "as they are there"
        )


def check_same_config(config: Config, run: SavedRun, workdir: Path, *, extend: bool) -> None:
    """Check that `config` continues the run that is saved in `workdir`.

    Raises:
      UserError: the configs differ in more than how a run is logged, evaluated and saved; with `extend`
        the new `num_epochs` may be larger, too.
    """
    if not run.step:
        return
    saved = saved_config(run.description["config"], workdir)
    changed = differences(saved, config)
    longer = [line for line in changed if line.startswith("num_epochs:")]
    if extend and config.num_epochs < saved.num_epochs:
        raise UserError(
            f"--extend goes on to more epochs than the {saved.num_epochs} of the run in "
            f"--workdir={workdir}, not to --config.num_epochs={config.num_epochs}"
        )
    if not changed or (extend and changed == longer):
        return
    free = shlex.quote(str(_free_workdir(workdir, _changes(saved, config))))
    remedy = f"use that config, or another --workdir for this one, such as --workdir={free}"
    if changed == longer and config.num_epochs > saved.num_epochs:
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
      read_otherwise: returns whether the first version read other pixels from the split; called only if
        that version saved the run.

    Raises:
      UserError: it is not.
    """
    if not run.step:
        return
    saved = DataFacts.from_json(run.description["facts"])
    then, now = dataclasses.asdict(saved), dataclasses.asdict(facts)
    before, after = then.pop("fingerprint"), now.pop("fingerprint")
    del then["class_counts"], now["class_counts"]  # which an earlier version has not saved
    changed = [f"{name}: {then[name]} -> {now[name]}" for name in now if then[name] != now[name]]
    if before and before != after:
        # Mean and standard deviation follow from the pixels.
        changed = [line for line in changed if not line.startswith(("mean:", "std:"))]
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


def check_processes_agree(
    config: Config, facts: DataFacts, run: SavedRun, profile: int | None
) -> None:
    """Check that all processes of the run are about to do the same.

    Raises:
      UserError: they are not; all processes raise it.
    """
    whole = {
        path: value
        for path, value in fields(config.whole)
        if Mark.PATH not in config.marks.get(path, ()) and not isinstance(value, Mapping)
    }
    modules = components.hashes(config.components)
    standing = whole, modules, dataclasses.asdict(facts), run.step, run.unrecorded, profile
    if not all_agree(json.dumps(standing)):
        raise UserError(
            "the processes of this run differ in config, data, --profile or what they see in the "
            "workdir: start each with the same command, on the same data, and with --workdir in a file "
            "system that they share"
        )


def differences(old: Config, new: Config) -> list[str]:
    """Return `path: old -> new`, sorted, for every difference that makes another run."""
    return [f"{path}: {was} -> {now}" for path, was, now in _changes(old, new)]


def _changes(old: Config, new: Config) -> Iterator[tuple[str, Any, Any]]:
    before, after, marks = old.effective(), new.effective(), old.marks | new.marks
    for path in sorted({*before, *after}):
        if marks.get(path):
            continue
        if path.endswith(".enabled"):
            was, now = before.get(path, False), after.get(path, False)
        elif path in before and path in after:
            was, now = before[path], after[path]
        else:  # an option of a component that only one of them has chosen
            continue
        if was != now:
            yield path, was, now


def _free_workdir(workdir: Path, changes: Iterable[tuple[str, Any, Any]]) -> Path:
    """Return a directory beside `workdir` that does not exist, named after the changes."""
    if workdir.name in ("", ".."):
        workdir = workdir.resolve()
    parts = []
    for path, _, now in changes:
        *_, owner, name = ["", *path.split(".")]
        text = ",".join(map(str, now)) if isinstance(now, tuple) else str(now)
        words = {"name": text, "enabled": owner if now else f"no-{owner}"}
        parts.append(words.get(name, f"{name}={text}"))
    change = re.sub(r"[^\w.,=-]+", "-", "-".join(parts))[:_LONGEST_CHANGE]
    name = f"{workdir.name}-{change}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in map(workdir.with_name, names) if not os.path.exists(path))


_LONGEST_CHANGE = 60
"""Characters, of the name of a directory that a person will type."""


def warn_of_changed_modules(config: Config, description: dict) -> None:
    """Warn of each module of the user's own that has changed since a checkpoint was saved.

    Args:
      config: of the run; its modules are imported.
      description: what was saved beside the checkpoint's state.
    """
    now = components.hashes(config.components)
    for module, then in description.get("modules", {}).items():
        if now.get(module, then) != then:
            warn(
                f"{module} has changed since the checkpoint of step {description['step']} was saved: it may "
                "compute something else"
            )

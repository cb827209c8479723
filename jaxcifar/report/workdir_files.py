"""Reads the files in the workdir of a run."""

import dataclasses
import functools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcifar.data.datasets import options_of_split
from jaxcifar.errors import UserError
from jaxcifar.evaluation.analysis import Predictions
from jaxcifar.host.files import expanded, near_runs, read_records


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold the contents of a workdir; each file is read on first access, and empty if it does not exist yet.

    Neither JAX nor the run's data are needed.

    Raises:
      UserError: there is no run in `workdir`, or its config cannot be read; or later, on access to a file
        that cannot be read.
    """

    workdir: Path
    """The directory of the run; a string will do."""
    name: str = ""
    """By default, the name of the directory."""

    def __post_init__(self):
        workdir = expanded(self.workdir)
        if not (workdir / "config.json").is_file():
            raise UserError(
                f"{workdir} holds no run to report on: {near_runs(workdir)}name the directory of one, which "
                "training makes"
            )
        object.__setattr__(self, "workdir", workdir)
        object.__setattr__(self, "name", self.name or workdir.resolve().name)
        _ = self.config

    @functools.cached_property
    def config(self) -> dict:
        """The contents of `config.json`."""
        return _read(_json, self.workdir / "config.json")

    @functools.cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """The values of all records, by name such as `train/loss`: [record] float; NaN where missing."""
        names = dict.fromkeys(name for record in self.records for name in record)
        return {
            name: np.array([record.get(name, np.nan) for record in self.records], float)
            for name in names
        }

    @functools.cached_property
    def summary(self) -> dict:
        """The contents of `run.json`."""
        return _read(_json, self.workdir / "run.json")

    @functools.cached_property
    def records(self) -> list[dict]:
        """The records of `metrics.jsonl`."""
        return _read(read_records, self.workdir / "metrics.jsonl")

    @functools.cached_property
    def evaluation(self) -> dict:
        """The contents of `evaluation.json`."""
        return _read(_json, self.workdir / "evaluation.json")

    @functools.cached_property
    def other_evaluations(self) -> Mapping[str, dict]:
        """The evaluations on other splits and datasets, by directory name."""
        files = sorted((self.workdir / "evaluations").glob("*/evaluation.json"))
        return {file.parent.name: found for file in files if (found := _read(_json, file))}

    @functools.cached_property
    def predictions(self) -> Predictions | None:
        """The evaluation's predictions; None without an evaluation, as the file is then of an aborted one."""
        file = self.workdir / "predictions.npz"
        return _read(_predictions, file) if self.evaluation else None

    @functools.cached_property
    def examples(self) -> Mapping[str, np.ndarray]:
        """The evaluated examples that the report shows, with their images."""
        return _read(_arrays, self.workdir / "examples.npz") if self.predictions else {}

    @functools.cached_property
    def augmentation(self) -> Mapping[str, np.ndarray]:
        """Training images, and augmented draws of them."""
        return _read(_arrays, self.workdir / "augmentation.npz")

    @functools.cached_property
    def data(self) -> dict:
        """The contents of `data.json`."""
        return _read(_json, self.workdir / "data.json")

    @functools.cached_property
    def data_examples(self) -> Mapping[str, np.ndarray]:
        """An image of each class."""
        return _read(_arrays, self.workdir / "data.npz")

    @functools.cached_property
    def profile(self) -> dict:
        """The contents of `profile.json`."""
        return _read(_json, self.workdir / "profile.json")

    @property
    def step(self) -> int:
        """The step of the newest record."""
        return self.records[-1]["step"] if self.records else 0

    @property
    def training_seconds(self) -> float:
        """Seconds spent in training steps, however often the run was cut off."""
        images, before = self.config["batch_size"], 0
        seconds = 0.0
        for record in self.records:
            seconds += (record["step"] - before) * images / record["images_per_second"]
            before = record["step"]
        return seconds

    def fact(self, key: str, form: Callable[[Any], str] = str) -> str:
        """Return the value of `key` in `run.json` as text; empty if there is no such file."""
        if not self.summary:
            return ""
        value = self.summary[key]
        return "not known" if value is None else form(value)

    @property
    def fields(self) -> dict[str, str]:
        """The effective settings as JSON, by command-line name; all settings for an earlier version's run."""
        return as_fields(self.summary.get("config") or self.config)

    @property
    def all_fields(self) -> dict[str, str]:
        """All settings as JSON, by command-line name."""
        return as_fields(self.config)

    @property
    def on_own_test_split(self) -> bool:
        """Whether the evaluation is on the config's test split; earlier versions kept one on any split."""
        data = self.config["data"]
        evaluated = self.evaluation["dataset"], self.evaluation["split"]
        return evaluated == (data["name"], data["test_split"])

    @property
    def tested_on(self) -> str:
        """The dataset, its options if it has some, and the split of the evaluation.

        A split of files is identified by their contents, wherever they lie.
        """
        name, split = self.evaluation["dataset"], self.evaluation["split"]
        known = self.data.get("splits", {}).get("test", {})
        if name == "folder" and known.get("split") == split:
            return f"{name}, split {split}, {known['fingerprint']}"
        options = {
            path.rpartition(".")[2]: value
            for path, value in self.fields.items()
            if path.startswith((f"data.{name}.", "data.options."))
        }
        words = (f"{key} {value}" for key, value in options_of_split(options, split).items())
        return ", ".join([name, *words, f"split {split}"])

    @property
    def schedule(self) -> tuple[list[float], list[float]]:
        """Epochs and their learning rates; for a run of an earlier version, only the recorded ones."""
        planned = self.summary.get("schedule")
        return (
            (planned["epoch"], planned["learning_rate"])
            if planned
            else self.series("learning_rate")
        )

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Return the epochs at which a metric is known, and its values there."""
        known = [record for record in self.records if key in record]
        return [record["epoch"] for record in known], [record[key] for record in known]


def mega(value: float) -> str:
    """Return `value` in millions, to one decimal."""
    return f"{value / 1e6:,.1f}"


def as_fields(settings: Mapping) -> dict[str, str]:
    """Return the settings of a config as JSON, by their names on the command line."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in _flattened(settings)}


def _flattened(fields, prefix=""):
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _read(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read ({error}): start the training command again, which writes it anew"
        ) from error


def _json(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def _predictions(path: Path) -> Predictions | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as saved:
        if "predictions" not in saved:  # an earlier version
            return Predictions.of(saved["probabilities"], saved["labels"])
        return Predictions(saved["labels"], saved["predictions"], saved["confidence"])


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return dict(np.load(path, allow_pickle=False)) if path.exists() else {}

"""Reads what a run has left in its workdir."""

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcifar.errors import UserError
from jaxcifar.evaluation.analysis import Predictions
from jaxcifar.host.files import read_records


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold what a workdir holds; what is not there yet is empty."""

    name: str
    settings: dict
    summary: dict
    records: list[dict]
    evaluation: dict
    other_evaluations: Mapping[str, dict]
    """On other splits and datasets, by the names of their directories."""
    predictions: Predictions | None
    examples: Mapping[str, np.ndarray]
    augmentation: Mapping[str, np.ndarray]

    @property
    def step(self) -> int:
        """The newest step of which anything is known."""
        return self.records[-1]["step"] if self.records else 0

    @property
    def training_seconds(self) -> float:
        """Seconds spent in training steps, however often the run was cut off."""
        images, before = self.settings["batch_size"], 0
        seconds = 0.0
        for record in self.records:
            seconds += (record["step"] - before) * images / record["images_per_second"]
            before = record["step"]
        return seconds

    def fact(self, key: str, form: Callable[[Any], str] = str) -> str:
        """Return what `run.json` says of `key` in words; nothing if there is no such file."""
        if not self.summary:
            return ""
        value = self.summary[key]
        return "not known" if value is None else form(value)

    @property
    def fields(self) -> dict[str, str]:
        """The settings by their names on the command line, as JSON."""
        return dict(_flattened(self.settings))

    @property
    def on_own_test_split(self) -> bool:
        """Whether the evaluation is on the test split that the config names; earlier versions kept any."""
        data = self.settings["data"]
        evaluated = self.evaluation["dataset"], self.evaluation["split"]
        return evaluated == (data["name"], data["test_split"])

    @property
    def tested_on(self) -> str:
        """The dataset, its options if it is a built-in one, and the split of the evaluation."""
        data, found = self.settings["data"], self.evaluation
        name, split = found.get("dataset", data["name"]), found.get("split", data["test_split"])
        options = [f"{key} {value}" for key, value in data.get(name, {}).items()]
        return ", ".join([name, *options, f"split {split}"])

    @property
    def schedule(self) -> tuple[list[float], list[float]]:
        """Epochs, and the learning rates there; of an earlier version, as far as they were recorded."""
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
    """Return millions, to the tenth."""
    return f"{value / 1e6:,.1f}"


def _flattened(fields, prefix=""):
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value, ensure_ascii=False)


def load(workdir: Path) -> Run:
    """Read what a run has left so far.

    Raises:
      UserError: there is no run in `workdir`, or a file of it cannot be read.
    """
    if not (workdir / "config.json").is_file():
        raise UserError(
            f"{workdir} holds no run to report on: name the directory of one, which "
            "python -m jaxcifar.main --config=configs/default.py makes"
        )
    evaluation = _read(_json, workdir / "evaluation.json")
    # Without it they are of an evaluation that was cut off.
    predictions = _read(_predictions, workdir / "predictions.npz") if evaluation else None
    others = sorted((workdir / "evaluations").glob("*/evaluation.json"))
    return Run(
        name=workdir.resolve().name,
        settings=_read(_json, workdir / "config.json"),
        summary=_read(_json, workdir / "run.json"),
        records=_read(read_records, workdir / "metrics.jsonl"),
        evaluation=evaluation,
        other_evaluations={path.parent.name: _read(_json, path) for path in others},
        predictions=predictions,
        examples=_read(_arrays, workdir / "examples.npz") if predictions else {},
        augmentation=_read(_arrays, workdir / "augmentation.npz"),
    )


def _read(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, or evaluate again") from error


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

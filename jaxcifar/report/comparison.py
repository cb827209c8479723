"""Makes one page that puts several runs side by side, of what they have left in their workdirs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxcifar.errors import UserError
from jaxcifar.report import html_pieces, plots, workdir_files
from jaxcifar.report.workdir_files import Run


def write_comparison(workdirs: Sequence[Path], page: Path) -> Path:
    """Write a page that puts runs side by side, and return it.

    Raises:
      UserError: as `workdir_files.load`, or the page cannot be written.
    """
    runs = [workdir_files.load(workdir) for workdir in workdirs]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        runs = [
            dataclasses.replace(run, name=str(path))
            for run, path in zip(runs, workdirs, strict=True)
        ]
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(html_pieces.page("Comparison", _comparison_body(runs)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out={page} cannot be written ({error}): name another file") from error
    return page


def _comparison_body(runs: Sequence[Run]) -> str:
    head = [run.name for run in runs]
    known = [
        (name, [fact(run) for run in runs])
        for name, fact in _COMPARED.items()
        if any(fact(run) for run in runs)
    ]
    parts = ["<header><h1>Comparison</h1></header>"]
    parts.append(f"<section><h2>Results</h2>{html_pieces.table(known, head)}</section>")
    curves = {
        "test/accuracy": ("accuracy on the test split", True),
        "test/loss": ("loss on the test split, nats", False),
        "train/loss": ("training loss, nats", False),
        "learning_rate": ("learning rate", False),
    }
    figures = []
    for key, (name, percent) in curves.items():
        series = [(run.name, *found) for run in runs if (found := run.series(key))[0]]
        if series:
            title = f"{name[0].upper()}{name[1:]}"
            figures.append(
                html_pieces.plot(plots.curves(series, name=name, percent=percent), title)
            )
    if figures:
        parts.append(f"<section><h2>Curves</h2>{html_pieces.grid(figures)}</section>")
    differing = []
    for name in dict.fromkeys(name for run in runs for name in run.fields):
        values = [run.fields.get(name, "–") for run in runs]
        if len(set(values)) > 1:
            differing.append((name, values))
    table = html_pieces.table(differing, head) or '<p class="note">The configs are the same.</p>'
    parts.append(f"<section><h2>What their configs differ in</h2>{table}</section>")
    return "".join(parts)


def _accuracy(run: Run) -> str:
    if not run.evaluation:
        return ""
    low, high = run.evaluation["accuracy_interval"]
    return f"{run.evaluation['accuracy']:.2%} ({low:.2%} to {high:.2%})"


def _evaluated(key: str, form: str):
    return lambda run: form.format(run.evaluation[key]) if run.evaluation else ""


_COMPARED = {
    "accuracy (95% interval)": _accuracy,
    "under test-time augmentation": lambda run: ", ".join(
        f"{found['accuracy']:.2%} ({name})"
        for name, found in run.evaluation.get("test_time_augmentation", {}).items()
    ),
    "top 5": _evaluated("top_5_accuracy", "{:.2%}"),
    "loss": _evaluated("loss", "{:.4f}"),
    "calibration error": _evaluated("calibration_error", "{:.2%}"),
    "dataset": _evaluated("dataset", "{}"),
    "split": _evaluated("split", "{}"),
    "examples": _evaluated("examples", "{:,}"),
    "epochs done": lambda run: f"{run.records[-1]['epoch']:.4g}" if run.records else "",
    "parameters": lambda run: run.fact("parameters", "{:,}".format),
    "MFLOP an image": lambda run: run.fact("forward_flops", workdir_files.mega),
    "time in training steps": lambda run: (
        html_pieces.duration(run.training_seconds) if run.records else ""
    ),
    "devices": lambda run: run.fact("devices"),
    "processor": lambda run: run.fact("processor"),
}
"""What the table of a comparison holds: functions of a run, which give "" where nothing is known."""

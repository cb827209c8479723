"""Makes one page that compares several runs, from the files in their workdirs."""

import dataclasses
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from jaxcifar.errors import UserError
from jaxcifar.host.progress import warn
from jaxcifar.report import html_pieces, plots, score_sections, seeds_section, workdir_files
from jaxcifar.report.results_section import rarest_class
from jaxcifar.report.workdir_files import Run


def write_comparison(workdirs: Sequence[Path], page: Path) -> Path:
    """Write a page that compares runs, and return its path.

    Raises:
      UserError: as for `Run`, a run is named twice, or the page cannot be written.
    """
    runs = [Run(workdir) for workdir in workdirs]
    if len({run.workdir.resolve() for run in runs}) < len(runs):
        raise UserError("a run is named twice: name each directory once")
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
    part, section = html_pieces.part, html_pieces.section
    curves = html_pieces.grid(
        part(name, lambda key=key, form=form: _curves(runs, key, **form))
        for key, (name, form) in _CURVES.items()
    )
    differing = part("Differences", lambda: _differences(runs))
    return "".join(
        [
            "<header><h1>Comparison</h1></header>",
            section(
                "Results",
                part("Mixed", lambda: _mixed(runs)),
                part("Warnings", lambda: seeds_section.warnings(runs)),
                part("Difference", lambda: seeds_section.compared(runs)),
                part("Seeds", lambda: seeds_section.table(runs)),
                part("Table", lambda: _table(runs)),
            ),
            section("Curves", curves, note=part("Note", lambda: _curves_note(runs))),
            section("What their configs differ in", differing),
        ]
    )


def _mixed(runs: Sequence[Run]) -> str:
    """Return a warning if the runs are not evaluated on the same examples."""
    tested_on = {run.name: run.tested_on for run in runs if run.evaluation}
    if len(set(tested_on.values())) <= 1:
        return ""
    listed = "; ".join(f"{name} on {examples}" for name, examples in tested_on.items())
    warn(f"the runs are not evaluated on the same examples ({listed})")
    return (
        '<p class="failed">The runs are not evaluated on the same examples, so that their results do not '
        f"tell which is better: {escape(listed)}.</p>"
    )


def _table(runs: Sequence[Run]) -> str:
    known = [
        (name, [fact(run) for run in runs])
        for name, fact in _COMPARED.items()
        if any(fact(run) for run in runs)
    ]
    alike = {name: values[0] for name, values in known if len(set(values)) == 1}
    differing = [entry for entry in known if entry[0] not in alike]
    listed = "; ".join(f"{name} {value}" for name, value in alike.items())
    note = f'<p class="note">The same in all: {escape(listed)}.</p>' if alike else ""
    return html_pieces.table(differing, [run.name for run in runs]) + note


_CURVES = {
    "test/accuracy": ("Accuracy on the test split", {"name": "accuracy", "percent": True}),
    "test/loss": ("Loss on the test split, nats", {"name": "loss, nats"}),
    "train/loss": ("Training loss, nats", {"name": "loss, nats"}),
    "learning_rate": ("Learning rate", {"name": "learning rate"}),
}
"""By metric: the title, and the arguments of its plot."""


def _curves_note(runs: Sequence[Run]) -> str:
    notes = [score_sections.loss_note(run) for run in runs]
    if any(run.evaluation.get("unequal_classes") for run in runs):
        notes.insert(
            0, "The accuracies are plain ones: on unequal classes the better run may look worse."
        )
    return "".join(dict.fromkeys(notes))


def _curves(runs: Sequence[Run], metric: str, **form: Any) -> str:
    find = (
        (lambda run: run.schedule)
        if metric == "learning_rate"
        else (lambda run: run.series(metric))
    )
    series = [(run.name, *found) for run in runs if (found := find(run))[0]]
    recipes = [seeds_section.recipe(run) for run in runs if find(run)[0]]
    title, _ = _CURVES[metric]
    different = list(dict.fromkeys(recipes))
    kinds = [different.index(recipe) for recipe in recipes] if len(different) > 1 else ()
    return html_pieces.plot(plots.curves(series, kinds=kinds, **form), title) if series else ""


def _differences(runs: Sequence[Run]) -> str:
    # Runs of earlier versions do not record which fields count.
    known = all(run.summary.get("config") for run in runs)
    fields = [run.fields if known else run.all_fields for run in runs]
    differing = []
    for name in dict.fromkeys(name for each in fields for name in each):
        values = [each.get(name, "–") for each in fields]
        if len(set(values)) > 1:
            differing.append((name, values))
    table = html_pieces.table(differing, [run.name for run in runs])
    return table or '<p class="note">The configs are the same.</p>'


def _evaluated(key: str, form: str):
    return lambda run: form.format(run.evaluation[key]) if run.evaluation else ""


def _alike(run: Run, score: str) -> str:
    """Return a score that weights every class equally; empty unless the classes are unequal."""
    unequal = run.evaluation.get("unequal_classes")
    return html_pieces.with_interval(run.evaluation, score) if unequal else ""


def _of_two(run: Run, form: str) -> str:
    two = run.evaluation.get("two_classes")
    return form.format_map(two) if two else ""


_COMPARED = {
    "balanced accuracy (95% interval)": lambda run: _alike(run, "balanced_accuracy"),
    "found of the rarest class": lambda run: (
        "{1} ({0})".format(*rarest_class(run.evaluation))
        if run.evaluation.get("unequal_classes")
        else ""
    ),
    "macro-F1 (95% interval)": lambda run: _alike(run, "macro_f1"),
    "accuracy (95% interval)": lambda run: (
        html_pieces.with_interval(run.evaluation) if run.evaluation else ""
    ),
    "validation accuracy": lambda run: (
        "" if (found := seeds_section.validation_accuracy(run)) is None else f"{found:.2%}"
    ),
    "under test-time augmentation": lambda run: ", ".join(
        f"{found['accuracy']:.2%} ({name})"
        for name, found in run.evaluation.get("test_time_augmentation", {}).items()
    ),
    "area under the ROC curve": lambda run: _of_two(run, "{roc_area:.4f} ({positive})"),
    "average precision": lambda run: _of_two(run, "{average_precision:.4f} ({positive})"),
    "top 5": lambda run: (
        f"{run.evaluation['top_5_accuracy']:.2%}"
        if len(run.evaluation.get("class_names", ())) > 10
        else ""
    ),
    "loss": _evaluated("loss", "{:.4f}"),
    "calibration error": _evaluated("calibration_error", "{:.2%}"),
    "dataset": _evaluated("dataset", "{}"),
    "split": _evaluated("split", "{}"),
    "examples": _evaluated("examples", "{:,}"),
    "evaluated step": _evaluated("step", "{:,}"),
    "epochs done": lambda run: f"{run.records[-1]['epoch']:.4g}" if run.records else "",
    "parameters": lambda run: run.fact("parameters", "{:,}".format),
    "MFLOP an image": lambda run: run.fact("forward_flops", workdir_files.mega),
    "time in training steps": lambda run: (
        html_pieces.duration(run.training_seconds) if run.records else ""
    ),
    "devices": lambda run: run.fact("devices"),
    "processor": lambda run: run.fact("processor"),
}
"""By title, the entries of the comparison table: functions of a run; "" where nothing is known."""

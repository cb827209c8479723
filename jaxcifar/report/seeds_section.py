"""The part of a comparison that groups runs which differ only in their seeds."""

import statistics
from collections.abc import Callable, Sequence
from html import escape

from jaxcifar.evaluation import difference
from jaxcifar.evaluation.difference import Difference
from jaxcifar.report import html_pieces
from jaxcifar.report.workdir_files import Run

_NOT_COUNTED = (
    *("seed", "convolutions", "logging.", "checkpoint."),
    *("evaluation.every_epochs", "evaluation.batch_size"),
    *("data.data_dir", "data.cache_dir", "data.resident_bytes", "data.folder.path"),
)
"""Fields, and sections, in which runs of one config may differ."""


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the evaluated runs, grouped by config; the runs of a group differ in their seeds."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        if run.evaluation:
            key = recipe(run), run.tested_on, run.evaluation["step"]
            groups.setdefault(key, []).append(run)
    return list(groups.values())


def recipe(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the fields in which runs of one config agree."""
    fields = run.fields.items()
    return tuple(sorted(field for field in fields if not field[0].startswith(_NOT_COUNTED)))


def table(runs: Sequence[Run]) -> str:
    """Return a table with a line for each config; empty if no config was run under several seeds."""
    groups = grouped(runs)
    if all(len(group) == 1 for group in groups):
        return ""
    known = [
        title
        for title, (find, _) in _SCORES.items()
        if any(find(run) is not None for group in groups for run in group)
    ]
    entries = (
        (
            _name(group),
            [str(len(group)), *(_spread(group, *_SCORES[title]) for title in known)],
        )
        for group in groups
    )
    note = (
        '<p class="note">Runs that differ in the seed alone are taken together: mean ± standard deviation '
        "over n runs.</p>"
    )
    return note + html_pieces.table(entries, ["n", *known])


def compared(runs: Sequence[Run]) -> str:
    """Compare the accuracy of the first run, or config, with each of the others, where that is possible."""
    first, *others = grouped(runs) or [[]]
    return "".join(_compared(first, other) for other in others)


def _compared(a: Sequence[Run], b: Sequence[Run]) -> str:
    if len(a) > 1 and len(b) > 1:
        accuracies = ([run.evaluation["accuracy"] for run in group] for group in (a, b))
        how = f"Welch's test over {len(a)} and {len(b)} runs"
        return _sentence(_name(a), _name(b), difference.of_runs(*accuracies), how)
    if len(a) == len(b) == 1 and (found := _of_examples(a[0], b[0])):
        how = "McNemar's exact test, on the same examples; other seeds may differ by more"
        return _sentence(_name(a), _name(b), found, how)
    return ""


def _of_examples(a: Run, b: Run) -> Difference | None:
    """Compare two runs by the examples that only one gets right; None unless both saw the same examples."""
    if a.tested_on != b.tested_on or a.predictions is None or b.predictions is None:
        return None
    if a.predictions.labels.tolist() != b.predictions.labels.tolist():
        return None
    return difference.of_examples(a.predictions.right, b.predictions.right)


def _sentence(a: str, b: str, found: Difference, how: str) -> str:
    low, high = found.interval
    told = "This does not show a difference." if low <= 0 <= high else "They differ."
    p_value = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    return (
        f"<p>Accuracy of {escape(a)}, minus that of {escape(b)}: <b>{found.value * 100:+.2f} points</b> "
        f"(95% interval {low * 100:+.2f} to {high * 100:+.2f}; {how}: {p_value}). {told}</p>"
    )


def _name(group: Sequence[Run]) -> str:
    names = [run.name for run in group]
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"


def _spread(group: Sequence[Run], find: Callable[[Run], float | None], form: str) -> str:
    """Return mean and standard deviation of a score, of the runs that have it."""
    values = [value for run in group if (value := find(run)) is not None]
    if not values:
        return ""
    mean = format(statistics.fmean(values), form)
    return f"{mean} ± {format(statistics.stdev(values), form)}" if len(values) > 1 else mean


def validation_accuracy(run: Run) -> float | None:
    """Return the newest accuracy on the validation split, None without one."""
    _, values = run.series("validation/accuracy")
    return values[-1] if values else None


_SCORES: dict[str, tuple[Callable[[Run], float | None], str]] = {
    "test accuracy": (lambda run: run.evaluation["accuracy"], ".2%"),
    "balanced accuracy": (
        lambda run: (
            run.evaluation["balanced_accuracy"] if run.evaluation.get("unequal_classes") else None
        ),
        ".2%",
    ),
    "validation accuracy": (validation_accuracy, ".2%"),
    "test loss": (lambda run: run.evaluation["loss"], ".4f"),
}
"""By title: a function that returns a run's score, or None if it has none, and the score's format."""

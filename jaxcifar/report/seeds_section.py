"""The part of a comparison that groups runs which differ only in their seeds."""

import statistics
from collections.abc import Callable, Sequence
from html import escape

from jaxcifar.evaluation import difference
from jaxcifar.evaluation.analysis import Predictions
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
    """Compare the score of the first run, or config, with each of the others, where that is possible.

    The score is the accuracy, or the balanced accuracy where the classes are unequal.
    """
    first, *others = grouped(runs) or [[]]
    return "".join(_compared(first, other) for other in others)


def _compared(a: Sequence[Run], b: Sequence[Run]) -> str:
    unequal = all(run.evaluation.get("unequal_classes") for run in (*a, *b))
    score = "balanced_accuracy" if unequal else "accuracy"
    if len(a) > 1 and len(b) > 1:
        found = difference.of_runs(*([run.evaluation[score] for run in group] for group in (a, b)))
        how = f"Welch's test over {len(a)} and {len(b)} runs"
    elif len(a) == len(b) == 1 and (of_both := _on_same_examples(a[0], b[0])):
        ours, theirs = of_both
        found = (
            difference.of_classes(ours.right, theirs.right, ours.labels)
            if unequal
            else difference.of_examples(ours.right, theirs.right)
        )
        test = "McNemar's test by class" if unequal else "McNemar's exact test"
        how = f"{test}, on the same examples; other seeds may differ by more"
    else:
        return ""
    low, high = found.interval
    told = "This does not show a difference." if low <= 0 <= high else "They differ."
    p_value = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    return (
        f"<p>{score.replace('_', ' ').capitalize()} of {escape(_name(a))}, minus that of {escape(_name(b))}: "
        f"<b>{found.value * 100:+.2f} points</b> (95% interval {low * 100:+.2f} to {high * 100:+.2f}; {how}: "
        f"{p_value}). {told}</p>"
    )


def _on_same_examples(a: Run, b: Run) -> tuple[Predictions, Predictions] | None:
    """Return the predictions of both runs; None unless both saw the same examples."""
    if a.tested_on != b.tested_on or a.predictions is None or b.predictions is None:
        return None
    same = a.predictions.labels.tolist() == b.predictions.labels.tolist()
    return (a.predictions, b.predictions) if same else None


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
    """Return the validation accuracy at the evaluated step, else the newest; None without such a split."""
    known = [record for record in run.records if "validation/accuracy" in record]
    evaluated = [record for record in known if record["step"] == run.evaluation.get("step")]
    return (evaluated or known)[-1]["validation/accuracy"] if known else None


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

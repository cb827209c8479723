"""The part of a comparison that groups runs which differ only in their seeds."""

import statistics
from collections.abc import Callable, Sequence
from html import escape

from jaxcifar.evaluation import difference
from jaxcifar.evaluation.analysis import Predictions
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
    """Return the evaluated runs, grouped by config; the runs of a group have different seeds."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        if run.evaluation:
            key = recipe(run), run.tested_on, run.evaluation["step"]
            group = groups.setdefault(key, [])
            if run.config["seed"] not in (other.config["seed"] for other in group):
                group.append(run)
    return list(groups.values())


def recipe(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the fields in which runs of one config agree, with the precision and the user's own modules."""
    fields = [field for field in run.fields.items() if not field[0].startswith(_NOT_COUNTED)]
    computed = (
        ("precision", run.summary.get("precision")),
        ("modules", run.summary.get("modules") or {}),
    )
    return tuple(sorted([*fields, *((name, str(value)) for name, value in computed)]))


def warnings(runs: Sequence[Run]) -> str:
    """Return what sets runs of one config apart that should differ in their seeds alone."""
    groups = grouped(runs)
    counted = {run.name for group in groups for run in group}
    told = []
    if again := [run.name for run in runs if run.evaluation and run.name not in counted]:
        told.append(
            f"{', '.join(again)}: not counted, because another run has the same config and seed"
        )
    for group in groups:
        codes = {start["code"] for run in group for start in run.summary.get("starts", ())}
        if len(codes) > 1:
            told.append(f"{_name(group)}: trained by different code ({'; '.join(map(str, codes))})")
    return "".join(f'<p class="failed">{escape(line)}.</p>' for line in told)


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

    The score is the accuracy, or the balanced accuracy where the classes are unequal. Of several comparisons
    each counts at its share of 5% (Bonferroni).
    """
    first, *others = grouped(runs) or [[]]
    found = [each for other in others if (each := _difference(first, other))]
    note = ""
    if len(found) > 1:
        note = (
            f'<p class="note">Of {len(found)} comparisons each shows a difference only if p is below 5% / '
            f"{len(found)}.</p>"
        )
    return "".join(_sentence(*each, 0.05 / len(found)) for each in found) + note


def _difference(a: Sequence[Run], b: Sequence[Run]) -> tuple[str, str, str, Difference, str] | None:
    """Return both names, the score, the first's less the second's, and how it was tested."""
    unequal = all(run.evaluation.get("unequal_classes") for run in (*a, *b))
    score = "balanced_accuracy" if unequal else "accuracy"
    if len(a) > 1 and len(b) > 1:
        found = difference.of_runs(*([run.evaluation[score] for run in group] for group in (a, b)))
        how = f"by Welch's test over {len(a)} and {len(b)} runs"
    elif len(a) == len(b) == 1 and (of_both := _on_same_examples(a[0], b[0])):
        ours, theirs = of_both
        found = (
            difference.of_classes(ours.right, theirs.right, ours.labels)
            if unequal
            else difference.of_examples(ours.right, theirs.right)
        )
        test = "a test by class" if unequal else "McNemar's exact test"
        how = f"by {test} on the same examples, under one seed each"
    else:
        return None
    return _name(a), _name(b), score.replace("_", " "), found, how


def _sentence(a: str, b: str, score: str, found: Difference, how: str, level: float) -> str:
    value, (low, high) = found.value, found.interval
    if value < 0:
        a, b, value, low, high = b, a, -value, -high, -low
    differ = found.p_value < level and low > 0
    told = "They differ." if differ else "This does not show a difference."
    p_value = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    return (
        f"<p>{escape(a)} has <b>{value * 100:.2f} points</b> more {score} than {escape(b)} (95% interval "
        f"{low * 100:+.2f} to {high * 100:+.2f}; {p_value} {how}). {told}</p>"
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

"""The parts of the page that explain scores: those of training, of the classes and of other splits."""

from collections.abc import Mapping
from typing import Any

from jaxcifar.report import html_pieces, plots, run_figures
from jaxcifar.report.workdir_files import Run


def loss_note(run: Run) -> str:
    """Return how the training figures differ from the figures of the other splits."""
    loss, note = run.config.get("loss", {}), ""
    if loss.get("class_weights", "none") != "none" or loss.get("focal_gamma"):
        note += (
            " The training loss is the one that is minimised, with its class weights or its focus, and not "
            "to be compared with the others, which are the plain cross-entropy."
        )
    if run.config.get("sampling") == "balanced":
        note += (
            " Training examples are drawn such that the classes are equal; the other curves are of the "
            "classes as they are, so that the curves are not to be compared."
        )
    return note


def confusion_note(run: Run) -> str:
    """Return how the confusion matrix is read."""
    if not run.evaluation:
        return ""
    note = "Rows are labels, columns predictions; the darkest red is the largest share of a label."
    if len(run.evaluation["class_names"]) > run_figures.MOST_NAMED_CLASSES:
        note += (
            f" The scores are those of the {run_figures.WORST_CLASSES} classes of lowest F1. Classes are "
            "numbered in the order of the table below."
        )
    if (block := run_figures.classes_per_cell(run)) > 1:
        note += (
            f" A cell stands for {block} × {block} classes; a blue one counts all predictions within the "
            f"label's own {block}."
        )
    return note


def all_scores(run: Run) -> str:
    """Return a table of all classes, with their numbers where the plots do not name all classes."""
    scores = run.evaluation.get("per_class", [])
    if not scores:
        return ""
    numbered = len(scores) > run_figures.MOST_NAMED_CLASSES
    entries = (
        (
            f"{i}: {score['name']}" if numbered else score["name"],
            [
                f"{score['examples']:,}",
                *(_share(score, name) for name in ("recall", "precision")),
                f"{score['f1']:.1%}",
            ],
        )
        for i, score in enumerate(scores)
    )
    intervals = "recall (95% interval)", "precision (95% interval)"
    table = html_pieces.table(entries, ["examples", *intervals, "F1"])
    shown = " open" if len(scores) <= _MOST_OPEN else ""
    return (
        f"<details{shown}><summary>The scores of {len(scores):,} classes</summary>{table}</details>"
    )


_MOST_OPEN = 5
"""A table of more classes is folded."""


def _share(score: Mapping[str, Any], name: str) -> str:
    """Return the recall or the precision of a class, with its interval if it has one."""
    interval = score.get(f"{name}_interval")
    if f"{name}_interval" in score and not interval:
        return "–"  # a share of no images
    return f"{score[name]:.1%}" + (f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval else "")


def calibration_note(run: Run) -> str:
    """Return the expected calibration error, and what it is."""
    if not run.evaluation:
        return ""
    return (
        f"Expected calibration error {run.evaluation['calibration_error']:.2%}: the mean distance of the "
        f"bars from the line, weighted by their examples. Bars of fewer than {plots.FEW} examples are pale."
    )


def other_evaluations(run: Run) -> str:
    """Return a table of the evaluations on other splits and datasets."""
    evaluations = run.other_evaluations
    scores = ["accuracy"]
    if any(found.get("unequal_classes") for found in evaluations.values()):
        scores.insert(0, "balanced_accuracy")
    entries = (
        (
            f"{found['dataset']}, split {found['split']}",
            [
                *(
                    html_pieces.with_interval(found, score) if score in found else ""
                    for score in scores
                ),
                f"{found['loss']:.4f}",
                f"{found['examples']:,}",
                "not known" if (n := found["examples_trained_on"]) is None else f"{n:,}",
                f"{found['step']:,}",
                f"evaluations/{name}",
            ],
        )
        for name, found in evaluations.items()
    )
    head = [
        *(f"{score.replace('_', ' ')} (95% interval)" for score in scores),
        "loss",
        "examples",
        "of them trained on",
        "step",
        "directory",
    ]
    return html_pieces.table(entries, head) if evaluations else ""

"""Makes one page of what a run has left in its workdir, and one that puts several side by side.

python -m jaxcifar.report DIR              writes DIR/report/index.html
python -m jaxcifar.report DIR DIR ...      writes comparison.html, or what --out names
"""

import argparse
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from jaxcifar.errors import UserError
from jaxcifar.evaluation.by_class import at_chance
from jaxcifar.report import (
    data_section,
    html_pieces,
    image_sections,
    plots,
    profile_section,
    run_figures,
    two_classes_section,
    workdir_files,
)
from jaxcifar.report.comparison import write_comparison
from jaxcifar.report.workdir_files import Run


def write_report(workdir: Path) -> Path:
    """Write `report/index.html` in `workdir`, and its plots as PNG files beside it.

    A part of the page that cannot be made is replaced by a note that says why, and is warned of.

    Returns:
      The page.

    Raises:
      UserError: as `workdir_files.load`, or the report cannot be written.
    """
    run = workdir_files.load(workdir)
    folder = workdir / "report"
    page = folder / "index.html"
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        page.write_text(html_pieces.page(run.name, _body(run, folder)), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}): make room or set it free"
        ) from error
    return page


def _body(run: Run, folder: Path) -> str:
    part, section = html_pieces.part, html_pieces.section

    def plot(name: str, title: str, make: Callable[[Run], Figure | None]) -> str:
        def made():
            if (figure := make(run)) is None:
                return ""
            plots.png(figure, folder / f"{name}.png")
            return html_pieces.plot(figure, title)

        return part(title, made)

    return "".join(
        [
            f"<header><h1>{escape(run.name)}</h1>{part('Subtitle', lambda: _subtitle(run))}</header>",
            part("Results", lambda: _headline(run)),
            section(
                "Learning",
                html_pieces.grid(
                    [
                        plot("accuracy", "Accuracy by epoch", run_figures.accuracy),
                        plot("loss", "Loss by epoch", run_figures.loss),
                        plot("learning_rate", "Learning rate by epoch", run_figures.learning_rate),
                    ]
                ),
                note="Training figures are of augmented images and, where label smoothing is on, smoothed "
                "targets, while the network still changed." + part("Loss", lambda: _loss_note(run)),
            ),
            section(
                "Where it is right and wrong",
                html_pieces.grid(
                    [
                        plot("confusion", "Confusion matrix", run_figures.confusion),
                        plot("classes", "Scores by class", run_figures.class_bars),
                    ]
                ),
                part("Scores of all classes", lambda: _all_scores(run)),
                note=part("Note", lambda: _confusion_note(run)),
            ),
            section(
                "Telling the two classes apart",
                html_pieces.grid(
                    [
                        plot("roc", "ROC curve", two_classes_section.roc),
                        plot(
                            "precision_recall",
                            "Precision and recall",
                            two_classes_section.precision_recall,
                        ),
                    ]
                ),
                note=part("Threshold", lambda: two_classes_section.note(run)),
            ),
            section(
                "Classes taken for one another",
                part("Confused classes", lambda: image_sections.confused_pairs(run)),
                note="Mistakes in both directions together; beneath each image its label, and in bold the "
                "prediction with its probability.",
            ),
            section(
                "The most confident mistakes",
                part("Mistakes", lambda: image_sections.mistakes(run)),
            ),
            section(
                "Does it know when it is right?",
                html_pieces.grid(
                    [plot("reliability", "Accuracy by confidence", run_figures.reliability)]
                ),
                note=part("Calibration error", lambda: _calibration_note(run)),
            ),
            section(
                "Other evaluations",
                part("Other evaluations", lambda: _other_evaluations(run)),
                note="On other splits and datasets, in <code>evaluations/</code>.",
            ),
            section("The data", part("Data", lambda: data_section.data(run))),
            section(
                "What augmentation does",
                part("Augmentation", lambda: image_sections.augmentation(run)),
                note="Eight training images, and four draws of each as the network saw such images.",
            ),
            section(
                "Where the time of a step goes",
                part("Kernels", lambda: profile_section.kernels(run)),
            ),
            section(
                "The run",
                part("Facts", lambda: _facts(run)),
                part("Config", lambda: _config_table(run)),
            ),
        ]
    )


def _confusion_note(run: Run) -> str:
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


def _all_scores(run: Run) -> str:
    """Return a table of all classes, by their numbers, where the plots do not name them all."""
    scores = run.evaluation.get("per_class", [])
    if len(scores) <= run_figures.MOST_NAMED_CLASSES:
        return ""
    shares = ("precision", "recall", "f1")
    entries = (
        (f"{i}: {s['name']}", [f"{s['examples']:,}", *(f"{s[share]:.1%}" for share in shares)])
        for i, s in enumerate(scores)
    )
    table = html_pieces.table(entries, ["examples", "precision", "recall", "F1"])
    return f"<details><summary>The scores of all {len(scores):,} classes</summary>{table}</details>"


def _calibration_note(run: Run) -> str:
    if not run.evaluation:
        return ""
    return (
        f"Expected calibration error {run.evaluation['calibration_error']:.2%}: the mean distance of the "
        "bars from the line, weighted by their examples."
    )


def _other_evaluations(run: Run) -> str:
    entries = (
        (
            f"{found['dataset']}, split {found['split']}",
            [
                html_pieces.with_interval(found),
                f"{found['loss']:.4f}",
                f"{found['examples']:,}",
                "not known" if (n := found["examples_trained_on"]) is None else f"{n:,}",
                f"{found['step']:,}",
                f"evaluations/{name}",
            ],
        )
        for name, found in run.other_evaluations.items()
    )
    head = [
        "accuracy (95% interval)",
        "loss",
        "examples",
        "of them trained on",
        "step",
        "directory",
    ]
    return html_pieces.table(entries, head) if run.other_evaluations else ""


def _subtitle(run: Run) -> str:
    model, data, optimizer = (
        escape(run.settings[part]["name"]) for part in ("model", "data", "optimizer")
    )
    epochs = run.settings["num_epochs"]
    preset = run.summary.get("preset")
    network = f"{model} ({escape(preset)})" if preset else model
    return (
        f"<p>{network} on {data}, {optimizer}, {epochs} {'epoch' if epochs == 1 else 'epochs'}, "
        f"seed {run.settings['seed']}</p>"
    )


def _headline(run: Run) -> str:
    if not run.evaluation:
        done = run.records[-1]["epoch"] if run.records else 0
        return (
            f'<p class="note">Not evaluated yet: {done:.1f} of {run.settings["num_epochs"]} epochs '
            f"are done (step {run.step}).</p>"
        )
    found = run.evaluation
    low, high = found["accuracy_interval"]
    cards = [
        *_scores_alike(found),
        ("accuracy", f"{found['accuracy']:.2%}", f"95% interval {low:.2%} to {high:.2%}"),
        ("top 5", f"{found['top_5_accuracy']:.2%}", "label among the five likeliest"),
        ("loss", f"{found['loss']:.4f}", "cross-entropy, nats"),
        ("calibration error", f"{found['calibration_error']:.2%}", "expected, 15 bins"),
    ]
    if len(found["class_names"]) <= 5:
        cards = [card for card in cards if card[0] != "top 5"]
    if two := found.get("two_classes"):
        cards.append(
            ("area under the ROC curve", f"{two['roc_area']:.4f}", f"of {escape(two['positive'])}")
        )
    for name, augmented in found["test_time_augmentation"].items():
        label = f"under test-time augmentation ({escape(name)})"
        cards.append(("accuracy", f"{augmented['accuracy']:.2%}", label))
    shown = "".join(
        f'<div class="card"><span>{name}</span><strong>{value}</strong><small>{note}</small></div>'
        for name, value, note in cards
    )
    notes = [
        f"{escape(found['dataset'])}, split {escape(found['split'])}: {found['correct']:,} of "
        f"{found['examples']:,} examples right, with the parameters of step {found['step']:,}."
    ]
    if not run.on_own_test_split:
        data = run.settings["data"]
        notes.append(
            f"<b>This is not the test split of the config</b>, which is {escape(data['name'])}, split "
            f"{escape(data['test_split'])}."
        )
    if chance := at_chance(found):
        notes.append(f"<b>This does not show that the network has learned</b>: {chance}.")
    return f'<div class="cards">{shown}</div><p class="note">{" ".join(notes)}</p>'


def _loss_note(run: Run) -> str:
    loss = run.settings.get("loss", {})
    if loss.get("class_weights", "none") == "none" and not loss.get("focal_gamma"):
        return ""
    return (
        " The training loss is the one that is minimised, with its class weights or its focus, and not to be "
        "compared with the others, which are the plain cross-entropy."
    )


def _scores_alike(found: dict) -> list[tuple[str, str, str]]:
    """Return the cards of the scores in which every class counts alike, where the classes are unequal."""
    if not found.get("unequal_classes"):
        return []
    cards = []
    for name, score in (("balanced accuracy", "balanced_accuracy"), ("macro-F1", "macro_f1")):
        low, high = found[f"{score}_interval"]
        cards.append((name, f"{found[score]:.2%}", f"95% interval {low:.2%} to {high:.2%}"))
    return cards


def _facts(run: Run) -> str:
    summary = run.summary
    facts = {}
    if summary:
        height, width, channels = summary["image_shape"]
        facts = {
            "parameters": f"{summary['parameters']:,}",
            "MFLOP an image, forward": run.fact("forward_flops", workdir_files.mega),
            "training images": f"{summary['train_examples']:,} of {height}×{width}×{channels}",
            "steps": f"{summary['epochs']} epochs of {summary['steps_per_epoch']:,}",
            "precision": summary["precision"],
            "devices": summary["devices"],
            "processor": run.fact("processor"),
            "versions": run.fact(
                "versions", lambda found: ", ".join(f"{k} {v}" for k, v in found.items())
            ),
        }
    if run.records:
        facts["time in training steps"] = html_pieces.duration(run.training_seconds)
        rate = run.step * run.settings["batch_size"] / run.training_seconds
        facts["training rate"] = f"{rate:,.0f} images a second"
    return html_pieces.table((name, [value]) for name, value in facts.items())


def _config_table(run: Run) -> str:
    fields = ((name, [value]) for name, value in run.fields.items())
    return f"<details><summary>The config</summary>{html_pieces.table(fields)}</details>"


def main(argv: list[str]) -> int:
    """Report on one run, or compare several, and return the exit code."""
    about = "Make a page of a run, or one that puts several runs side by side."
    parser = argparse.ArgumentParser(prog="python -m jaxcifar.report", description=about)
    where = "the page of a comparison; by default comparison.html"
    parser.add_argument("workdir", nargs="+", type=Path, help="directory of a run")
    parser.add_argument("--out", type=Path, help=where)
    values = parser.parse_args(argv)
    try:
        if len(values.workdir) > 1:
            print(write_comparison(values.workdir, values.out or Path("comparison.html")))
        elif values.out:
            raise UserError("--out is the page of a comparison: name two workdirs, or leave it out")
        else:
            print(write_report(values.workdir[0]))
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0

"""Makes one page of what a run has left in its workdir, and one that puts several side by side.

python -m jaxcifar.report DIR              writes DIR/report/index.html
python -m jaxcifar.report DIR DIR ...      writes comparison.html, or what --out names
"""

import argparse
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxcifar.errors import UserError
from jaxcifar.evaluation import analysis
from jaxcifar.report import html_pieces, image_sections, plots, workdir_files
from jaxcifar.report.comparison import write_comparison
from jaxcifar.report.workdir_files import Run


def write_report(workdir: Path) -> Path:
    """Write `report/index.html` in `workdir`, and its plots as PNG files beside it.

    Returns:
      The page.

    Raises:
      UserError: as `workdir_files.load`, or the report cannot be written.
    """
    run = workdir_files.load(workdir)
    figures = _figures(run)
    folder = workdir / "report"
    page = folder / "index.html"
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        for name, figure in figures.items():
            plots.png(figure, folder / f"{name}.png")
        page.write_text(html_pieces.page(run.name, _report_body(run, figures)), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}): make room or set it free"
        ) from error
    return page


def _figures(run: Run) -> dict[str, Figure]:
    """Return the plots that the run has something for, by name."""
    figures = {}
    if run.records:
        loss, accuracy = _splits(run, "loss"), _splits(run, "accuracy")
        figures["loss"] = plots.curves(loss, name="loss, nats")
        figures["accuracy"] = plots.curves(accuracy, name="accuracy", percent=True)
        figures["learning_rate"] = plots.curves(
            [("", *run.series("learning_rate"))], name="learning rate"
        )
    if run.evaluation:
        names = run.evaluation["class_names"]
        figures["confusion"] = plots.confusion(np.array(run.evaluation["confusion_matrix"]), names)
        figures["classes"] = plots.class_bars(run.evaluation["per_class"])
    if run.predictions:
        found = analysis.calibration(run.predictions["probabilities"], run.predictions["labels"])
        figures["reliability"] = plots.reliability(found)
    return figures


def _splits(run: Run, metric: str) -> list[plots.Series]:
    names = ("train", "validation", "test")
    found = [(split, *run.series(f"{split}/{metric}")) for split in names]
    return [series for series in found if series[1]]


def _report_body(run: Run, figures: Mapping[str, Figure]) -> str:
    parts = [f"<header><h1>{escape(run.name)}</h1>{_subtitle(run)}</header>", _headline(run)]

    def section(title: str, *content: str, note: str = "") -> None:
        if any(content):
            note = f'<p class="note">{note}</p>' if note else ""
            parts.append(f"<section><h2>{title}</h2>{note}{''.join(content)}</section>")

    def plot(name: str, title: str) -> str:
        return html_pieces.plot(figures[name], title) if name in figures else ""

    section(
        "Learning",
        html_pieces.grid(
            plot(name, f"{name.capitalize().replace('_', ' ')} by epoch")
            for name in ("accuracy", "loss", "learning_rate")
        ),
        note="Training figures are of augmented images and, where label smoothing is on, smoothed "
        "targets, while the network still changed.",
    )
    section(
        "Where it is right and wrong",
        html_pieces.grid(
            [plot("confusion", "Confusion matrix"), plot("classes", "Scores by class")]
        ),
        note="Rows are labels, columns predictions; the darkest red is the commonest mistake.",
    )
    section(
        "Classes taken for one another",
        image_sections.confused_pairs(run),
        note="Mistakes in both directions together; beneath each image its label, and in bold the "
        "prediction with its probability.",
    )
    section("The most confident mistakes", image_sections.mistakes(run))
    section(
        "Does it know when it is right?",
        html_pieces.grid([plot("reliability", "Accuracy by confidence")]),
        note=""
        if not run.evaluation
        else "Expected calibration error "
        f"{run.evaluation['calibration_error']:.2%}: the mean distance of the bars from "
        "the line, weighted by their examples.",
    )
    section(
        "What augmentation does",
        image_sections.augmentation(run),
        note="Eight training images, and four draws of each as the network saw such images.",
    )
    section("The run", _facts(run), _config_table(run))
    return "".join(parts)


def _subtitle(run: Run) -> str:
    model, data, optimizer = (
        escape(run.settings[part]["name"]) for part in ("model", "data", "optimizer")
    )
    epochs = run.settings["num_epochs"]
    return (
        f"<p>{model} on {data}, {optimizer}, {epochs} {'epoch' if epochs == 1 else 'epochs'}, "
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
        ("accuracy", f"{found['accuracy']:.2%}", f"95% interval {low:.2%} to {high:.2%}"),
        ("top 5", f"{found['top_5_accuracy']:.2%}", "label among the five likeliest"),
        ("loss", f"{found['loss']:.4f}", "cross-entropy, nats"),
        ("calibration error", f"{found['calibration_error']:.2%}", "expected, 15 bins"),
    ]
    if len(found["class_names"]) <= 5:
        del cards[1]
    for name, augmented in found["test_time_augmentation"].items():
        label = f"under test-time augmentation ({escape(name)})"
        cards.append(("accuracy", f"{augmented['accuracy']:.2%}", label))
    shown = "".join(
        f'<div class="card"><span>{name}</span><strong>{value}</strong><small>{note}</small></div>'
        for name, value, note in cards
    )
    return (
        f'<div class="cards">{shown}</div><p class="note">{escape(found["dataset"])}, split '
        f"{escape(found['split'])}: {found['correct']:,} of {found['examples']:,} examples right, "
        f"with the parameters of step {found['step']:,}.</p>"
    )


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
    return f"<details><summary>The whole config</summary>{html_pieces.table(fields)}</details>"


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

"""Makes a page from the files in a run's workdir, and a page that compares several runs.

python -m jaxcifar.report DIR              writes DIR/report/index.html
python -m jaxcifar.report DIR DIR ...      writes comparison.html, or what --out names
"""

import argparse
import json
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from jaxcifar.errors import UserError, first_line
from jaxcifar.host.metrics_log import write_summary
from jaxcifar.host.progress import warn
from jaxcifar.report import (
    data_section,
    facts_section,
    html_pieces,
    image_sections,
    inside_section,
    plots,
    profile_section,
    results_section,
    run_figures,
    score_sections,
    two_classes_section,
)
from jaxcifar.report.comparison import write_comparison
from jaxcifar.report.workdir_files import Run


def write_report(workdir: Path) -> Path:
    """Write `report/index.html` in `workdir`, and its plots as PNG files beside it.

    If a part of the page cannot be made, a note in it says why, and a warning is printed.

    Returns:
      The path of the page.

    Raises:
      UserError: as for `Run`, or the report cannot be written.
    """
    run = Run(workdir)
    folder = workdir / "report"
    page = folder / "index.html"
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        title = html_pieces.part("Title", lambda: results_section.title(run))
        page.write_text(html_pieces.page(title, _body(run, folder)), encoding="utf-8")
        _write_to_tensorboard(run, folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}): make room, set it free, or copy the run to where you may "
            "write"
        ) from error
    return page


def _write_to_tensorboard(run: Run, folder: Path) -> None:
    """Show the run's config, and its confusion matrix if it has one, in TensorBoard; on failure, warn."""
    try:
        # TensorBoard takes no tuples and the like: they become text.
        fields = {
            name: value if isinstance(value := json.loads(text), bool | int | float | str) else text
            for name, text in run.fields.items()
        }
        matrix = folder / "confusion.png"
        images = {"confusion matrix": matrix.read_bytes()} if matrix.exists() else {}
        write_summary(run.workdir, fields, ["test/accuracy", "test/loss"], images, run.step)
    except Exception as error:
        warn(f"nothing was shown in TensorBoard ({type(error).__name__}: {first_line(error)})")


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
            f"<header><h1>{escape(run.name)}</h1>"
            f"{part('Subtitle', lambda: results_section.subtitle(run))}</header>",
            part("Results", lambda: results_section.headline(run)),
            section(
                "Learning",
                html_pieces.grid(
                    [
                        plot("accuracy", "Accuracy by epoch", run_figures.accuracy),
                        plot("loss", "Loss by epoch", run_figures.loss),
                        plot("learning_rate", "Learning rate by epoch", run_figures.learning_rate),
                    ]
                ),
                note="Training values are measured on augmented images, with label smoothing if it is on, "
                "while the network still changes."
                + part("Loss", lambda: score_sections.loss_note(run)),
            ),
            section(
                "Where it is right and wrong",
                html_pieces.grid(
                    [
                        plot("confusion", "Confusion matrix", run_figures.confusion),
                        plot("classes", "Scores by class", run_figures.class_bars),
                    ]
                ),
                part("Scores of all classes", lambda: score_sections.all_scores(run)),
                note=part("Note", lambda: score_sections.confusion_note(run)),
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
                note="Counts are of both directions together. Beneath each image is its label and, in bold, "
                "the prediction with its probability.",
            ),
            section(
                "The most confident mistakes",
                part("Mistakes", lambda: image_sections.mistakes(run)),
            ),
            section(
                "Right, and most confident",
                part("Right", lambda: image_sections.right(run)),
                note="Of each class, the image that was predicted correctly with the highest probability.",
            ),
            section(
                "Where it looked",
                part("Where it looked", lambda: inside_section.attention(run)),
                part("First layer", lambda: inside_section.first_layer(run)),
                note="Red marks the pixels that raised the score of the predicted class most (Grad-CAM), for "
                "a few images, mistakes first; it is computed at the last layer of at least 4 × 4 pixels.",
            ),
            section(
                "Does it know when it is right?",
                html_pieces.grid(
                    [plot("reliability", "Accuracy by confidence", run_figures.reliability)]
                ),
                note=part("Calibration error", lambda: score_sections.calibration_note(run)),
            ),
            section(
                "Other evaluations",
                part("Other evaluations", lambda: score_sections.other_evaluations(run)),
                note="On other splits and datasets, in <code>evaluations/</code>.",
            ),
            section("The data", part("Data", lambda: data_section.data(run))),
            section(
                "What augmentation does",
                part("Augmentation", lambda: image_sections.augmentation(run)),
                note="Eight training images, and four random augmentations of each, as the network saw them.",
            ),
            section(
                "Where the time of a step goes",
                part("Kernels", lambda: profile_section.kernels(run)),
            ),
            section(
                "The run",
                part("Facts", lambda: facts_section.facts(run)),
                part("Config", lambda: facts_section.config(run)),
            ),
        ]
    )


def main(argv: list[str]) -> int:
    """Report on one run, or compare several, and return the exit code."""
    about = "Make a page of a run, or one that puts several runs side by side."
    parser = argparse.ArgumentParser(prog="jaxcifar report", description=about)
    where = "the page of a comparison; by default comparison.html"
    parser.add_argument("workdir", nargs="+", type=Path, help="directory of a run")
    parser.add_argument("--out", type=Path, help=where)
    values = parser.parse_args(argv)
    try:
        if len(values.workdir) > 1:
            runs = [path for path in values.workdir if (path / "config.json").is_file()]
            for path in values.workdir:
                if path not in runs and len(runs) > 1:
                    warn(f"{path} holds no run, and is left out")
            found = runs if len(runs) > 1 else values.workdir
            print(write_comparison(found, values.out or Path("comparison.html")))
        elif values.out:
            raise UserError("--out is the page of a comparison: name two workdirs, or leave it out")
        else:
            print(write_report(values.workdir[0]))
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0

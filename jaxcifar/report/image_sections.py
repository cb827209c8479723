"""The parts of a run's report that show its images, as HTML; empty where the run has none."""

from collections.abc import Iterable
from html import escape

from jaxcifar.evaluation import analysis
from jaxcifar.evaluation.analysis import Predictions
from jaxcifar.report import html_pieces
from jaxcifar.report.workdir_files import Run


def _answer_images(run: Run, found: Predictions, examples: Iterable[int]) -> str:
    """Return the images of examples, with the label, the prediction and how sure that was."""
    names, kept = run.evaluation["class_names"], run.examples["index"].tolist()
    files = run.examples.get("files")
    figures = []
    for index in examples:
        label, guess = names[found.labels[index]], names[found.predictions[index]]
        confidence = found.confidence[index]
        place = kept.index(index)
        file = str(files[place]) if files is not None else ""
        text = f"{file or f'example {index}'}: {label}, taken for {guess} ({confidence:.1%})"
        named = f"<br>{escape(file.rpartition('/')[2])}" if file else ""
        figures.append(
            f"<figure>{html_pieces.image(run.examples['images'][place], text)}<figcaption>"
            f"{escape(label)}<br><b>{escape(guess)}</b> {confidence:.0%}{named}</figcaption></figure>"
        )
    return "".join(figures)


def mistakes(run: Run) -> str:
    """Return the most confident mistakes."""
    if run.predictions is None or not run.examples:
        return ""
    examples, _ = analysis.worth_seeing(run.predictions)
    return (
        f'<div class="images">{_answer_images(run, run.predictions, examples)}</div>'
        if len(examples)
        else ""
    )


def confused_pairs(run: Run) -> str:
    """Return the pairs of classes taken for one another, with images of those where there are any."""
    names = run.evaluation.get("class_names", [])
    found = run.predictions if run.examples else None
    _, shown = analysis.worth_seeing(found) if found else ([], {})
    with_images, others = [], []
    for pair in run.evaluation.get("confused_pairs", ()):
        a, b = pair["classes"]
        title = f"{escape(a)} / {escape(b)}: {sum(pair['counts'])}"
        if found is None or (names.index(a), names.index(b)) not in shown:
            others.append(f"{title} ({pair['counts'][0]} and {pair['counts'][1]})")
            continue
        ways = []
        for (label, guess), count in zip(((a, b), (b, a)), pair["counts"], strict=True):
            if not count:
                continue
            images = _answer_images(run, found, shown[names.index(label), names.index(guess)])
            way = f"{escape(label)} → {escape(guess)}: {count}"
            ways.append(f'<div>{way}</div><div class="images">{images}</div>')
        with_images.append(f"<div><h3>{title}</h3>{''.join(ways)}</div>")
    pairs = f'<div class="pairs">{"".join(with_images)}</div>' if with_images else ""
    return pairs + (f'<p class="note">{"; ".join(others)}</p>' if others else "")


def augmentation(run: Run) -> str:
    """Return training images as they are, and beneath them what augmentation makes of them."""
    if not run.augmentation:
        return ""
    strips = [run.augmentation["images"], *run.augmentation["augmented"]]
    return "".join(
        '<div class="strip">'
        + "".join(
            html_pieces.image(image, "as it is" if draw == 0 else f"draw {draw}")
            for image in images
        )
        + "</div>"
        for draw, images in enumerate(strips)
    )

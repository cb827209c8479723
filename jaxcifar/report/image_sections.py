"""The parts of a run's report that show its images, as HTML; empty where the run has none."""

from collections.abc import Iterable
from html import escape

from jaxcifar.evaluation import analysis
from jaxcifar.report import html_pieces
from jaxcifar.report.workdir_files import Run


def _worth_seeing(run: Run):
    return analysis.worth_seeing(run.predictions["probabilities"], run.predictions["labels"])


def _answer_images(run: Run, examples: Iterable[int]) -> str:
    """Return the images of examples, with the label, the prediction and how sure that was."""
    names, kept = run.evaluation["class_names"], run.examples["index"].tolist()
    figures = []
    for index in examples:
        probabilities = run.predictions["probabilities"][index]
        label, guess = names[run.predictions["labels"][index]], names[probabilities.argmax()]
        text = f"example {index}: {label}, taken for {guess} ({probabilities.max():.1%})"
        figures.append(
            f"<figure>{html_pieces.image(run.examples['images'][kept.index(index)], text)}<figcaption>"
            f"{escape(label)}<br><b>{escape(guess)}</b> {probabilities.max():.0%}</figcaption></figure>"
        )
    return "".join(figures)


def mistakes(run: Run) -> str:
    """Return the most confident mistakes."""
    if not run.examples:
        return ""
    examples, _ = _worth_seeing(run)
    return f'<div class="images">{_answer_images(run, examples)}</div>'


def confused_pairs(run: Run) -> str:
    """Return the pairs of classes taken for one another, with images of those where there are any."""
    names = run.evaluation.get("class_names", [])
    _, shown = _worth_seeing(run) if run.examples else ([], {})
    with_images, others = [], []
    for pair in run.evaluation.get("confused_pairs", ()):
        a, b = pair["classes"]
        title = f"{escape(a)} / {escape(b)}: {sum(pair['counts'])}"
        if (names.index(a), names.index(b)) not in shown:
            others.append(f"{title} ({pair['counts'][0]} and {pair['counts'][1]})")
            continue
        ways = []
        for (label, guess), count in zip(((a, b), (b, a)), pair["counts"], strict=True):
            if not count:
                continue
            images = _answer_images(run, shown[names.index(label), names.index(guess)])
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

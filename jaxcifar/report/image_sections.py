"""The parts of a run's report that show its images, as HTML; empty where the run has none."""

from collections.abc import Iterable, Mapping
from html import escape

from jaxcifar.evaluation import analysis
from jaxcifar.evaluation.analysis import Predictions
from jaxcifar.report import html_pieces
from jaxcifar.report.workdir_files import Run


def _answer_images(run: Run, found: Predictions, examples: Iterable[int]) -> str:
    """Return the images of examples, each with its label, prediction and confidence."""
    names, kept = run.evaluation["class_names"], run.examples["index"].tolist()
    files = run.examples.get("files")
    figures = []
    for index in examples:
        label, guess = names[found.labels[index]], names[found.predictions[index]]
        is_right = label == guess
        confidence = found.confidence[index]
        place = kept.index(index)
        file = str(files[place]) if files is not None else ""
        taken = "taken for what it is" if is_right else f"taken for {guess}"
        text = f"{file or f'example {index}'}: {label}, {taken} ({confidence:.1%})"
        answer = "" if is_right else f"{escape(label)}<br>"
        named = f"<br>{escape(file.rpartition('/')[2])}" if file else ""
        figures.append(
            f"<figure>{html_pieces.image(run.examples['images'][place], text)}<figcaption>"
            f"{answer}<b>{escape(guess)}</b> {confidence:.0%}{named}</figcaption></figure>"
        )
    return "".join(figures)


def mistakes(run: Run) -> str:
    """Return the most confident mistakes."""
    if run.predictions is None or not run.examples:
        return ""
    examples = analysis.worth_seeing(run.predictions).mistakes
    return (
        f'<div class="images">{_answer_images(run, run.predictions, examples)}</div>'
        if len(examples)
        else ""
    )


def right(run: Run) -> str:
    """Return the most confident right prediction of each class, of at most 24 classes."""
    if run.predictions is None or not run.examples:
        return ""
    kept = set(run.examples["index"].tolist())  # an earlier version has kept the mistakes alone
    examples = [i for i in analysis.worth_seeing(run.predictions).right.tolist() if i in kept]
    images = _answer_images(run, run.predictions, examples)
    return f'<div class="images">{images}</div>' if images else ""


def confused_pairs(run: Run) -> str:
    """Return the pairs of classes taken for one another, with images of those where there are any."""
    names = run.evaluation.get("class_names", [])
    found = run.predictions if run.examples else None
    shown = analysis.worth_seeing(found).of_pairs if found else {}
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
    """Return training images, and beneath them augmented draws of the same images."""
    if not run.augmentation:
        return ""
    strips = [run.augmentation["images"], *run.augmentation["augmented"]]
    rows = (
        f"<div><span>{name}</span>"
        f'<div class="strip">{"".join(html_pieces.image(image, name) for image in images)}</div></div>'
        for name, images in zip(
            ["as it is", *(f"draw {draw}" for draw in range(1, len(strips)))], strips
        )
    )
    return f'<p class="note">{_enabled(run)}</p><div class="strips">{"".join(rows)}</div>'


def _enabled(run: Run) -> str:
    """Return the augmentations that were on, with their options."""
    named = []
    for name, group in run.config.get("augmentation", {}).items():
        if isinstance(group, Mapping) and group.get("enabled"):
            options = ", ".join(
                f"{option} {value}"
                for option, value in group.items()
                if option not in ("enabled", "function")
            )
            named.append(f"{escape(name)} ({escape(options)})" if options else escape(name))
    return f"On: {', '.join(named)}." if named else "None was on."

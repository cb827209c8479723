"""The part of a run's report that shows its data, as HTML; empty for a run of an earlier version."""

from collections.abc import Sequence
from html import escape

from jaxcifar.data import image_folder
from jaxcifar.report import html_pieces
from jaxcifar.report.workdir_files import Run

_MOST_CLASSES = 20
"""A table of more classes is folded."""
_MOST_FILES = 50
"""In a list; `data.json` names all."""

_LISTS = {
    "unreadable": ("could not be read", ": "),
    "left_out": ("left out", ": "),
    "same_in_two_classes": ("the same image in two classes", " = "),
    "same_in_two_splits": ("the same image in two splits", " = "),
}
"""By key of `data.json`: what its entries are, and the separator within an entry."""


def data(run: Run) -> str:
    """Return example counts by class and split, an image of each class, and what was left out."""
    if not run.data:
        return ""
    return (
        _counts(run.data)
        + _images(run)
        + _sizes(run.data)
        + "".join(_list(run.data, key) for key in _LISTS)
    )


def _counts(data: dict) -> str:
    names, splits = data["class_names"], data["splits"]
    columns = [split["class_counts"] for split in splits.values()]
    entries = [
        (name, [f"{column[label]:,}" for column in columns]) for label, name in enumerate(names)
    ]
    sums = (f"{len(names):,} classes", [f"{sum(column):,}" for column in columns])
    head = [
        name if split["split"] == name else f"{name}: {split['split']}"
        for name, split in splits.items()
    ]
    if len(names) <= _MOST_CLASSES:
        return html_pieces.table([*entries, sums], head)
    table = html_pieces.table(entries, head)
    folded = (
        f"<details><summary>The examples of all {len(names):,} classes</summary>{table}</details>"
    )
    return html_pieces.table([sums], head) + folded


def _images(run: Run) -> str:
    if not run.data_examples:
        return ""
    names = run.data["class_names"]
    figures = []
    for image, label in zip(run.data_examples["images"], run.data_examples["labels"]):
        name = names[label]
        shown = html_pieces.image(image, name)
        figures.append(f"<figure>{shown}<figcaption>{escape(name)}</figcaption></figure>")
    return f'<div class="images">{"".join(figures)}</div>'


def _sizes(data: dict) -> str:
    if "sizes" not in data:
        return ""
    return f'<p class="note">The files: {image_folder.describe_sizes(data["sizes"])}.</p>'


def _list(data: dict, key: str) -> str:
    found: Sequence[Sequence[str]] = data.get(key, ())
    if not found:
        return ""
    what, between = _LISTS[key]
    items = "".join(f"<li>{escape(between.join(words))}</li>" for words in found[:_MOST_FILES])
    more = "<p>and more, in <code>data.json</code></p>" if len(found) > _MOST_FILES else ""
    return f"<details><summary>{len(found):,} {what}</summary><ul>{items}</ul>{more}</details>"

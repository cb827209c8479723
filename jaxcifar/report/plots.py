"""Plots of a run, as Matplotlib figures that suit light and dark pages, phones and paper."""

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jaxcifar.evaluation.analysis import Calibration

BLUE, RED, GREY = "#3b7dd8", "#d8483b", "#8a8f98"
COLOURS = (BLUE, "#e08214", "#2e9e5b", RED, "#8a5cc7", "#17a2b8", "#b5577f", GREY)
_INK = "#010203"
"""The placeholder for the page's text colour."""
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "text.parse_math": False,  # a class name may hold a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxcifar",
    **{
        f"{name}color": _INK
        for name in ("text.", "axes.edge", "axes.label", "xtick.", "ytick.", "grid.")
    },
}
_WIDTH = 3.7
"""Inches; at this width, text is readable on a phone."""
_LETTER = 0.075
"""Inches that a letter of a class name is wide, in a type of 8 points."""
_MOST_PIXELS = 2e6
"""Of a PNG file; more take a second to draw."""

FEW = 50
"""Shares of fewer examples are drawn pale: the 95% interval of one half is then wider than ±14 points."""

Series = tuple[str, Sequence[float], Sequence[float]]
"""Label, x and y."""


def svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element for a page, in the page's own text colour."""
    file = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    return (
        text[text.index("<svg") :]
        .replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
        .replace(_INK, "currentColor")
    )


def png(figure: Figure, path) -> None:
    """Write the figure to a PNG file, on white."""
    width, height = figure.get_size_inches()
    dpi = min(200, (_MOST_PIXELS / (width * height)) ** 0.5)
    with matplotlib.rc_context(_STYLE):
        figure.savefig(path, dpi=dpi, facecolor="white")


def curves(
    series: Sequence[Series], *, name: str, percent: bool = False, kinds: Sequence[int] = ()
) -> Figure:
    """Plot `name` by epoch, a line for each series; series of the same kind share a colour."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 2.6), layout="constrained")
        axes = figure.add_subplot(xlabel="epoch", ylabel=name)
        for (label, x, y), kind in zip(series, kinds or range(len(series)), strict=True):
            colour = COLOURS[kind % len(COLOURS)]
            axes.plot(x, y, label=label, color=colour, marker="." if len(x) < 40 else "")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        if len(series) > 1:
            axes.legend()
    return figure


def rates(x: np.ndarray, y: np.ndarray, names: tuple[str, str], *, diagonal: str = "") -> Figure:
    """Plot share `y` against share `x`, as steps; `diagonal` is the label of the diagonal."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axes = figure.add_subplot(xlabel=names[0], ylabel=names[1], xlim=(0, 1), ylim=(0, 1.02))
        axes.plot(x, y, color=BLUE, drawstyle="steps-post")
        if diagonal:
            axes.plot([0, 1], [0, 1], "--", color=GREY, label=diagonal)
            axes.legend(loc="lower right")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def confusion(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot a confusion matrix: shares of each label's examples, counts in the cells if they fit."""
    names = [_shortened(name) for name in names]
    if len(names) > 20:
        return _large_confusion(matrix, names)
    pixels, depth = _shares_in_colour(matrix)
    with matplotlib.rc_context(_STYLE):
        side = max(0.28 * len(names) + _LETTER * max(map(len, names)) + 0.5, _WIDTH)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = _matrix_axes(figure.add_subplot(), pixels)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        for i, j in np.argwhere(matrix):
            ink = "white" if depth[i, j] > 0.6 else _INK
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=7, color=ink)
    return figure


def _large_confusion(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot a confusion matrix with the names of the classes at three sides.

    Its parts have fixed places, because Matplotlib takes a second to lay out so many names.
    """
    pixels, _ = _shares_in_colour(matrix)
    with matplotlib.rc_context(_STYLE):
        margin, inside = _LETTER * max(map(len, names)) + 0.5, 0.14 * len(names)
        width, height = margin + inside + 0.1, 2 * margin + inside
        figure = Figure(figsize=(width, height))
        place = (margin / width, margin / height, inside / width, inside / height)
        axes = _matrix_axes(figure.add_axes(place), pixels)
        axes.set(xticks=[], yticks=[])
        axes.xaxis.labelpad = axes.yaxis.labelpad = 72 * (margin - 0.3)
        for i, name in enumerate(names):
            axes.text(-0.8, i, name, ha="right", va="center", fontsize=7)
            axes.text(i, -0.8, name, ha="center", va="bottom", rotation=90, fontsize=7)
            foot = len(names) - 0.2
            axes.text(i, foot, name, ha="center", va="top", rotation=90, fontsize=7)
    return figure


def confusion_of_blocks(matrix: np.ndarray, block: int) -> Figure:
    """Plot a confusion matrix of many classes by their numbers, `block` classes to a cell."""
    pixels, _ = _shares_in_colour(matrix)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 6.4), layout="constrained")
        axes = _matrix_axes(figure.add_subplot(), pixels)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(10, integer=True))
            axis.set_major_formatter(lambda cell, _: f"{round(cell * block)}")
    return figure


def _matrix_axes(axes: Axes, pixels: np.ndarray) -> Axes:
    axes.set(xlabel="prediction", ylabel="label")
    axes.grid(False)
    axes.imshow(pixels, interpolation="nearest")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _shares_in_colour(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of a confusion matrix [label, prediction, RGBA], and their depth in [0, 1].

    Right predictions are blue and wrong ones red; the darkest red is the largest share.
    """
    right = np.eye(len(matrix), dtype=bool)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    most = np.where(right, 0, shares).max(initial=1e-9)
    depth = np.where(right, shares, shares / most) ** 0.7
    pixels = np.empty((*matrix.shape, 4))
    pixels[..., :3] = np.where(right[..., None], to_rgb(BLUE), to_rgb(RED))
    pixels[..., 3] = 0.9 * depth
    return pixels, depth


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"


def class_bars(scores: Sequence[Mapping]) -> Figure:
    """Plot F1, recall and precision of each class, from the top the worst F1 first.

    Args:
      scores: a dict with `name`, `recall`, `precision` and `f1` for each class.
    """
    scores = sorted(scores, key=lambda score: -score["f1"])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.22 * len(scores) + 1), layout="constrained")
        axes = figure.add_subplot()
        heights = np.arange(len(scores))
        axes.barh(heights, [s["f1"] for s in scores], color=BLUE, alpha=0.55, label="F1")
        for score, colour in (("recall", RED), ("precision", _INK)):
            values = [s[score] for s in scores]
            axes.plot(values, heights, "|", color=colour, ms=9, mew=2, label=score)
        axes.set_yticks(heights, [_shortened(s["name"]) for s in scores])
        axes.set_ylim(-0.6, len(scores) - 0.4)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labeltop=len(scores) > 20)
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper center", ncols=3)
    return figure


def reliability(found: Calibration) -> Figure:
    """Plot accuracy by confidence, and below it the share of examples with that confidence."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        width = np.diff(found.edges)
        bars = upper.bar(
            found.edges[:-1], np.nan_to_num(found.accuracy), width, align="edge", color=BLUE
        )
        for bar, count in zip(bars, found.counts):
            bar.set_alpha(1 if count >= FEW else 0.3)
        upper.plot([0, 1], [0, 1], "--", color=GREY, label="accuracy as high as confidence")
        upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        figure.legend(loc="outside upper center")
        lower.bar(
            found.edges[:-1], found.counts / found.counts.sum(), width, align="edge", color=GREY
        )
        lower.set(xlabel="confidence", ylabel="examples")
        for axis in (upper.xaxis, upper.yaxis, lower.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure

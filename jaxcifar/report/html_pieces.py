"""The building blocks of a self-contained HTML page."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jaxcifar.host.progress import warn
from jaxcifar.report import plots

_LARGEST_IMAGE = 96
"""Pixels on a side; larger images are scaled down."""


def part(title: str, make: Callable[[], str]) -> str:
    """Return `make()`; if it fails, warn and return a note instead."""
    try:
        return make()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        warn(f"the part {title!r} of the report could not be made ({reason})")
        return f'<p class="failed">{escape(title)} could not be shown: {escape(reason)}</p>'


def section(title: str, *contents: str, note: str = "") -> str:
    """Return a section; nothing if all its contents are empty."""
    if not any(contents):
        return ""
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{note}{''.join(contents)}</section>"


def grid(items: Iterable[str]) -> str:
    """Return items side by side, as many as fit the window; empty without items."""
    content = "".join(items)
    return f'<div class="grid">{content}</div>' if content else ""


def image(pixels: np.ndarray, text: str) -> str:
    """Return an image element; `pixels: [height, width, channel] uint8`."""
    return _encoded(pixels, text, (_LARGEST_IMAGE, _LARGEST_IMAGE))


def _encoded(pixels: np.ndarray, text: str, most: tuple[int, int] | None = None) -> str:
    scaled = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if most:
        scaled.thumbnail(most)
    file = io.BytesIO()
    scaled.save(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(text)}" title="{escape(text)}">'


def mosaic(tiles: Sequence[np.ndarray], text: str, side: int = 48) -> str:
    """Return one image of tiles of the same shape, each `[height, width, channel] uint8`, in rows.

    Args:
      tiles: at least one.
      text: the caption and alternative text.
      side: approximate height of a tile, in pixels.
    """
    height, width, channels = tiles[0].shape
    scale = max(round(side / height), 1)
    columns = min(len(tiles), 16)
    rows = -(-len(tiles) // columns)
    cell = (height * scale + 4, width * scale + 4)
    whole = np.full((rows * cell[0], columns * cell[1], channels), 255, np.uint8)
    for place, tile in enumerate(tiles):
        y, x = (place // columns) * cell[0], (place % columns) * cell[1]
        enlarged = tile.repeat(scale, 0).repeat(scale, 1)
        whole[y : y + enlarged.shape[0], x : x + enlarged.shape[1]] = enlarged
    return f'<figure class="mosaic">{_encoded(whole, text)}<figcaption>{escape(text)}</figcaption></figure>'


def plot(figure: Figure, title: str) -> str:
    """Return a plot with its title beneath."""
    # A plot larger than a phone scrolls: scaled down, its text would be too small to read.
    kind = ' class="large"' if max(figure.get_size_inches()) > 6 else ""
    return f"<figure{kind}>{plots.svg(figure, title)}<figcaption>{title}</figcaption></figure>"


def duration(seconds: float) -> str:
    """Return a readable duration: to 0.1 s below 10 s, to 1 s below an hour, else to the minute."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def with_interval(evaluation: Mapping, score: str = "accuracy") -> str:
    """Return a score with its 95% interval."""
    low, high = evaluation[f"{score}_interval"]
    return f"{evaluation[score]:.2%} ({low:.2%} to {high:.2%})"


def table(entries: Iterable[tuple[str, Sequence[str]]], head: Sequence[str] = ()) -> str:
    """Return a table with names at the left; everything is escaped."""
    lines = (
        [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in ['', *head])}</tr>"] if head else []
    )
    for name, values in entries:
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>' if lines else ""


_CSS = Path(__file__).with_name("page.css")


def page(title: str, body: str) -> str:
    """Return the whole page, with its style; the page may load nothing from outside."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)} · jaxcifar</title><style>{_CSS.read_text()}</style></head>"
        f"<body>{body}</body></html>\n"
    )

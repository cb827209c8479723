"""The pieces of a page of HTML that is whole in itself."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jaxcifar.report import plots

_LARGEST_IMAGE = 96
"""Pixels; larger ones are scaled down."""


def grid(items: Iterable[str]) -> str:
    """Return items side by side, as many as the window holds; nothing of nothing."""
    content = "".join(items)
    return f'<div class="grid">{content}</div>' if content else ""


def image(pixels: np.ndarray, text: str) -> str:
    """Return an image element; `pixels: [height, width, channel] uint8`."""
    scaled = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    scaled.thumbnail((_LARGEST_IMAGE, _LARGEST_IMAGE))
    file = io.BytesIO()
    scaled.save(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(text)}" title="{escape(text)}">'


def plot(figure: Figure, title: str) -> str:
    """Return a plot with its title beneath."""
    # What is larger than a phone is scrolled, for its letters would become too small to read.
    kind = ' class="large"' if max(figure.get_size_inches()) > 6 else ""
    return f"<figure{kind}>{plots.svg(figure, title)}<figcaption>{title}</figcaption></figure>"


def duration(seconds: float) -> str:
    """Return a time as a person says it, to the second, or to the minute from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def table(rows: Iterable[tuple[str, Sequence[str]]], head: Sequence[str] = ()) -> str:
    """Return a table with names at the left; everything is escaped."""
    lines = (
        [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in ['', *head])}</tr>"] if head else []
    )
    for name, values in rows:
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>' if lines else ""


_CSS = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5d6570; --page: #f6f7f9; --card: #fff;
  --line: #dfe3e8; --accent: #3b7dd8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3ad; --page: #14171a;
  --card: #1d2125; --line: #31373d; --accent: #6ea6f0 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 75rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0.5rem 0 0; font-size: 1.8rem } header p, .note { margin: 0.2rem 0 0.8rem; color: var(--soft) }
h2 { margin: 0 0 0.4rem; font-size: 1.2rem }
section { margin: 1rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 0.6rem }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.7rem }
.card { display: flex; flex-direction: column; padding: 0.8rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 0.6rem }
.card span, .card small { color: var(--soft) } .card strong { font-size: 1.7rem; line-height: 1.3 }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem;
  align-items: start }
figure { margin: 0; min-width: 0 } figcaption { color: var(--soft); font-size: 0.85rem }
.grid figure { text-align: center } .grid svg { max-width: 100%; height: auto }
.grid .large { overflow: auto; max-height: 90vh; grid-column: 1 / -1 } .large svg { max-width: none }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.2rem, 1fr)); gap: 0.6rem }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
  gap: 1rem } h3 { margin: 0 0 0.3rem; font-size: 1rem }
.pairs .images { grid-template-columns: repeat(4, minmax(0, 5.5rem)); min-height: 1rem }
.images figcaption { font-size: 0.75rem; line-height: 1.25; overflow-wrap: anywhere }
img { width: 100%; max-width: 6rem; image-rendering: pixelated; border-radius: 0.2rem; display: block }
.strip { display: grid; grid-template-columns: repeat(8, 1fr); gap: 0.3rem; margin-bottom: 0.3rem;
  max-width: 50rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 0.9rem }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: normal } th { font-weight: 600 }
details { margin-top: 1rem } summary { cursor: pointer; color: var(--accent) }
"""


def page(title: str, body: str) -> str:
    """Return the whole page, with its style, which may ask for nothing outside itself."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)} · jaxcifar</title><style>{_CSS}</style></head>"
        f"<body>{body}</body></html>\n"
    )

"""The part of a run's report on the inside of its network; empty where nothing of it was saved."""

from html import escape

import numpy as np
from PIL import Image

from jaxcifar.report import html_pieces
from jaxcifar.report.workdir_files import Run

_RED = np.array([255, 40, 0])


def attention(run: Run) -> str:
    """Return some images, each beside a copy that shows where the network looked (Grad-CAM)."""
    kept = run.examples
    if kept and "looked_at" not in kept:
        return (
            '<p class="note">An earlier version evaluated this run, and kept nothing of this. An evaluation '
            "by this version does.</p>"
        )
    if run.predictions is None or "attention" not in kept:
        return ""
    names, found = run.evaluation["class_names"], run.predictions
    places = kept["index"].tolist()
    figures = []
    for index, seen in zip(kept["looked_at"].tolist(), kept["attention"]):
        image = kept["images"][places.index(index)]
        label, guess = (escape(names[of[index]]) for of in (found.labels, found.predictions))
        text = f"where the network looked when it named {names[found.predictions[index]]}"
        figures.append(
            f"<figure>{html_pieces.image(image, 'as it is')}{html_pieces.image(_overlaid(image, seen), text)}"
            f"<figcaption>{'' if label == guess else f'{label}<br>'}<b>{guess}</b></figcaption></figure>"
        )
    return f'<div class="images twofold">{"".join(figures)}</div>'


def _overlaid(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the image, [height, width, channel] uint8, red where `seen`, [height, width], is near 1."""
    height, width, _ = image.shape
    enlarged = Image.fromarray(seen.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    share = 0.65 * np.clip(np.asarray(enlarged), 0, 1)[..., None]
    return ((1 - share) * image + share * _RED).astype(np.uint8)


def first_layer(run: Run) -> str:
    """Return the filters of the first layer, and its feature maps of an image."""
    if "maps" not in run.examples:
        return ""
    parts = []
    if "filters" in run.examples:
        filters = np.moveaxis(run.examples["filters"], -1, 0)
        tiles = [_stretched(each) for each in filters]
        parts.append(
            html_pieces.mosaic(tiles, "filters of the first layer, each scaled to the full range")
        )
    maps = [_stretched(each[..., None]) for each in run.examples["maps"]]
    parts.append(
        html_pieces.mosaic(
            maps, "first channels of the first layer's output for the first of these images"
        )
    )
    return "".join(parts)


def _stretched(values: np.ndarray) -> np.ndarray:
    """Return values as grey levels or colours, scaled so that the least is 0 and the largest 255."""
    low, high = float(values.min()), float(values.max())
    return (255 * (values - low) / (high - low if high > low else 1)).astype(np.uint8)

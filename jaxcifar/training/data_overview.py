"""What a run is trained and evaluated on: classes, counts, sizes, and what was left out."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcifar.config.schema import Config
from jaxcifar.data import image_folder
from jaxcifar.data.datasets import Dataset
from jaxcifar.data.facts import DataFacts, fingerprint
from jaxcifar.evaluation.by_class import is_unequal
from jaxcifar.host.output import counted
from jaxcifar.host.progress import warn

_MOST_CLASSES = 20
"""The most classes whose counts are printed."""
_MOST_FILES = 3
"""The most files that are named in a line."""


def summarise(facts: DataFacts, splits: Mapping[str, Dataset]) -> dict:
    """Return a summary of the data, for `data.json`.

    Args:
      facts: of the training split.
      splits: `train`, `test` and perhaps `validation`.

    Returns:
      `dataset`, its name; `class_names`; for each of the `splits` its `split` in TFDS's syntax, its
      `class_counts`, and a `fingerprint` that differs for other examples; and the entries of the dataset's
      own survey, see `image_folder.folder`.
    """
    train = splits["train"]
    return {
        "dataset": train.name,
        "class_names": list(train.class_names),
        "splits": {
            name: {
                "split": split.split,
                "class_counts": _class_counts(split).tolist(),
                "fingerprint": facts.fingerprint if split is train else fingerprint(split),
            }
            for name, split in splits.items()
        },
    } | dict(train.survey)


def examples(train: Dataset) -> dict[str, np.ndarray]:
    """Return the arrays of `data.npz`.

    Returns:
      An image of each of the first hundred classes: `images: [n, height, width, channel]`, `labels: [n]`; for
      a folder also `digests: [train examples] uint64`, by which evaluations recognise training examples.
    """
    labels, index = np.unique(train.labels, return_index=True)
    found = {"images": train.images[index[:100]], "labels": labels[:100]}
    return found if train.digests is None else found | {"digests": train.digests}


def describe(summary: dict) -> str:
    """Return lines on a dataset that was surveyed; empty for any other."""
    if "sizes" not in summary:
        return ""
    names = summary["class_names"]
    counts = {name: split["class_counts"] for name, split in summary["splits"].items()}
    order = list(range(len(names)))
    if len(names) > _MOST_CLASSES:
        by_count = sorted(order, key=lambda label: counts["train"][label])
        order = by_count[: _MOST_CLASSES // 2] + by_count[-_MOST_CLASSES // 2 :]
    shown = [(names[label], *(f"{counts[split][label]:,}" for split in counts)) for label in order]
    table = [
        ("images", *counts),
        *shown,
        (f"{len(names)} classes", *(f"{sum(own):,}" for own in counts.values())),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table
    ]
    if len(names) > _MOST_CLASSES:
        lines.insert(1 + _MOST_CLASSES // 2, "…")
    lines.append(image_folder.describe_sizes(summary["sizes"]))
    if left_out := summary["left_out"]:
        lines.append(f"left out: {len(left_out):,} ({_reasons(left_out)})")
    return "\n".join(lines)


def describe_balance(sampling: str, train: Dataset, weights: np.ndarray | None) -> str:
    """Return a line on what compensates for unequal classes, or what could; empty for equal ones.

    Args:
      sampling: `config.sampling`.
      train: the training split.
      weights: the loss's class weights, [class]; None if all are 1.
    """
    if weights is not None:
        named = [f"{name} {weight:.3g}" for name, weight in zip(train.class_names, weights)]
        more = " …" if len(named) > _MOST_CLASSES else ""
        return f"class weights: {', '.join(named[:_MOST_CLASSES])}{more}"
    counts = _class_counts(train)
    if not is_unequal(counts):
        return ""
    smallest, largest = int(counts.argmin()), int(counts.argmax())
    if sampling == "balanced":
        times = len(train) / len(counts) / max(counts[smallest], 1)
        return (
            "balanced sampling: an epoch holds as many examples of each class; one of "
            f"{train.class_names[smallest]} comes {times:.1f} times in the mean"
        )
    return (
        f"unequal classes: {counts[largest]:,} examples of {train.class_names[largest]}, "
        f"{counts[smallest]:,} of {train.class_names[smallest]}: --config.loss.class_weights=balanced or "
        "--config.sampling=balanced has them count alike"
    )


def warn_of_faults(summary: dict) -> None:
    """Warn of unreadable files, and of the same image in two classes or in two splits."""
    if found := summary.get("unreadable"):
        warn(
            f"left out, for they cannot be read: {counted(len(found), 'file')} ({_reasons(found)})"
        )
    if found := summary.get("same_in_two_classes"):
        warn(
            f"{counted(len(found), 'image')} in two classes at once ({_groups(found)}): keep one of each"
        )
    if found := summary.get("same_in_two_splits"):
        warn(
            f"{counted(len(found), 'image')} in two splits at once ({_groups(found)}): the result says less "
            "of new images"
        )


def describe_unused(config: Config, train_examples: int, devices: int) -> str:
    """Return a line if an epoch's batches leave out more than a tenth of the examples; else empty."""
    batch_size = config.batch_size
    unused = train_examples % batch_size
    if unused <= train_examples // 10:
        return ""
    sizes = range(devices, batch_size + 1, devices)
    best = max(sizes, key=lambda size: (train_examples % size <= train_examples // 50, size))
    steps = train_examples // batch_size
    return (
        f"an epoch is {counted(steps, 'step')} of {batch_size} examples, and leaves out "
        f"{unused} of {train_examples}, other ones each time: --config.batch_size={best} leaves out "
        f"{train_examples % best}"
    )


def _class_counts(dataset: Dataset) -> np.ndarray:
    return np.bincount(dataset.labels, minlength=len(dataset.class_names))


def _reasons(found: Sequence[Sequence[str]]) -> str:
    words = [f"{path}: {why}" for path, why in found[:_MOST_FILES]]
    return "; ".join(words) + ("; …" if len(found) > _MOST_FILES else "")


def _groups(found: Sequence[Sequence[str]]) -> str:
    words = [" = ".join(group) for group in found[:_MOST_FILES]]
    return "; ".join(words) + ("; …" if len(found) > _MOST_FILES else "")

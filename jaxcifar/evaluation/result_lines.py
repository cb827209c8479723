"""An evaluation in a few lines, as it is printed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxcifar.evaluation.by_class import at_chance

_MOST_CLASSES = 10
"""The most classes that have a line each."""


def scores(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scores, the most important last; by class too, if there are two classes or unequal ones.

    Args:
      evaluation: what `evaluation.json` holds.
    """
    split, unequal = evaluation["split"], evaluation["unequal_classes"]
    for name, augmented in evaluation["test_time_augmentation"].items():
        yield (
            f"{split} under test-time augmentation ({name}): accuracy {augmented['accuracy']:.2%}, loss "
            f"{augmented['loss']:.4f}"
        )
    two = evaluation["two_classes"]
    if unequal or two:
        yield from _classes(evaluation["per_class"])
    alike = commonest = ""
    if unequal:
        low, high = evaluation["balanced_accuracy_interval"]
        alike = (
            f"balanced accuracy {evaluation['balanced_accuracy']:.2%} (95% interval {low:.2%} to "
            f"{high:.2%}), macro-F1 {evaluation['macro_f1']:.2%}, "
        )
        commonest = f"; naming the commonest class always: {evaluation['majority_accuracy']:.2%}"
    yield (
        f"{split}: {alike}accuracy {evaluation['accuracy']:.2%} ({evaluation['correct']:,} of "
        f"{evaluation['examples']:,}{commonest}), loss {evaluation['loss']:.4f}, step {evaluation['step']}"
    )
    if two and (at := two["at_threshold"]):
        yield (
            f"{split}, taken for {two['positive']} from a probability of {at['threshold']:.4g} on, which the "
            f"validation split chose: balanced accuracy {at['balanced_accuracy']:.2%}, recall "
            f"{_share(at, 'recall')}, precision {_share(at, 'precision')}"
        )


def summary(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores without those of single classes."""
    longer = ("class_names", "per_class", "confused_pairs", "confusion_matrix")
    return {name: value for name, value in evaluation.items() if name not in longer}


def _classes(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of the classes; of many, of those with the lowest recall."""
    shown = found
    if len(found) > _MOST_CLASSES:
        shown = sorted(found, key=lambda each: each["recall"])[:_MOST_CLASSES]
    rows = [["class", "images", "recall (95% interval)", "precision (95% interval)"]]
    for each in shown:
        shares = [_share(each, name) for name in ("recall", "precision")]
        rows.append([each["name"], f"{each['examples']:,}", *shares])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    if len(found) > _MOST_CLASSES:
        yield f"these are the {_MOST_CLASSES} of {len(found):,} classes with the lowest recall"


def _share(found: Mapping[str, Any], name: str) -> str:
    if not (interval := found[f"{name}_interval"]):
        return "none"
    low, high = interval
    return f"{found[name]:.1%} ({low:.1%} to {high:.1%})"


def fault(evaluation: Mapping[str, Any], *, trained: bool) -> str:
    """Return why the result is worthless, with a remedy if `trained`; empty if it is not worthless."""
    if not (chance := at_chance(evaluation)):
        return ""
    remedy = "; train for longer, or at another --config.optimizer.learning_rate"
    if evaluation["unequal_classes"]:
        remedy += (
            "; --config.loss.class_weights=balanced or --config.sampling=balanced makes up for unequal "
            "classes"
        )
    return (
        f"this split does not show that the network has learned: {chance}, and the result is not clearly "
        f"above that{remedy if trained else ''}"
    )

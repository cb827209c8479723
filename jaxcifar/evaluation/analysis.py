"""How good a classifier is, and where it fails: from labels and predictions, in NumPy.

Time and memory grow with the number of examples and of classes, and only in `confusion_matrix` with the
square of the classes.
"""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Hold what was predicted for each example of a split."""

    labels: np.ndarray
    """[n] int."""
    predictions: np.ndarray
    """[n] int, the likeliest classes."""
    confidence: np.ndarray
    """[n], their probabilities."""

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> "Predictions":
        """Take the likeliest class of each row of `probabilities: [n, class]`; in a tie, the first."""
        return cls(labels, probabilities.argmax(1), probabilities.max(1))

    @property
    def right(self) -> np.ndarray:
        """Where prediction and label are the same: [n] bool."""
        return self.predictions == self.labels


@dataclasses.dataclass(frozen=True)
class ConfusedPair:
    """Hold how often two classes were taken for one another."""

    a: int
    """The class that is mistaken more often for the other."""
    b: int
    a_as_b: int
    """Examples of `a` that were taken for `b`."""
    b_as_a: int

    @property
    def total(self) -> int:
        """Mistakes in both directions."""
        return self.a_as_b + self.b_as_a


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Hold, by bins of confidence, how often the prediction was right."""

    edges: np.ndarray
    """[bins + 1], of confidence: the largest probability of an example."""
    counts: np.ndarray
    """[bins] int, examples."""
    confidence: np.ndarray
    """[bins], mean over the bin's examples; NaN where there are none."""
    accuracy: np.ndarray
    """[bins], likewise."""

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over examples of their bin's gap."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())


def confusion_matrix(found: Predictions, classes: int, block: int = 1) -> np.ndarray:
    """Count examples by label and prediction.

    Args:
      found: of a split.
      classes: how many there are.
      block: how many classes, one after the other, to count as one.

    Returns:
      [label, prediction] int64, each axis of length `classes / block`, rounded up.
    """
    blocks = -(-classes // block)
    labels = found.labels.astype(np.int64) // block
    cells = np.bincount(labels * blocks + found.predictions // block, minlength=blocks**2)
    return cells.reshape(blocks, blocks)


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return the share of examples whose label is among the `k` most probable classes.

    Args:
      probabilities: [n, class]; in a tie, the class with the smaller number comes first.
      labels: [n] int.
      k: if there are no more classes, every example counts.
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    return float(np.mean(ahead.sum(1) < k))


def per_class(found: Predictions, classes: int) -> dict[str, np.ndarray]:
    """Return each class's `examples`, `precision`, `recall` and `f1`: [class] each.

    The precision of a class that is never predicted is 0, as is the recall of one without examples.
    """
    hits, examples, predicted = (
        np.bincount(values, minlength=classes)
        for values in (found.labels[found.right], found.labels, found.predictions)
    )
    return {
        "examples": examples,
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(examples, 1),
        "f1": 2 * hits / np.maximum(examples + predicted, 1),
    }


def intervals_per_class(
    found: Predictions, classes: int
) -> dict[str, list[tuple[float, float] | None]]:
    """Return Wilson's interval of each class's `precision` and `recall`, None where there is no example."""
    hits, examples, predicted = (
        np.bincount(values, minlength=classes).tolist()
        for values in (found.labels[found.right], found.labels, found.predictions)
    )
    return {
        score: [wilson_interval(k, n) if n else None for k, n in zip(hits, of)]
        for score, of in (("precision", predicted), ("recall", examples))
    }


def confused_pairs(found: Predictions, most: int | None = None) -> list[ConfusedPair]:
    """Return the pairs of classes that were confused at all, the most confused first, at most `most`."""
    wrong = np.stack([found.labels, found.predictions])[:, ~found.right].astype(np.int64)
    pairs, which = np.unique(np.sort(wrong, axis=0), axis=1, return_inverse=True)
    which = which.ravel()
    upward = np.bincount(which[wrong[0] < wrong[1]], minlength=pairs.shape[1])
    total = np.bincount(which, minlength=pairs.shape[1])
    confused = []
    for k in np.argsort(-total, kind="stable")[:most]:
        ways = [(*pairs[:, k], upward[k]), (*pairs[::-1, k], total[k] - upward[k])]
        (a, b, a_as_b), (*_, b_as_a) = sorted(ways, key=lambda way: -way[2])
        confused.append(ConfusedPair(int(a), int(b), int(a_as_b), int(b_as_a)))
    return confused


def calibration(found: Predictions, bins: int = 15) -> Calibration:
    """Compare confidence with accuracy in bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Args:
      found: of a split.
      bins: how many, from 0 to 1; a bin holds its upper edge.
    """
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, found.confidence) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [
            np.bincount(bin_of, values, bins) / counts for values in (found.confidence, found.right)
        ]
    return Calibration(edges, counts, *means)


def wilson_interval(correct: int, examples: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval that holds the true accuracy with 95% confidence (Wilson 1927).

    Args:
      correct: examples that were right.
      examples: all examples, at least 1.
      z: standard deviations on either side; 1.96 for 95%.
    """
    share, spread = correct / examples, z * z / examples
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def confident_mistakes(found: Predictions) -> np.ndarray:
    """Return the indices of wrong predictions, the most confident first: [mistakes] int."""
    wrong = np.flatnonzero(~found.right)
    return wrong[np.argsort(-found.confidence[wrong], kind="stable")]


@dataclasses.dataclass(frozen=True)
class WorthSeeing:
    """Hold the indices of the examples whose images tell most: [n] int each."""

    mistakes: np.ndarray
    """The most confident, at most 24."""
    of_pairs: dict[tuple[int, int], np.ndarray]
    """The four most confident of each direction, (label, prediction), of the eight most confused pairs."""
    right: np.ndarray
    """The most confident right prediction of each of the first 24 classes, if there is one."""

    @property
    def all(self) -> np.ndarray:
        """All of them, once each."""
        return np.unique(np.concatenate([self.mistakes, *self.of_pairs.values(), self.right]))


def worth_seeing(found: Predictions) -> WorthSeeing:
    """Return the examples whose images tell most."""
    mistakes = confident_mistakes(found)
    of_pairs = {}
    for pair in confused_pairs(found, 8):
        for label, guess in ((pair.a, pair.b), (pair.b, pair.a)):
            own = (found.labels[mistakes] == label) & (found.predictions[mistakes] == guess)
            of_pairs[label, guess] = mistakes[own][:4]
    right = np.flatnonzero(found.right)
    right = right[np.argsort(-found.confidence[right], kind="stable")]
    classes, first = np.unique(found.labels[right], return_index=True)
    return WorthSeeing(mistakes[:24], of_pairs, right[first[classes < 24]])

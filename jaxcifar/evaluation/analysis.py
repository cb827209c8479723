"""How good a classifier is, and where it fails: from labels and probabilities, in NumPy."""

import dataclasses
import math

import numpy as np


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


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count examples by label and prediction: [label, prediction] int64."""
    cells = np.bincount(labels.astype(np.int64) * classes + predictions, minlength=classes**2)
    return cells.reshape(classes, classes)


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return the share of examples whose label is among the `k` most probable classes.

    Args:
      probabilities: [n, class]; of equal ones the class with the smaller number comes first.
      labels: [n] int.
      k: at most the number of classes.
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    return float(np.mean(ahead.sum(1) < k))


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return each class's `examples`, `precision`, `recall` and `f1`: [class] each.

    Where a class is never predicted its precision is 0, where it has no examples its recall is.
    """
    hits = np.diag(confusion)
    examples, predicted = confusion.sum(1), confusion.sum(0)
    return {
        "examples": examples,
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(examples, 1),
        "f1": 2 * hits / np.maximum(examples + predicted, 1),
    }


def confused_pairs(confusion: np.ndarray) -> list[ConfusedPair]:
    """Return the pairs of classes that were confused at all, the most confused first."""
    pairs = []
    for i, j in zip(*np.triu_indices(len(confusion), 1)):
        a, b = (i, j) if confusion[i, j] >= confusion[j, i] else (j, i)
        pairs.append(ConfusedPair(int(a), int(b), int(confusion[a, b]), int(confusion[b, a])))
    return sorted((pair for pair in pairs if pair.total), key=lambda pair: -pair.total)


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Compare confidence with accuracy in bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Args:
      probabilities: [n, class].
      labels: [n] int.
      bins: how many, from 0 to 1; a bin holds its upper edge.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bin_of, values, bins) / counts for values in (confidence, right)]
    return Calibration(edges, counts, *means)


def wilson_interval(correct: int, examples: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval that holds the true accuracy with 95% confidence (Wilson 1927).

    Args:
      correct: examples that were right.
      examples: of how many, at least 1.
      z: standard deviations on either side; 1.96 for 95%.
    """
    share, spread = correct / examples, z * z / examples
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the indices of wrong predictions, the most confident first: [mistakes] int."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]


def worth_seeing(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    """Return the indices of the examples whose images tell most: [n] int each.

    Returns:
      The 24 most confident mistakes, and for each direction of the eight most confused pairs, as
      (label, prediction), its four most confident.
    """
    mistakes = confident_mistakes(probabilities, labels)
    predictions = probabilities.argmax(1)
    pairs = confused_pairs(confusion_matrix(labels, predictions, probabilities.shape[1]))
    of_pairs = {}
    for pair in pairs[:8]:
        for label, guess in ((pair.a, pair.b), (pair.b, pair.a)):
            own = (labels[mistakes] == label) & (predictions[mistakes] == guess)
            of_pairs[label, guess] = mistakes[own][:4]
    return mistakes[:24], of_pairs

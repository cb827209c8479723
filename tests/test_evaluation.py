"""The analysis against scikit-learn, and against what its figures mean."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn import metrics as sklearn_metrics

from jaxcifar.evaluation import analysis


@pytest.fixture
def split():
    """Return probabilities [n, class] and labels [n] of a classifier that is sometimes right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(7, size=1000)
    logits = rng.normal(size=(1000, 7)) + 2 * np.eye(7)[labels]
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(1, keepdims=True), labels


def found(labels, predictions, confidence=None):
    confidence = np.ones(len(labels)) if confidence is None else confidence
    return analysis.Predictions(np.asarray(labels), np.asarray(predictions), confidence)


def from_matrix(confusion):
    """Return predictions that have this confusion matrix."""
    cells = np.repeat(np.arange(confusion.size), confusion.ravel())
    return found(*np.divmod(cells, len(confusion)))


def test_confusion_precision_recall_and_f1_are_scikit_learns(split):
    probabilities, labels = split
    predictions = probabilities.argmax(1)
    predictions[predictions == 3] = 2  # a class that is never predicted
    these = found(labels, predictions)
    confusion = analysis.confusion_matrix(these, 7)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(labels, predictions))
    expected = sklearn_metrics.precision_recall_fscore_support(labels, predictions, zero_division=0)
    scores = analysis.per_class(these, 7)
    for name, values in zip(("precision", "recall", "f1", "examples"), expected, strict=True):
        np.testing.assert_allclose(scores[name], values)


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_a_confusion_matrix_of_blocks_is_the_sum_over_their_classes(split, block):
    these = analysis.Predictions.of(*split)
    whole = analysis.confusion_matrix(these, 7)
    blocks = analysis.confusion_matrix(these, 7, block)
    edges = np.arange(0, 7, block)
    expected = np.add.reduceat(np.add.reduceat(whole, edges, 0), edges, 1)
    np.testing.assert_array_equal(blocks, expected)


@pytest.mark.parametrize("k", [1, 2, 6])
def test_top_k_accuracy_is_scikit_learns(split, k):
    probabilities, labels = split
    expected = sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=k)
    assert analysis.top_k_accuracy(probabilities, labels, k) == pytest.approx(expected)


def test_top_1_of_equal_probabilities_is_what_argmax_says():
    probabilities = np.full((3, 4), 0.25)
    assert analysis.top_k_accuracy(probabilities, np.array([0, 1, 3]), 1) == pytest.approx(1 / 3)


def test_calibration_compares_confidence_with_accuracy_bin_by_bin(split):
    probabilities, labels = split
    compared = analysis.calibration(analysis.Predictions.of(probabilities, labels), bins=10)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    error = 0
    for i in range(10):
        inside = (confidence > i / 10) & (confidence <= (i + 1) / 10)
        assert compared.counts[i] == inside.sum()
        if inside.any():
            assert compared.accuracy[i] == pytest.approx(right[inside].mean())
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert compared.error == pytest.approx(error)


def test_a_classifier_that_is_right_as_often_as_it_says_has_no_calibration_error():
    sure, zeros = np.full(400, 0.75), np.zeros(400, int)
    right_as_often = found(np.arange(400) % 4 // 3, zeros, sure)
    assert analysis.calibration(right_as_often).error == pytest.approx(0)
    assert analysis.calibration(found(zeros + 1, zeros, sure)).error == pytest.approx(0.75)


@given(st.integers(1, 10_000), st.data())
def test_the_interval_holds_the_accuracy_and_stays_within_0_and_1(examples, data):
    correct = data.draw(st.integers(0, examples))
    low, high = analysis.wilson_interval(correct, examples)
    assert 0 <= low <= correct / examples + 1e-12
    assert correct / examples - 1e-12 <= high <= 1
    assert high - low < 4 / examples**0.5


def test_the_interval_holds_the_true_accuracy_19_times_in_20():
    correct = np.random.default_rng(0).binomial(1000, 0.9, size=2000)
    intervals = [analysis.wilson_interval(int(count), 1000) for count in correct]
    assert 0.93 < np.mean([low <= 0.9 <= high for low, high in intervals]) < 0.97


def test_confused_pairs_count_both_directions_and_leave_out_what_is_never_confused():
    these = from_matrix(np.array([[50, 1, 0], [8, 40, 2], [0, 3, 45]]))
    pairs = analysis.confused_pairs(these)
    assert pairs == [analysis.ConfusedPair(1, 0, 8, 1), analysis.ConfusedPair(2, 1, 3, 2)]
    assert [pair.total for pair in pairs] == [9, 5]
    assert analysis.confused_pairs(these, 1) == pairs[:1]
    assert analysis.confused_pairs(from_matrix(np.diag([3, 4]))) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 40))
def test_confused_pairs_are_the_cells_beside_the_diagonal(seed, classes, examples):
    labels, predictions = np.random.default_rng(seed).integers(0, classes, (2, examples))
    matrix = analysis.confusion_matrix(found(labels, predictions), classes)
    pairs = analysis.confused_pairs(found(labels, predictions))
    assert len({frozenset((pair.a, pair.b)) for pair in pairs}) == len(pairs)
    totals = [pair.total for pair in pairs]
    assert totals == sorted(totals, reverse=True)
    assert sum(totals) == (labels != predictions).sum()
    for pair in pairs:
        assert (pair.a_as_b, pair.b_as_a) == (matrix[pair.a, pair.b], matrix[pair.b, pair.a])
        assert pair.a_as_b >= pair.b_as_a


def test_the_most_confident_mistakes_come_first(split):
    probabilities, labels = split
    rows = analysis.confident_mistakes(analysis.Predictions.of(probabilities, labels))
    assert len(rows) == (probabilities.argmax(1) != labels).sum()
    assert (probabilities.argmax(1) != labels)[rows].all()
    assert (np.diff(probabilities.max(1)[rows]) <= 0).all()

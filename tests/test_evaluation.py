"""The analysis against scikit-learn, and against what its figures mean."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn import metrics as sklearn_metrics

from jaxcifar.evaluation import analysis


@pytest.fixture
def split():
    """Return probabilities [n, class] and labels [n] of a classifier that is right now and then."""
    rng = np.random.default_rng(0)
    labels = rng.integers(7, size=1000)
    logits = rng.normal(size=(1000, 7)) + 2 * np.eye(7)[labels]
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(1, keepdims=True), labels


def test_confusion_precision_recall_and_f1_are_scikit_learns(split):
    probabilities, labels = split
    predictions = probabilities.argmax(1)
    predictions[predictions == 3] = 2  # a class that is never predicted
    confusion = analysis.confusion_matrix(labels, predictions, 7)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(labels, predictions))
    expected = sklearn_metrics.precision_recall_fscore_support(labels, predictions, zero_division=0)
    scores = analysis.per_class(confusion)
    for name, values in zip(("precision", "recall", "f1", "examples"), expected, strict=True):
        np.testing.assert_allclose(scores[name], values)


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
    found = analysis.calibration(probabilities, labels, bins=10)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    error = 0
    for i in range(10):
        inside = (confidence > i / 10) & (confidence <= (i + 1) / 10)
        assert found.counts[i] == inside.sum()
        if inside.any():
            assert found.accuracy[i] == pytest.approx(right[inside].mean())
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found.error == pytest.approx(error)


def test_a_classifier_that_is_right_as_often_as_it_says_has_no_calibration_error():
    probabilities = np.tile([0.75, 0.25], (400, 1))
    assert analysis.calibration(probabilities, np.arange(400) % 4 // 3).error == pytest.approx(0)
    assert analysis.calibration(probabilities, np.ones(400, int)).error == pytest.approx(0.75)


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
    confusion = np.array([[50, 1, 0], [8, 40, 2], [0, 3, 45]])
    pairs = analysis.confused_pairs(confusion)
    assert pairs == [analysis.ConfusedPair(1, 0, 8, 1), analysis.ConfusedPair(2, 1, 3, 2)]
    assert [pair.total for pair in pairs] == [9, 5]


def test_the_most_confident_mistakes_come_first(split):
    probabilities, labels = split
    rows = analysis.confident_mistakes(probabilities, labels)
    assert len(rows) == (probabilities.argmax(1) != labels).sum()
    assert (probabilities.argmax(1) != labels)[rows].all()
    assert (np.diff(probabilities.max(1)[rows]) <= 0).all()

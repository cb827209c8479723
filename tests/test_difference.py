"""How much two classifiers, or two recipes, differ."""

import numpy as np
import pytest
from scipy import stats

from jaxcifar.evaluation import difference


@pytest.mark.parametrize(("a_alone", "b_alone"), [(0, 0), (1, 0), (30, 12), (200, 230)])
def test_mcnemars_p_value_is_scipys_binomial_test(a_alone, b_alone):
    right_a = np.repeat([True, False, True, False], [a_alone, b_alone, 500, 40])
    right_b = np.repeat([False, True, True, False], [a_alone, b_alone, 500, 40])
    found = difference.of_examples(right_a, right_b)
    trials = a_alone + b_alone
    expected = stats.binomtest(a_alone, trials).pvalue if trials else 1.0
    assert found.p_value == pytest.approx(expected, 1e-9)
    assert found.value == pytest.approx((a_alone - b_alone) / len(right_a))
    assert found.interval[0] <= found.value <= found.interval[1]
    other = difference.of_examples(right_b, right_a)
    assert other.interval == pytest.approx([-found.interval[1], -found.interval[0]])


@pytest.mark.parametrize("cells", [(0.9, 0.05, 0.02), (0.5, 0.2, 0.25), (0.97, 0.005, 0.01)])
def test_the_interval_of_two_classifiers_holds_the_true_difference_as_often_as_it_says(cells):
    rng, true, held, draws = np.random.default_rng(0), cells[1] - cells[2], 0, 2000
    for _ in range(draws):
        cell = rng.choice(4, 300, p=[*cells, 1 - sum(cells)])
        found = difference.of_examples((cell == 0) | (cell == 1), (cell == 0) | (cell == 2))
        held += found.interval[0] <= true <= found.interval[1]
    assert 0.94 <= held / draws <= 0.99


def test_the_difference_of_recipes_is_welchs():
    a, b = [0.91, 0.92, 0.905], [0.90, 0.89, 0.915, 0.9]
    found, expected = difference.of_runs(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, 1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()), 1e-9)
    assert difference.of_runs([0.5, 0.5], [0.5, 0.5]).p_value == 1
    assert difference.of_runs([0.5, 0.5], [0.4, 0.4]).interval == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("shares", [(0.1, 0.05), (0.3, 0.2), (0.02, 0.01)])
def test_the_interval_of_balanced_accuracies_holds_the_true_difference_as_often_as_it_says(shares):
    rng, draws = np.random.default_rng(0), 2000
    labels = np.repeat([0, 1, 2], [200, 60, 12])
    alone_a, alone_b = np.array([0.05, shares[0], 0.2]), np.array([0.05, shares[1], 0.1])
    true, held, refused = float(np.mean(alone_a - alone_b)), 0, 0
    for _ in range(draws):
        drawn = rng.random(len(labels))
        right_a = drawn < alone_a[labels]
        right_b = (drawn > 0.5) & (drawn < 0.5 + alone_b[labels])
        found = difference.of_classes(right_a, right_b, labels)
        held += found.interval[0] <= true <= found.interval[1]
        # Under no difference either may be the one that is right.
        swapped = rng.random(len(labels)) < 0.5
        neither = difference.of_classes(
            np.where(swapped, right_b, right_a), np.where(swapped, right_a, right_b), labels
        )
        refused += neither.p_value < 0.05
    assert 0.93 <= held / draws <= 0.99
    assert refused / draws <= 0.06


def test_the_difference_of_balanced_accuracies_is_theirs_whatever_the_classes_sizes():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [400, 20])
    right_a, right_b = rng.random((2, 420)) < 0.7
    found = difference.of_classes(right_a, right_b, labels)
    expected = sum((right_a[labels == k].mean() - right_b[labels == k].mean()) / 2 for k in (0, 1))
    assert found.value == pytest.approx(expected)
    other = difference.of_classes(right_b, right_a, labels)
    assert other.interval == pytest.approx([-found.interval[1], -found.interval[0]])
    assert difference.of_classes(right_a, right_a, labels).p_value == 1

"""Unequal classes: the order that evens them out, the loss that weighs them, the scores in which they count."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from sklearn import metrics as sklearn_metrics

from jaxcifar import predict
from jaxcifar.data.datasets import Dataset
from jaxcifar.evaluation import analysis, two_classes
from jaxcifar.evaluation.by_class import at_chance, by_class, is_unequal
from jaxcifar.evaluation.two_classes import Curve
from jaxcifar.step.losses import balanced_weights, make_loss, scaled_weights
from jaxcifar.step.order import balanced_order
from jaxcifar.training.data_overview import describe_balance


def found(labels, predictions):
    return analysis.Predictions(np.asarray(labels), np.asarray(predictions), np.ones(len(labels)))


@pytest.mark.parametrize("counts", [[98, 2], [3, 40, 200], [10] * 10])
def test_a_balanced_order_has_as_many_of_each_class_and_each_example_equally_often(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    order = balanced_order(0, 0, labels, 10)
    assert order.shape == (len(labels) // 10, 10) and order.dtype == np.int32
    of_class = np.bincount(labels[order.ravel()], minlength=len(counts))
    assert np.ptp(of_class) <= 1
    often = np.bincount(order.ravel(), minlength=len(labels))
    for label in range(len(counts)):
        assert np.ptp(often[labels == label]) <= 1
    np.testing.assert_array_equal(order, balanced_order(0, 0, labels, 10))
    for other in (balanced_order(0, 1, labels, 10), balanced_order(1, 0, labels, 10)):
        assert (order != other).any()


def test_a_balanced_order_mixes_the_classes_of_each_step():
    labels = np.repeat([0, 1], [900, 100])
    in_steps = (labels[balanced_order(0, 0, labels, 50)] == 1).sum(1)
    assert in_steps.min() > 10 and in_steps.max() < 40 and in_steps.std() > 1


def test_weights_are_one_in_the_mean_of_the_examples():
    for weights in (balanced_weights([98, 2]), scaled_weights([1, 7], [98, 2])):
        assert weights @ [98, 2] == pytest.approx(100)
    np.testing.assert_allclose(balanced_weights([98, 2]) * [98, 2], 50)
    assert np.ptp(scaled_weights([1, 7], [98, 2]) / [1, 7]) == pytest.approx(0)


@pytest.fixture
def batch():
    """Return logits [20, 3], labels [20] and their targets."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=20)
    return jnp.asarray(rng.normal(size=(20, 3))), labels, jax.nn.one_hot(labels, 3)


def test_without_weights_and_focus_the_loss_is_the_cross_entropy_itself():
    assert make_loss() is optax.softmax_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_example_counts_by_the_weight_of_its_class_however_smooth_its_target(batch, smoothing):
    logits, labels, targets = batch
    weights = np.array([0.5, 1.0, 4.0])
    smoothed = optax.smooth_labels(targets, smoothing)
    losses = make_loss(weights, 0.0, smoothing)(logits, smoothed)
    expected = weights[labels] * optax.softmax_cross_entropy(logits, smoothed)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    mixed = 0.3 * smoothed[:1] + 0.7 * smoothed[1:2]
    (loss,) = make_loss(weights, 0.0, smoothing)(logits[:1], mixed)
    weight = 0.3 * weights[labels[0]] + 0.7 * weights[labels[1]]
    assert loss == pytest.approx(
        float(weight * optax.softmax_cross_entropy(logits[:1], mixed)[0]), 1e-5
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_is_that_of_its_paper(batch, gamma):
    logits, labels, targets = batch
    p = np.asarray(jax.nn.softmax(logits))[np.arange(20), labels]
    losses = make_loss(focal_gamma=gamma)(logits, targets)
    np.testing.assert_allclose(losses, -((1 - p) ** gamma) * np.log(p), rtol=1e-5)


def test_the_focal_loss_has_a_gradient_where_nothing_is_left_to_learn():
    logits, targets = jnp.array([[200.0, -200.0]]), jnp.array([[1.0, 0.0]])
    gradient = jax.grad(lambda x: make_loss(focal_gamma=0.5)(x, targets).sum())(logits)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_balanced_accuracy_and_macro_f1_are_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.choice(6, 500, p=[0.5, 0.3, 0.1, 0.06, 0.04, 0])  # the last has no examples
    predictions = np.where(rng.random(500) < 0.7, labels, rng.integers(5, size=500))
    these = by_class(found(labels, predictions), 6)
    expected = sklearn_metrics.balanced_accuracy_score(labels, predictions)
    assert these.balanced_accuracy == pytest.approx(expected)
    expected = sklearn_metrics.f1_score(labels, predictions, average="macro")
    assert these.macro_f1 == pytest.approx(expected)


@pytest.mark.parametrize(
    ("examples", "recall"), [([980, 20], [0.97, 0.6]), ([50, 10, 5], [0.9, 0.9, 0.9])]
)
def test_their_intervals_hold_the_true_values_as_often_as_they_say(examples, recall):
    rng, recall, examples = np.random.default_rng(0), np.array(recall), np.array(examples)
    classes = len(examples)
    wrong = np.ones((classes, classes)) - np.eye(classes)
    shares = np.diag(recall) + wrong * ((1 - recall) / (classes - 1))[:, None]
    true_f1 = (2 * examples * recall / (examples + examples @ shares)).mean()
    held = np.zeros(2)
    labels = np.repeat(np.arange(classes), examples)
    for _ in range(300):
        drawn = [rng.choice(classes, n, p=p) for n, p in zip(examples, shares)]
        these = by_class(found(labels, np.concatenate(drawn)), classes, draws=400)
        intervals = these.balanced_accuracy_interval, these.macro_f1_interval
        for place, ((low, high), true) in enumerate(zip(intervals, (recall.mean(), true_f1))):
            held[place] += low <= true <= high
    assert (held / 300 > 0.9).all(), held / 300


def test_scores_of_a_classifier_that_is_always_right_are_one_and_their_intervals_are_not_empty():
    these = by_class(found([0, 0, 0, 1], [0, 0, 0, 1]), 2)
    assert these.balanced_accuracy == these.macro_f1 == 1
    assert 0.3 < these.balanced_accuracy_interval[0] < these.balanced_accuracy_interval[1] <= 1


def test_unequal_classes_are_told_with_what_makes_up_for_them():
    labels = np.array([0] * 30 + [1] * 10, np.int32)
    train = Dataset(np.zeros((40, 1, 1, 1), np.uint8), labels, ("dog", "cat"))
    assert describe_balance("shuffled", train, None) == (
        "unequal classes: 30 examples of dog, 10 of cat: --config.loss.class_weights=balanced or "
        "--config.sampling=balanced has them count alike"
    )
    assert "one of cat comes 2.0 times" in describe_balance("balanced", train, None)
    weights = np.array([2 / 3, 2])
    assert describe_balance("shuffled", train, weights) == "class weights: dog 0.667, cat 2"
    equal = dataclasses.replace(train, images=train.images[20:], labels=labels[20:])
    assert describe_balance("shuffled", equal, None) == ""


def test_an_interval_holds_its_own_score():
    for right in (0, 3, 6):
        found = analysis.Predictions.of(
            np.eye(2)[[0] * right + [1] * (6 - right)], np.zeros(6, int)
        )
        alike = by_class(found, 2)
        low, high = alike.balanced_accuracy_interval
        assert low <= alike.balanced_accuracy <= high


def test_classes_are_unequal_from_one_and_a_half_times_on():
    assert not is_unequal(np.array([10, 15])) and is_unequal(np.array([10, 16]))


@pytest.fixture
def scores():
    """Return scores [300], some of them equal, and which examples are of the class."""
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.2
    return np.round(rng.normal(size=300) + positive, 1), positive


def test_curves_and_areas_are_scikit_learns(scores):
    values, positive = scores
    curve = Curve.of(values, positive)
    x, y, thresholds = sklearn_metrics.roc_curve(positive, values, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, x[1:])
    np.testing.assert_allclose(curve.true_positive_rate, y[1:])
    np.testing.assert_allclose(curve.thresholds, thresholds[1:])
    assert curve.roc_area == pytest.approx(sklearn_metrics.roc_auc_score(positive, values))
    expected = sklearn_metrics.average_precision_score(positive, values)
    assert curve.average_precision == pytest.approx(expected)


def test_no_threshold_has_a_larger_balanced_accuracy_than_the_chosen_one(scores):
    values, positive = scores

    def balanced_accuracy(threshold):
        taken = values >= threshold
        return (taken[positive].mean() + (~taken)[~positive].mean()) / 2

    chosen = Curve.of(values, positive).best_threshold
    assert balanced_accuracy(chosen) == max(map(balanced_accuracy, [*values, values.max() + 1]))
    assert chosen not in values


def test_the_rarer_class_is_the_one_to_be_found():
    assert [two_classes.positive_class(c) for c in ([9, 1], [1, 9], [5, 5], ())] == [1, 0, 1, 1]


def unequal(split):
    """Draw two classes of the built-in images, with four images of one for each of the other."""
    import dataclasses

    from jaxcifar.data import datasets

    drawn = datasets.shapes(split, seed=0, train_examples=1000, test_examples=500)
    kept = (drawn.labels == 0) | ((drawn.labels == 1) & (np.arange(len(drawn)) % 4 == 0))
    return dataclasses.replace(
        drawn, images=drawn.images[kept], labels=drawn.labels[kept], class_names=("disc", "ring")
    )


def test_a_run_of_two_unequal_classes_leads_with_balanced_accuracy_and_chooses_a_threshold(
    run_here, tiny_flags, tmp_path, capsys
):
    flags = [
        *tiny_flags,
        "--config.data.name=tests.test_unequal:unequal",
        "--config.data.train_split=train[:70%]",
        "--config.data.validation_split=train[70%:]",
        "--config.batch_size=40",
        "--config.num_epochs=1",
        "--config.loss.class_weights=balanced",
        f"--workdir={tmp_path}",
    ]
    result = run_here(*flags)
    assert result.returncode == 0, result.stderr
    assert "\ntest: balanced accuracy " in result.stdout
    assert "\ntest, taken for ring from a probability of " in result.stdout
    assert "class weights: disc 0.6" in result.stdout
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    two, scores = evaluation["two_classes"], evaluation["per_class"]
    assert "\nclass  images  recall (95% interval)" in result.stdout
    for score in scores:
        low, high = score["recall_interval"]
        assert 0 <= low <= score["recall"] <= high <= 1
    assert evaluation["unequal_classes"] and two["positive"] == "ring"
    assert evaluation["balanced_accuracy"] == pytest.approx(
        (scores[0]["recall"] + scores[1]["recall"]) / 2
    )
    assert 0 < two["at_threshold"]["threshold"] < 1
    page = (tmp_path / "report/index.html").read_text()
    assert page.index("balanced accuracy") < page.index("<span>accuracy</span>")
    assert "Telling the two classes apart" in page
    again = run_here(*flags, "--mode=evaluate")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "evaluation.json").read_text())["two_classes"] == two
    # On other examples the threshold stays the one that the run has chosen.
    assert run_here(*flags, "--mode=evaluate", "--config.data.test_split=train").returncode == 0
    (other,) = (tmp_path / "evaluations").glob("*/evaluation.json")
    at = json.loads(other.read_text())["two_classes"]["at_threshold"]
    assert at["threshold"] == two["at_threshold"]["threshold"]
    held_out = run_here(*flags, "--mode=evaluate", "--config.data.test_split=train[70%:]")
    assert held_out.returncode == 0 and "which the validation split chose" not in held_out.stdout
    page = (tmp_path / "report/index.html").read_text()
    assert "<th>balanced accuracy (95% interval)</th>" in page
    assert "<th>recall (95% interval)</th>" in page

    Image.fromarray(unequal("test").images[0]).save(tmp_path / "one.png")

    def said(threshold):
        file = f"{tmp_path}/one.png"
        assert predict.main(["", *flags[-1:], "--json", f"--threshold={threshold}", file]) == 0
        return json.loads(capsys.readouterr().out)

    assert said(0)["prediction"] == "ring" and said(1)["prediction"] == "disc"
    share = {each["class"]: each["probability"] for each in said(0)["predictions"]}["ring"]
    taken = share >= two["at_threshold"]["threshold"]
    assert said("validation")["prediction"] == ("ring" if taken else "disc")
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation | {"step": 1}))
    assert predict.main(["", *flags[-1:], "--threshold=validation", "one.png"]) == 2
    assert "is of the checkpoint of step 1, and that of step" in capsys.readouterr().err
    for wrong in ("21.9%", "1.5", "auto"):
        assert predict.main(["", *flags[-1:], f"--threshold={wrong}", "one.png"]) == 2
        assert (
            "must be a probability from 0 to 1, as 0.25, or validation" in capsys.readouterr().err
        )


def test_a_result_on_unequal_classes_is_at_chance_if_its_balanced_accuracy_is():
    found = {
        "unequal_classes": True,
        "balanced_accuracy_interval": [0.52, 0.7],
        "accuracy_interval": [0.7, 0.8],
        "majority_accuracy": 0.9,
        "per_class": [{"examples": 90}, {"examples": 10}, {"examples": 0}],
    }
    assert at_chance(found) == ""
    low = found | {"balanced_accuracy_interval": [0.45, 0.6]}
    assert at_chance(low) == "naming one class for every image has a balanced accuracy of 50.00%"
    assert "accuracy of 90.00%" in at_chance(found | {"unequal_classes": False})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["loss.class_weights=some"],
            "it must be none, balanced, or a number above 0 for each class",
        ),
        (
            ["loss.class_weights=1,-1"],
            "it must be none, balanced, or a number above 0 for each class",
        ),
        (
            ["loss.class_weights=1,2"],
            "=1.0,2.0: 2 weights for 10 classes: give one for each, in the",
        ),
        (["loss.focal_gamma=-1"], "it must be from 0 to 10"),
        (["sampling=balanced", "loss.class_weights=balanced"], "both make up for unequal classes"),
        (["sampling=odd"], "known are balanced, shuffled"),
    ],
)
def test_a_mistake_with_unequal_classes_is_one_line(fails, tiny_flags, tmp_path, flags, words):
    flags = [f"--config.{flag}" for flag in flags]
    assert words in fails(*tiny_flags, *flags, f"--workdir={tmp_path}/run")

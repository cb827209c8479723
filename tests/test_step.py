"""Steps, and their mapping over devices and rows."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxcifar.augment import AUGMENTATIONS
from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.layout import Layout
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.experiment.setup import set_up
from jaxcifar.step.batch import map_step
from jaxcifar.step.counts import Counts
from jaxcifar.step.order import epoch_order, padded_order, stretches

ROOT = Path(__file__).parent.parent


class Looped(Layout):
    """A CPU made to run many rows in a dispatch, as a GPU does."""

    rows_per_dispatch = 1000


def layout(devices=1, kind=Layout):
    return kind(tuple(jax.devices()[:devices]), {})


def begin(config, layout):
    setup, dataset = set_up(config, layout)
    return dataset, setup.experiment, setup.new_state(dataset, jax.random.key(config.seed))


def run_steps(config, layout, dispatches):
    dataset, experiment, state = begin(config, layout)
    run = map_step(experiment.train_step, layout, updates_state=True)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    data, order, key = layout.put(
        ((dataset.images, dataset.labels), order, jax.random.key(config.seed))
    )
    parts = []
    for start, stop in dispatches:
        state, counts = run(state, data, order, start, stop, key)
        parts.append(jax.device_get(counts))
    return jax.device_get(state), jax.tree.map(lambda *leaves: sum(x.sum() for x in leaves), *parts)


def on_this_device_alone(experiment):
    """Return the model, with BatchNorm's moments taken over no mapped axis."""
    return experiment.model.clone(compute=dataclasses.replace(experiment.compute, axis_name=None))


NO_AUGMENTATION = {f"augmentation.{name}.enabled": False for name in AUGMENTATIONS}


def relative(a, b):
    norm = lambda leaf: np.linalg.norm(np.asarray(leaf, np.float64))
    difference = lambda x, y: norm(np.asarray(x, np.float64) - y) / max(norm(y), 1e-12)
    return max(jax.tree.leaves(jax.tree.map(difference, a, b)))


def test_rows_in_one_dispatch_equal_rows_in_several(tiny_config):
    config = tiny_config()
    alone, counts = run_steps(config, layout(), [(0, 1), (1, 2), (2, 3)])
    looped, looped_counts = run_steps(config, layout(kind=Looped), [(0, 2), (2, 3)])
    assert looped.step == alone.step == 3
    assert relative(looped.params, alone.params) < 1e-3
    assert looped_counts.seen == counts.seen == 3 * 64
    assert abs(looped_counts.loss_sum / counts.loss_sum - 1) < 1e-4


def test_the_same_key_gives_the_same_state_bit_for_bit(tiny_config):
    once, again = (run_steps(tiny_config(), layout(), [(0, 1), (1, 2)])[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, once, again)


def test_another_seed_gives_another_state(tiny_config):
    once, other = (run_steps(tiny_config({"seed": s}), layout(), [(0, 1)])[0] for s in (0, 1))
    assert relative(once.params, other.params) > 1e-3


def test_eight_devices_equal_one_after_one_step_in_float32(tiny_config):
    """SGD's trace compares gradients too: Adam's first step is their sign. GELU: rounding can flip a ReLU.

    Few examples, because the gradient of the first kernel is a sum over all pixels that nearly cancels.
    """
    smooth = {"model.cnn.dropout_rate": 0.0, "model.cnn.activation": "gelu", "batch_size": 16}
    config = tiny_config(smooth | {"optimizer.name": "sgd"})
    one, eight = (run_steps(config, layout(devices), [(0, 1)]) for devices in (1, 8))
    for part in ("params", "batch_stats", "opt_state"):
        assert relative(getattr(eight[0], part), getattr(one[0], part)) < 1e-5
    assert eight[1].seen == one[1].seen == 16


def test_eight_devices_equal_one_after_twenty_steps_in_float64():
    """In a process of its own, because float64 is a choice for a whole process."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.float64_devices"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-9


@pytest.mark.parametrize("dropout_rate", [0.0, 0.5])
def test_two_devices_with_the_same_rows_drop_different_units(tiny_config, dropout_rate):
    """Without dropout their losses are twice that of one device; with it they must not be."""
    config = tiny_config({"model.cnn.dropout_rate": dropout_rate} | NO_AUGMENTATION)
    losses = []
    for devices in (1, 2):
        dataset, experiment, state = begin(config, layout(devices))
        run = map_step(experiment.train_step, layout(devices), updates_state=True)
        order = np.tile(np.arange(16, dtype=np.int32), (1, devices))
        _, counts = run(state, (dataset.images, dataset.labels), order, 0, 1, jax.random.key(0))
        losses.append(float(counts.loss_sum.sum()) / devices)
    assert (abs(losses[1] / losses[0] - 1) < 1e-5) == (dropout_rate == 0)


def test_the_gradient_is_that_of_the_mean_over_the_global_batch(tiny_config):
    """Against plain JAX on one device, without any of our steps: SGD, no augmentation."""
    changes = {
        "optimizer.name": "sgd",
        "optimizer.sgd.momentum": 0.0,
        "optimizer.l2_penalty": 0.0,
        "schedule.name": "constant",
        "optimizer.learning_rate": 1.0,
        "schedule.warmup_epochs": 0.0,
        "model.cnn.dropout_rate": 0.0,
        "label_smoothing": 0.1,
    }
    config = tiny_config(changes | NO_AUGMENTATION)
    dataset, experiment, before = begin(config, layout())
    before = jax.device_get(before)
    after, counts = run_steps(config, layout(8), [(0, 1)])
    rows = epoch_order(0, 0, len(dataset), config.batch_size)[0]
    images = (dataset.images[rows] / 255 - experiment.facts.mean) / experiment.facts.std
    targets = 0.9 * np.eye(10)[dataset.labels[rows]] + 0.01

    def loss(params):
        logits, _ = on_this_device_alone(experiment).apply(
            {"params": params, "batch_stats": before.batch_stats},
            images.astype(np.float32),
            train=True,
            mutable=["batch_stats"],
        )
        return optax.softmax_cross_entropy(logits, targets).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(before.params)
    step = jax.tree.map(lambda a, b: b - a, after.params, before.params)
    assert relative(step, grads) < 1e-4
    np.testing.assert_allclose(counts.loss_sum / 64, value, rtol=1e-5)


def test_a_program_compiled_ahead_gives_the_same_state_bit_for_bit(tiny_config):
    config, one = tiny_config(NO_AUGMENTATION), layout(2)
    dataset, experiment, _ = begin(config, one)
    arguments = (
        (dataset.images, dataset.labels),
        epoch_order(0, 0, len(dataset), config.batch_size),
    )
    data, order, key = one.put((*arguments, jax.random.key(1)))
    results = []
    for ahead in (False, True):
        state = one.run_once(experiment.init_state, jax.random.key(0), dataset.images)
        run = map_step(experiment.train_step, one, updates_state=True)
        if ahead:
            run.lower(1, state, *arguments, key)()
        results.append(jax.device_get(run(state, data, order, 0, 1, key)))
    jax.tree.map(np.testing.assert_array_equal, *results)


def computations_in_loops(text):
    """Return the bodies of all computations that `while` loops of an optimised HLO module call."""
    bodies = {
        found[1]: body
        for body in text.split("\n\n")
        if (found := re.match(r"\s*(?:ENTRY )?(%[\w.-]+) ", body))
    }
    waiting = re.findall(r"(?:body|condition)=(%[\w.-]+)", text)
    reached = {}
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached[name] = bodies[name]
            waiting += [other for other in re.findall(r"%[\w.-]+", bodies[name]) if other in bodies]
    return reached.values()


@pytest.mark.parametrize("kind, inside", [(Layout, False), (Looped, True)])
def test_a_cpu_computes_no_convolution_of_xla_s_in_a_loop(tiny_config, kind, inside):
    config, one = tiny_config({"convolutions": "xla"}), layout(kind=kind)
    dataset, experiment, state = begin(config, one)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    run = map_step(experiment.train_step, one, updates_state=True)
    rows = 1 if kind is Layout else 2
    program = run.lower(rows, state, (dataset.images, dataset.labels), order, jax.random.key(1))()
    bodies = "\n".join(computations_in_loops(program.as_text()))
    assert (" convolution(" in bodies) == inside


def test_a_batch_that_does_not_fit_one_dispatch_is_refused(tiny_config):
    with pytest.raises(ValueError, match="2 rows"):
        run_steps(tiny_config(), layout(), [(0, 2)])


@pytest.mark.parametrize("start, stop, every", [(0, 10, 3), (4, 10, 3), (0, 5, 100), (7, 8, 1)])
def test_stretches_cover_the_rows_once_and_end_at_multiples(start, stop, every):
    spans = list(stretches(start, stop, every))
    assert [row for a, b in spans for row in range(a, b)] == list(range(start, stop))
    assert all(b % every == 0 or b == stop for _, b in spans)
    assert all(a // every == (b - 1) // every for a, b in spans)


def test_an_order_holds_every_index_at_most_once_and_depends_on_seed_and_epoch():
    order = epoch_order(0, 0, 1003, 50)
    assert order.shape == (20, 50) and order.dtype == np.int32
    assert len(np.unique(order)) == 1000 and order.min() >= 0 and order.max() < 1003
    np.testing.assert_array_equal(order, epoch_order(0, 0, 1003, 50))
    for other in (epoch_order(1, 0, 1003, 50), epoch_order(0, 1, 1003, 50)):
        assert (order != other).mean() > 0.9


def evaluate(config, dataset, devices=1, kind=Layout):
    """Return the answers of a run's initial state."""
    setup, train = set_up(config, layout(devices, kind))
    return Evaluator(setup, dataset)(setup.new_state(train, jax.random.key(config.seed)))


def images_like(count, seed=0):
    rng = np.random.default_rng(seed)
    names = tuple("abcdefghij")
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return Dataset(images, rng.integers(0, 10, count).astype(np.int32), names)


def test_evaluation_of_10007_examples_counts_each_once_on_one_device_and_on_eight(tiny_config):
    dataset = images_like(10_007)
    config = tiny_config({"evaluation.batch_size": 512})
    answered = [evaluate(config, dataset, devices) for devices in (1, 8)]
    for answers in answered:
        counts = answers.counts
        assert counts.seen == len(answers.probabilities) == 10_007
        assert counts.correct == (answers.probabilities.argmax(1) == dataset.labels).sum()
    one, eight = answered
    assert abs(one.counts.loss_sum / eight.counts.loss_sum - 1) < 1e-5
    np.testing.assert_allclose(one.probabilities, eight.probabilities, atol=1e-5)
    # Rounding may tip an example whose two largest logits are equal up to the last digits.
    assert abs(one.counts.correct - eight.counts.correct) <= 2


@pytest.mark.parametrize("convolutions", ["auto", "xla"])
@pytest.mark.parametrize("devices", [1, 4])
def test_an_evaluation_in_one_dispatch_equals_one_of_a_row_each_bit_for_bit(
    tiny_config, devices, convolutions
):
    dataset = images_like(1003)
    config = tiny_config({"evaluation.batch_size": 100, "convolutions": convolutions})
    by_row, at_once = (evaluate(config, dataset, devices, kind) for kind in (Layout, Looped))
    jax.tree.map(np.testing.assert_array_equal, at_once, by_row)
    assert at_once.counts.seen == 1003


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000])
def test_padding_does_not_change_accuracy(tiny_config, batch_size):
    dataset = images_like(100)
    expected, answers = (
        evaluate(tiny_config({"evaluation.batch_size": size}), dataset) for size in (50, batch_size)
    )
    assert answers.counts.correct == expected.counts.correct
    np.testing.assert_allclose(answers.counts.loss_sum, expected.counts.loss_sum, rtol=1e-5)
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=1e-5)


def test_probabilities_are_those_of_the_examples_in_their_order(tiny_config):
    dataset = images_like(30)
    config = tiny_config({"evaluation.batch_size": 16})
    _, experiment, state = begin(config, layout(8))
    found = evaluate(config, dataset, 8).probabilities
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    images = (dataset.images / 255 - experiment.facts.mean) / experiment.facts.std
    model = on_this_device_alone(experiment)
    logits = model.apply(variables, images.astype(np.float32), train=False)
    np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-5)


def test_padded_order_holds_every_index_once():
    order = padded_order(10, 4)
    np.testing.assert_array_equal(order, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]])


def test_counts_of_parts_add_up_to_the_counts_of_the_whole():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 5)).astype(np.float32)
    labels, losses = rng.integers(0, 5, 30), rng.uniform(size=30).astype(np.float32)
    mask = rng.random(30) < 0.7
    count = lambda rows: Counts.from_scores(logits[rows], losses[rows], labels[rows], mask[rows])
    whole, merged = count(slice(None)), count(slice(0, 11)).merge(count(slice(11, 30)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, merged)
    assert whole.seen == mask.sum()
    assert whole.compute()["accuracy"] == (logits.argmax(1) == labels)[mask].mean()
    np.testing.assert_allclose(whole.compute()["loss"], losses[mask].mean(), rtol=1e-6)

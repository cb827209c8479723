"""Splits that stay on the host: the same rows reach the devices, and give the same numbers."""

import json

import jax
import numpy as np
import pytest

from jaxcifar.devices import rows
from jaxcifar.devices.rows import Resident, Span, Streamed
from jaxcifar.evaluation.classifier import Classifier
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.experiment.setup import set_up
from jaxcifar.training.stepper import Stepper
from tests.test_step import Looped, layout


def never():
    return False


def train(config, layout, stops=(), resident=()):
    """Train to the end, and return the state and how many dispatches there were.

    Args:
      config: of the run.
      layout: of the devices.
      stops: steps after which the run is begun anew, as if it had been stopped.
      resident: for each part of the run, whether the split is resident.
    """
    state, step, dispatches = None, 0, 0
    for stop, held in zip([*stops, np.inf], resident, strict=True):
        object.__setattr__(config.data, "resident_bytes", 2**40 if held else 1)
        setup, dataset = set_up(config, layout)
        stepper = Stepper(setup, dataset, 4, step)
        assert isinstance(stepper._source, Resident if held else Streamed)
        stepper.begin(state)
        for epoch in range(stepper.step // stepper.steps_per_epoch, config.num_epochs):
            for _ in stepper.rest_of_epoch(epoch, lambda: stepper.step >= stop):
                dispatches += 1
        state, step = stepper.state, stepper.step
    return jax.device_get(state), dispatches


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_rows_that_are_sent_are_those_of_the_order_each_on_its_device(devices):
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (100, 3, 3, 1), np.uint8), np.arange(100, dtype=np.int32)
    orders = rng.integers(-1, 100, (3, 10, 16), np.int32)
    spans = [Span(0, 0, 4), Span(0, 4, 10), Span(1, 0, 10), Span(2, 3, 4)]
    source = Streamed(layout(devices), arrays, 16)
    supplied = list(source.supply(spans, orders.__getitem__))
    assert len(supplied) == len(spans)
    for span, supply in zip(spans, supplied):
        order = orders[span.order, span.start : span.stop]
        np.testing.assert_array_equal(supply.order, order)
        assert (supply.start, supply.stop) == (0, len(order))
        for sent, array in zip(supply.data, arrays):
            whole = array[order].reshape(len(order), devices, -1, *array.shape[1:])
            np.testing.assert_array_equal(sent, whole)
            for shard in sent.addressable_shards:
                place = jax.devices().index(shard.device)
                np.testing.assert_array_equal(shard.data, whole[:, place : place + 1])


def test_threads_are_only_a_few_dispatches_ahead_of_the_devices():
    gathered = []

    class Counted(np.ndarray):
        def __getitem__(self, index):
            gathered.append(index)
            return np.asarray(self)[index]

    array = np.zeros((100, 2), np.uint8).view(Counted)
    source = Streamed(layout(), [array], 10)
    supply = source.supply(
        [Span(0, i, i + 1) for i in range(10)], lambda _: np.zeros((10, 10), int)
    )
    for used in range(1, 4):
        next(supply)
        assert len(gathered) <= used + rows._THREADS + 1
    supply.close()
    assert len(gathered) < 10


def test_many_streamed_rows_in_a_dispatch_equal_as_many_resident_ones(tiny_config, monkeypatch):
    config = tiny_config({"num_epochs": 1, "augmentation.crop.enabled": False})
    resident, dispatches = train(config, layout(2, Looped), resident=[True])
    assert dispatches == 2
    streamed, dispatches = train(config, layout(2, Looped), resident=[False])
    assert dispatches == 2
    assert_same(streamed, resident)
    monkeypatch.setattr(rows, "_CHUNK_BYTES", 3 * 64 * (32 * 32 * 3 + 4))
    streamed, dispatches = train(config, layout(2, Looped), resident=[False])
    assert dispatches == 3  # of three, three and two steps: more do not fit at once
    assert streamed.step == 8


@pytest.mark.slow
def test_a_run_may_go_on_streamed_or_resident_whatever_it_was_before(tiny_config):
    config = tiny_config()
    whole, _ = train(config, layout(), resident=[True])
    parts, _ = train(config, layout(), stops=[3, 8, 13], resident=[False, True, False, True])
    assert_same(parts, whole)


@pytest.mark.parametrize("kind", [layout().__class__, Looped])
def test_a_streamed_evaluation_equals_a_resident_one_bit_for_bit(tiny_config, kind, monkeypatch):
    config = tiny_config()
    eight = layout(8, kind)
    setup, dataset = set_up(config, eight)
    state = setup.new_state(dataset, jax.random.key(0))
    answers = {}
    for most in (2**40, 1):
        object.__setattr__(config.data, "resident_bytes", most)
        evaluator = Evaluator(setup, dataset)
        if kind is Looped:
            evaluator.prepare(state)()
        answers[most] = evaluator(state)
    assert_same(answers[1], answers[2**40])
    assert answers[1].counts.seen == 512


def test_a_streamed_run_on_eight_devices_equals_a_resident_one_bit_for_bit(
    run_here, tiny_flags, tmp_path
):
    found, states = {}, []
    for most in (0, 1000):
        workdir = tmp_path / str(most)
        flags = [*tiny_flags, "--config.num_epochs=1", f"--config.data.resident_bytes={most}"]
        result = run_here(
            *flags,
            "--config.evaluation.test_time_augmentation=mirror",
            f"--workdir={workdir}",
        )
        assert result.returncode == 0, result.stderr
        found[most] = json.loads((workdir / "evaluation.json").read_text())
        states.append(Classifier(workdir).variables)
    assert found[0] == found[1000]
    assert_same(*states)

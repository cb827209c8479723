"""From a config to the parts of a run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcifar.data import datasets, facts
from jaxcifar.data.datasets import Dataset
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices import cpu_facts
from jaxcifar.devices.layout import Layout
from jaxcifar.errors import UserError
from jaxcifar.evaluation import run_evaluation
from jaxcifar.experiment import agreement
from jaxcifar.experiment.build import build, computation_dtype
from jaxcifar.experiment.setup import load_split, set_up, start_layout
from jaxcifar.models import convolution
from jaxcifar.training import overview


def begin(config):
    setup, dataset = set_up(config, Layout(tuple(jax.devices()[:1]), {}))
    return dataset, setup, setup.new_state(dataset, jax.random.key(0))


@pytest.mark.parametrize(
    "name, low, high", [("unit", 0, 1), ("symmetric", -1, 1), ("pixels", 0, 255)]
)
def test_normalisation_maps_black_and_white_to_the_ends_of_its_range(tiny_config, name, low, high):
    config = tiny_config({"data.normalisation": name})
    measured = facts.measure(load_split(config, "train_split"), name)
    ends = [(value - np.array(measured.mean)) / measured.std for value in (0, 1)]
    np.testing.assert_allclose(ends, [[low] * 3, [high] * 3], atol=1e-12)


def test_normalisation_by_statistics_makes_mean_0_and_deviation_1(tiny_config):
    config = tiny_config()
    dataset, setup, _ = begin(config)
    measured = setup.experiment.facts
    images = (dataset.images / 255 - measured.mean) / measured.std
    np.testing.assert_allclose(images.mean((0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(images.std((0, 1, 2)), 1, rtol=1e-9)


def test_facts_survive_json(tiny_config):
    measured = begin(tiny_config())[1].experiment.facts
    assert DataFacts.from_json(json.loads(json.dumps(dataclasses.asdict(measured)))) == measured


@pytest.mark.parametrize("name", ["adam", "adamw", "muon", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "constant"])
def test_every_optimizer_goes_with_every_schedule(tiny_config, name, schedule):
    config = tiny_config({"optimizer.name": name, "schedule.name": schedule})
    _, setup, state = begin(config)
    experiment = setup.experiment
    assert experiment.total_steps == 24
    update = jax.eval_shape(
        experiment.optimizer.update, state.params, state.opt_state, state.params
    )
    assert jax.tree.structure(update[1]) == jax.tree.structure(state.opt_state)


def test_float64_without_64_bit_mode_is_an_error(tiny_config):
    with pytest.raises(UserError, match="JAX_ENABLE_X64=1"):
        start_layout(tiny_config({"precision": "float64"}))


@pytest.mark.parametrize(
    "words, loads, dtype",
    [
        ("AuthenticAMD avx512f avx512_bf16", True, jnp.bfloat16),
        ("GenuineIntel avx512f avx512_bf16 amx_bf16", True, jnp.bfloat16),
        ("AuthenticAMD avx512f avx512_bf16", False, jnp.float32),
        ("GenuineIntel avx512f avx512_bf16", True, jnp.float32),
        ("AuthenticAMD avx2", True, jnp.float32),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_convolves_it_quickly(monkeypatch, words, loads, dtype):
    monkeypatch.setattr(cpu_facts, "_words", lambda: frozenset(words.split()))
    found = "onednn" if loads else "xla"
    monkeypatch.setattr(
        convolution, "library", lambda asked, _: found if asked == "auto" else asked
    )
    assert computation_dtype("auto", "auto") == dtype
    assert computation_dtype("auto", "xla") == jnp.float32
    assert computation_dtype("float32", "auto") == jnp.float32


def test_flops_are_those_of_the_convolutions_and_little_more(tiny_config):
    _, setup, state = begin(tiny_config())
    kernels = [(32, 3, 4), (16, 4, 6), (8, 6, 6), (8, 6, 8), (4, 8, 8)]
    least = sum(2 * size * size * 9 * inward * outward for size, inward, outward in kernels)
    assert 0.9 * least < overview.forward_flops(setup, state) < 1.3 * least
    described = overview.describe(overview.summarise(setup, state, np.ones(1)))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert f"{parameters:,} parameters" in described and "512 images of 32×32×3" in described


def test_differences_name_what_changed_and_pass_over_what_may(tiny_config):
    old = tiny_config()
    allowed = {
        "logging.every_steps": 9,
        "data.data_dir": "/elsewhere",
        "data.cache_dir": "/there",
        "data.test_split": "test[:9]",
    }
    new = tiny_config({"seed": 3, "optimizer.adam.beta1": 0.8} | allowed)
    assert agreement.differences(old, new) == ["optimizer.adam.beta1: 0.9 -> 0.8", "seed: 0 -> 3"]
    assert agreement.differences(old, old) == []


def test_a_float64_run_has_a_float64_learning_rate(tiny_config):
    data = facts.DataFacts((32, 32, 3), tuple("abcdefghij"), (0.5,) * 3, (0.2,) * 3, 512)
    with jax.enable_x64(True):
        experiment = build(tiny_config({"precision": "float64"}), data)
        assert experiment.schedule(jnp.int32(3)).dtype == jnp.float64


def test_an_evaluation_is_named_by_what_differs_from_the_runs_own_test_split(tiny_config):
    own = tiny_config()
    name = lambda **changes: run_evaluation._name_if_not_own(
        own, tiny_config({f"data.{key}": value for key, value in changes.items()})
    )
    assert name() == name(train_split="train[:9]") == ""
    assert name(test_split="test[:50%]") == "shapes-test[:50%25]"
    assert name(name="a/b:1.0.0") == "a%2Fb:1.0.0-test"
    many = "+".join(f"test[{i}:{i + 1}]" for i in range(30))
    assert len(name(test_split=many)) < 200 and name(test_split=many) != name(
        test_split=many + "+test"
    )
    changed = tiny_config({"data.shapes.seed": 5, "data.shapes.train_examples": 3})
    assert run_evaluation._name_if_not_own(own, changed) == "shapes-test-seed=5"


def test_examples_that_a_run_was_trained_on_are_counted_if_they_are_the_same_images(
    tiny_config, tmp_path
):
    own = tiny_config({"data.train_split": "train[:100]"})

    def count(split, **changes):
        config = tiny_config({"data.test_split": split} | changes)
        options = (
            config.data.component.options if config.data.component else {"train_examples": 512}
        )
        sizes = {"train": options["train_examples"], "test": 100}
        dataset = Dataset(*np.zeros((2, 1)), (), datasets.parts(split, sizes), sizes)
        return run_evaluation._count_trained_on(own, config, dataset, tmp_path)

    assert count("test") == 0 and count("train") == 100
    assert count("test[:9]+train[90:]") == 10
    assert count("train", **{"data.shapes.test_examples": 50}) == 100
    assert count("train", **{"data.shapes.train_examples": 50}) == 0  # other images
    assert count("train", **{"data.shapes.seed": 5}) == 0
    assert count("train", **{"data.name": "cifar10"}) == 0

"""From a config to the parts of a run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcifar.cpu import onednn
from jaxcifar.devices import machine
from jaxcifar.devices.parallel import Layout
from jaxcifar.errors import UserError
from jaxcifar.experiment import build as experiments
from jaxcifar.experiment import restore
from jaxcifar.experiment.build import DataFacts
from jaxcifar.training import overview


def build(config):
    layout = Layout(tuple(jax.devices()[:1]), {})
    dataset = experiments.load_split(config, "train_split")
    experiment = experiments.build(config, experiments.facts_of(config, dataset), layout)
    state = layout.run_once(experiment.init_state, jax.random.key(0), dataset.images)
    return dataset, experiment, state, layout


@pytest.mark.parametrize("name, low, high", [("unit", 0, 1), ("symmetric", -1, 1)])
def test_normalisation_maps_black_and_white_to_the_ends_of_its_range(tiny_config, name, low, high):
    config = tiny_config({"data.normalisation": name})
    facts = experiments.facts_of(config, experiments.load_split(config, "train_split"))
    ends = [(value - np.array(facts.mean)) / facts.std for value in (0, 1)]
    np.testing.assert_allclose(ends, [[low] * 3, [high] * 3], atol=1e-12)


def test_normalisation_by_statistics_makes_mean_0_and_deviation_1(tiny_config):
    config = tiny_config()
    dataset, experiment, _, _ = build(config)
    images = (dataset.images / 255 - experiment.facts.mean) / experiment.facts.std
    np.testing.assert_allclose(images.mean((0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(images.std((0, 1, 2)), 1, rtol=1e-9)


def test_facts_survive_json(tiny_config):
    facts = build(tiny_config())[1].facts
    assert DataFacts.from_json(json.loads(json.dumps(dataclasses.asdict(facts)))) == facts


@pytest.mark.parametrize("name", ["adam", "adamw", "muon", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "constant"])
def test_every_optimizer_goes_with_every_schedule(tiny_config, name, schedule):
    config = tiny_config({"optimizer.name": name, "schedule.name": schedule})
    _, experiment, state, _ = build(config)
    assert experiment.total_steps == 24
    update = jax.eval_shape(
        experiment.optimizer.update, state.params, state.opt_state, state.params
    )
    assert jax.tree.structure(update[1]) == jax.tree.structure(state.opt_state)


def test_float64_without_64_bit_mode_is_an_error(tiny_config):
    with pytest.raises(UserError, match="JAX_ENABLE_X64=1"):
        experiments.start_layout(tiny_config({"precision": "float64"}))


@pytest.mark.parametrize(
    "processor, loads, dtype",
    [
        ("AuthenticAMD avx512f avx512_bf16", True, jnp.bfloat16),
        ("GenuineIntel avx512f avx512_bf16 amx_bf16", True, jnp.bfloat16),
        ("AuthenticAMD avx512f avx512_bf16", False, jnp.float32),
        ("GenuineIntel avx512f avx512_bf16", True, jnp.float32),
        ("AuthenticAMD avx2", True, jnp.float32),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_convolves_it_quickly(monkeypatch, processor, loads, dtype):
    monkeypatch.setattr(machine, "_words", lambda: frozenset(processor.split()))
    monkeypatch.setattr(onednn, "available", lambda _: loads)
    assert experiments.computation_dtype("auto") == dtype
    assert experiments.computation_dtype("float32") == jnp.float32


def test_flops_are_those_of_the_convolutions_and_little_more(tiny_config):
    _, experiment, state, layout = build(tiny_config())
    kernels = [(32, 3, 4), (16, 4, 6), (8, 6, 6), (8, 6, 8), (4, 8, 8)]
    least = sum(2 * size * size * 9 * inward * outward for size, inward, outward in kernels)
    assert 0.9 * least < overview.forward_flops(experiment, state) < 1.3 * least
    described = overview.describe(overview.summarise(experiment, state, layout), state)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert f"{parameters:,} parameters" in described and "512 images of 32×32×3" in described


def test_differences_name_what_changed_and_pass_over_what_may(tiny_config):
    old = tiny_config().to_dict()
    allowed = {
        "logging.every_steps": 9,
        "data.data_dir": "/elsewhere",
        "data.test_split": "test[:9]",
    }
    new = tiny_config({"seed": 3, "optimizer.adam.beta1": 0.8} | allowed).to_dict()
    assert restore.differences(old, new) == ["optimizer.adam.beta1: 0.9 -> 0.8", "seed: 0 -> 3"]
    assert restore.differences(old, old) == []

"""Models and their layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcifar.models import MODELS
from jaxcifar.models.layers import ACTIVATIONS, max_pool_2x2

CNN = {
    "widths": (4, 6),
    "convs_per_block": (1, 2),
    "kernel_size": 3,
    "activation": "relu",
    "dropout_rate": 0.5,
    "dense_width": 0,
}


def build(**changes):
    options = {"classes": 10, "dtype": jnp.float32, "axis_name": None} | CNN | changes
    model = MODELS["cnn"](**options)
    images = jax.random.normal(jax.random.key(1), (8, 16, 16, 3))
    return model, model.init(jax.random.key(0), images, train=False), images


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 9, 2), (3, 2, 2, 1)])
def test_max_pool_and_its_gradient_equal_flax_s(shape):
    images = jax.random.permutation(
        jax.random.key(0), jnp.arange(np.prod(shape), dtype=jnp.float32)
    )
    images = images.reshape(shape)
    theirs = lambda x: nn.max_pool(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(max_pool_2x2(images), theirs(images))
    ours, expected = (
        jax.grad(lambda x: (pool(x) ** 2).sum())(images) for pool in (max_pool_2x2, theirs)
    )
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dense_width", [0, 5])
def test_logits_have_a_row_for_each_image(activation, dense_width):
    model, variables, images = build(activation=activation, dense_width=dense_width)
    logits = model.apply(variables, images, train=False)
    assert (logits.shape, logits.dtype) == ((8, 10), jnp.float32)
    assert jnp.isfinite(logits).all()


def test_five_by_five_kernels_have_their_size():
    _, variables, _ = build(kernel_size=5)
    assert variables["params"]["Conv_0"]["kernel"].shape == (5, 5, 3, 4)


def test_no_bias_stands_before_batch_norm():
    _, variables, _ = build(dense_width=5)
    assert [
        name for name, leaf in variables["params"].items() if "kernel" in leaf and "bias" in leaf
    ] == ["Dense_1"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_parameters_statistics_and_logits_stay_float32(dtype):
    model, variables, images = build(dtype=jnp.dtype(dtype))
    logits = model.apply(variables, images, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, logits))} == {jnp.dtype("float32")}


def test_bfloat16_is_near_float32():
    model, variables, images = build()
    exact = model.apply(variables, images, train=False)
    rounded = model.clone(dtype=jnp.bfloat16).apply(variables, images, train=False)
    assert 0 < jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact) < 0.05


def test_dropout_and_batch_moments_act_in_training_alone():
    model, variables, images = build()
    evaluate = lambda x: model.apply(variables, x, train=False)

    def train(x, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])[0]

    np.testing.assert_allclose(evaluate(images)[:2], evaluate(images[:2]), atol=1e-5)
    assert not jnp.allclose(train(images, 0), train(images, 1))
    assert not jnp.allclose(train(images, 0)[:2], train(images[:2], 0))

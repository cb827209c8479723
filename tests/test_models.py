"""Models and their layers."""

import functools
import json
import os
import re
import subprocess
import sys
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import default
from jaxcifar.devices import backend, platform
from jaxcifar.errors import UserError
from jaxcifar.models import MODELS, convolution, xla_convolution
from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import Conv, Window, convolve, library
from jaxcifar.models.dense import Dense
from jaxcifar.models.layers import (
    ACTIVATIONS,
    BatchNorm,
    LayerNorm,
    add_bias,
    channel_sums,
    gelu,
    identity,
    max_pool_2x2,
    relu,
    relu6,
)
from jaxcifar.models.pooling import average_pool_2x2, max_pool_3x3
from jaxcifar.models.sequential import sequential
from jaxcifar.models.vit import TransformerBlock
from tests import zoo
from tests.conftest import ROOT

NARROW = {
    "cnn": {
        "widths": (4, 6),
        "convs_per_block": (1, 2),
        "activation": "relu",
        "dropout_rate": 0.5,
    },
    "speednet": {"widths": (6, 8)},
} | zoo.NARROW
"""Options that make a model small; its other options are those of `configs/default.py`."""
each_model = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in zoo.NARROW else []) for name in MODELS],
)


def build(name="cnn", **changes):
    options = default.get_config().model.get(name, ConfigDict()).to_dict()
    options |= NARROW.get(name, {}) | changes
    model = MODELS[name](**{"classes": 10, "compute": Compute()} | options)
    images = jax.random.normal(jax.random.key(1), (8, 16, 16, 3))
    return model, model.init(jax.random.key(0), images, train=False), images


POOLINGS = {
    "2×2 maximum": (max_pool_2x2, lambda x: nn.max_pool(x, (2, 2), (2, 2))),
    "3×3 maximum": (max_pool_3x3, lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))),
    "2×2 average": (average_pool_2x2, lambda x: nn.avg_pool(x, (2, 2), (2, 2))),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (1, 7, 9, 2), (3, 2, 2, 1)])
@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_and_its_gradient_equal_flax_s(name, shape, dtype):
    ours, theirs = POOLINGS[name]
    different = jnp.arange(np.prod(shape), dtype=dtype)  # exact in bfloat16 too, up to 256
    images = jax.random.permutation(jax.random.key(0), different).reshape(shape)
    in_float32 = lambda x: theirs(x.astype(jnp.float32)).astype(dtype)
    np.testing.assert_array_equal(ours(images), in_float32(images))
    own, expected = (
        jax.grad(lambda x: (pool(x) ** 2).sum())(images) for pool in (ours, in_float32)
    )
    np.testing.assert_array_equal(own, expected)


def test_a_tie_goes_to_the_first_pixel_of_the_window():
    slopes = jax.grad(lambda x: max_pool_2x2(x).sum())(jnp.ones((1, 4, 5, 1)))[0, :, :, 0]
    np.testing.assert_array_equal(slopes, np.outer([1, 0, 1, 0], [1, 0, 1, 0, 0]))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_max_pooling_keeps_places_for_its_gradient_and_not_the_images(dtype):
    """Sorting separates the two passes, so the program shows what is kept between them."""

    def step(images):
        pooled, vjp = jax.vjp(max_pool_2x2, images + 1)
        return vjp(jnp.sort(pooled))[0]

    text = compiled(step, jnp.zeros((16, 8, 8, 32), dtype)).as_text()
    assert re.search(r"= u8\[16,4,4,32\]\S* fusion\(", text)


def relative(ours, theirs):
    return float(jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs))


@pytest.fixture(params=["onednn with AVX-512", "onednn without", "xla"])
def each_library(request, monkeypatch):
    """Return a library's name; for oneDNN, with each choice of what is left to XLA."""
    name = request.param.split()[0]
    if name == "onednn" and library("auto", jnp.float32) != name:
        pytest.skip("needs oneDNN")
    jax.clear_caches()  # of what was traced with the other choice
    monkeypatch.setattr(convolution, "has_avx512", lambda: request.param == "onednn with AVX-512")
    return name


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(
    "kernel_size, pads, inward, outward",
    [(3, (1, 1), 3, 4), (3, (1, 1), 64, 64), (3, (1, 0), 16, 4), (2, (0, 0), 64, 70)],
)
@pytest.mark.parametrize("batch, size", [(33, 10), (4, 10), (4, 5), (33, 3), (4, 2)])
def test_a_convolution_and_its_gradients_equal_lax_s(
    each_library, batch, size, pads, inward, outward, kernel_size, strides
):
    keys = jax.random.split(jax.random.key(0))
    images = jax.random.normal(keys[0], (batch, size, size, inward))
    kernel = jax.random.normal(keys[1], (kernel_size, kernel_size, inward, outward))

    def theirs(images, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        window = (strides, strides)
        return jax.lax.conv_general_dilated(
            images, kernel, window, (pads, pads), dimension_numbers=layout
        )

    own = lambda *x: convolve(*x, Window(strides, (pads, pads)), each_library)
    assert relative(own(images, kernel), theirs(images, kernel)) < 1e-6
    loss = lambda convolve: lambda *x: (convolve(*x) ** 2).sum()
    ours = jax.grad(loss(own), (0, 1))(images, kernel)
    for our, their in zip(ours, jax.grad(loss(theirs), (0, 1))(images, kernel), strict=True):
        assert relative(our, their) < 1e-5


@pytest.mark.parametrize("batch", [33, 64])
def test_a_kernel_s_gradient_in_parts_has_the_kernel_s_type(batch):
    images, grad = (
        jnp.ones((batch, 4, 4, 16), jnp.bfloat16),
        jnp.ones((batch, 4, 4, 2), jnp.bfloat16),
    )
    like = jax.ShapeDtypeStruct((3, 3, 16, 2), jnp.float32)
    sums = xla_convolution.kernel_grad_in_parts(images, grad, like, 1, ((1, 1), (1, 1)))
    assert sums.dtype == jnp.float32 and sums[1, 1, 0, 0] == 16 * batch


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 2)])
@pytest.mark.parametrize("shape", [(2, 9, 10, 3), (2, 10, 13, 3)])
def test_a_convolution_before_pooling_leaves_out_what_pooling_does(shape, kernel_size, strides):
    images = jax.random.normal(jax.random.key(0), shape)
    conv = Conv(4, kernel_size, Compute(), strides)
    centred = [((size - 1) // 2, size // 2) for size in kernel_size]
    theirs = nn.Conv(4, kernel_size, strides, centred, use_bias=False)
    variables = theirs.init(jax.random.key(1), images)
    result = conv.apply(variables, images)
    assert relative(result, theirs.apply(variables, images)) < 1e-6
    height, width = (size // 2 * 2 for size in result.shape[1:3])
    pooled = conv.apply(variables, images, pooled=True)
    assert pooled.shape == (2, height, width, 4)
    assert relative(pooled, result[:, :height, :width]) < 1e-6


@pytest.fixture(params=["cpu", "gpu"])
def each_platform(request, monkeypatch):
    """Take the paths of a CPU and of a GPU."""
    monkeypatch.setattr(platform, "current", lambda: request.param)


@pytest.mark.usefixtures("each_platform")
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(9, 4, 6, 5), (16, 5)])
@pytest.mark.parametrize("use_scale, activation", [(True, relu), (False, gelu)])
def test_batch_norm_its_statistics_and_gradients_equal_flax_s(shape, use_scale, activation, train):
    shared = {"use_running_average": not train, "momentum": 0.8, "use_scale": use_scale}
    own = BatchNorm(Compute(), **shared)
    keys = jax.random.split(jax.random.key(0), 3)
    x = 2 + 3 * jax.random.normal(keys[0], shape)
    weights = jax.random.normal(keys[1], shape)
    variables = own.init(keys[2], x)
    bias = jax.random.normal(keys[2], shape[-1:])
    variables["params"] |= {name: bias + i for i, name in enumerate(variables["params"])}
    variables["batch_stats"] = {"mean": bias, "var": bias**2 + 0.5}

    def loss(layers, params, x):
        y, updated = layers(variables | {"params": params}, x, mutable=["batch_stats"])
        return (y * weights).sum(), (y, updated)

    def followed(*arguments, **options):
        y, updated = nn.BatchNorm(**shared).apply(*arguments, **options)
        return activation(y), updated

    ours, theirs = (
        jax.grad(lambda *x: loss(layers, *x), (0, 1), has_aux=True)(variables["params"], x)
        for layers in (functools.partial(own.apply, activation=activation), followed)
    )
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(our, their, rtol=2e-4, atol=2e-5)


@pytest.mark.usefixtures("each_platform")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (functools.partial(Dense, 7), functools.partial(nn.Dense, 7)),
        (LayerNorm, functools.partial(nn.LayerNorm, 1e-6)),
    ],
    ids=["dense", "norm"],
)
def test_layers_of_features_and_their_gradients_equal_flax_s(ours, theirs, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    x = (2 + 3 * jax.random.normal(keys[0], (4, 9, 6))).astype(dtype)
    layer, plain = ours(compute=Compute(dtype)), theirs(dtype=dtype)
    exact = theirs(dtype=jnp.float32)
    variables = layer.init(keys[1], x)
    jax.tree.map(np.testing.assert_array_equal, variables, plain.init(keys[1], x))
    variables = jax.tree.map(lambda leaf: leaf + jax.random.normal(keys[2], leaf.shape), variables)

    def result_and_slopes(layer):
        y, pull = jax.vjp(layer.apply, variables, x)
        weights = jax.random.normal(keys[2], y.shape).astype(y.dtype)
        return jax.tree.leaves((y, pull(weights)))

    exactly = result_and_slopes(exact)
    for our, their, expected in zip(*map(result_and_slopes, (layer, plain)), exactly, strict=True):
        assert (our.shape, our.dtype) == (their.shape, their.dtype)
        assert relative(our, expected) < (1e-5 if dtype == jnp.float32 else 1e-2)


@pytest.mark.parametrize("channels, features", [(6, 8), (8, 6)])
def test_channels_that_do_not_fall_into_the_groups_are_refused(channels, features):
    layer = Conv(features, (3, 3), Compute(), groups=4)
    with pytest.raises(ValueError, match=rf"{channels} channels in and {features} out .* 4 groups"):
        layer.init(jax.random.key(0), jnp.zeros((1, 5, 5, channels)))


def test_stochastic_depth_leaves_branches_out_in_training_alone_and_scales_the_others():
    block, x = (
        TransformerBlock(Compute(), 2, 16, 0.25),
        jax.random.normal(jax.random.key(0), (1000, 3, 8)),
    )
    variables = block.init(jax.random.key(1), x, train=False)
    variables["params"]["Dense_1"] = jax.tree.map(jnp.zeros_like, variables["params"]["Dense_1"])
    change = block.apply(variables, x, train=False) - x  # of the MLP alone
    rngs = {"dropout": jax.random.key(2)}
    in_training = block.apply(variables, x, train=True, rngs=rngs) - x
    left_out = (in_training == 0).all((1, 2))
    assert abs(left_out.mean() - 0.25) < 4 * (0.25 * 0.75 / 1000) ** 0.5
    np.testing.assert_allclose(
        in_training[~left_out], change[~left_out] / 0.75, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "groups, use_bias, strides", [(1, True, 2), (2, False, 1), (6, True, 1), (6, False, 2)]
)
def test_groups_and_bias_and_their_gradients_equal_flax_s(each_library, groups, use_bias, strides):
    keys = jax.random.split(jax.random.key(0), 4)
    images = jax.random.normal(keys[0], (3, 9, 10, 6))
    weights = jax.random.normal(keys[1], (3, -(-9 // strides), 10 // strides, 12))
    options = {"use_bias": use_bias, "strides": strides}
    ours = Conv(12, (3, 3), Compute(convolutions=each_library), groups=groups, **options)
    theirs = nn.Conv(12, (3, 3), padding=1, feature_group_count=groups, **options)
    variables = ours.init(keys[2], images)
    as_expected = theirs.init(keys[2], images)
    jax.tree.map(np.testing.assert_array_equal, variables, as_expected)
    if use_bias:
        variables["params"]["bias"] += jax.random.normal(keys[3], (12,))
    loss = lambda module: lambda *x: ((y := module.apply(*x)) * weights * y).sum()
    (our, our_slopes), (their, their_slopes) = (
        jax.value_and_grad(loss(module), (0, 1))(variables, images) for module in (ours, theirs)
    )
    np.testing.assert_allclose(our, their, rtol=1e-5)
    for slope, expected in zip(*map(jax.tree.leaves, (our_slopes, their_slopes)), strict=True):
        assert relative(slope, expected) < 1e-5


class OfLayers(nn.Module):
    """The network that `make(conv, norm, then)` builds from layers that `then` applies in sequence."""

    make: Any
    then: Any
    compute: Compute

    @nn.compact
    def __call__(self, x, *, train):
        conv = functools.partial(Conv, kernel_size=(3, 3), compute=self.compute)
        norm = functools.partial(BatchNorm, self.compute, use_running_average=not train)
        return self.make(conv, norm, self.then)(x)


def one_by_one(*layers):
    return lambda x: functools.reduce(lambda x, layer: layer(x), layers, x)


def dense_block(conv, norm, then):
    """Concatenate the images and the results of convolutions that follow normalisation and activation."""

    def apply(x):
        for _ in range(2):
            change = then(norm(), relu, conv(4))(x)
            x = jnp.concatenate([x, change], -1)
        return then(norm(), gelu)(x)

    return apply


LAYERS = {
    "conv, pool, norm, gelu": lambda conv, norm, then: then(conv(5), max_pool_2x2, norm(), gelu),
    "strided, pool": lambda conv, norm, then: then(conv(5, strides=2), max_pool_2x2),
    "conv, norm": lambda conv, norm, then: then(conv(5), norm()),
    "conv, norm, relu": lambda conv, norm, then: then(conv(5), norm(), relu, conv(3), norm(), relu),
    "conv, norm, gelu": lambda conv, norm, then: then(conv(5), norm(use_scale=False), gelu),
    "conv, norm, silu": lambda conv, norm, then: then(conv(5), norm(), ACTIVATIONS["silu"]),
    "conv, norm, a function": lambda conv, norm, then: then(
        conv(5), norm(), lambda x: x.mean((1, 2))
    ),
    "conv, norm, Flax's gelu": lambda conv, norm, then: then(conv(5), norm(), nn.gelu),
    "norm, relu, conv": lambda conv, norm, then: then(norm(), relu, conv(5), norm(), gelu, conv(4)),
    "conv, relu": lambda conv, norm, then: then(conv(5), relu, max_pool_2x2),
    "bias, gelu": lambda conv, norm, then: then(conv(5, use_bias=True), gelu),
    "bias, norm, gelu": lambda conv, norm, then: then(conv(5, use_bias=True), norm(), gelu),
    "bias, pool": lambda conv, norm, then: then(conv(5, use_bias=True), max_pool_2x2, identity),
    "depthwise, norm, relu": lambda conv, norm, then: then(
        conv(6, groups=3, use_bias=True), norm(), relu, conv(4, kernel_size=(1, 1)), norm()
    ),
    "dense, norm, gelu": lambda conv, norm, then: then(nn.Dense(7), norm(), gelu),
    "concatenated": dense_block,
    "nothing": lambda conv, norm, then: then(),
}


ALWAYS_IN_XLA = ("conv, pool, norm, gelu", "norm, relu, conv", "bias, norm, gelu")


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "name, convolutions",
    [(name, "auto") for name in LAYERS]
    + [
        pytest.param(name, "xla", marks=[] if name in ALWAYS_IN_XLA else [pytest.mark.slow])
        for name in LAYERS
    ],
)
def test_layers_in_sequence_equal_layers_one_by_one(name, convolutions, train):
    compute = Compute(convolutions=library(convolutions, jnp.float32))
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (5, 6, 7, 3))
    ours, theirs = (OfLayers(LAYERS[name], then, compute) for then in (sequential, one_by_one))
    drawn, expected = (model.init(keys[1], x, train=False) for model in (ours, theirs))
    jax.tree.map(np.testing.assert_array_equal, drawn, expected)
    draw = lambda leaf: leaf + 0.5 * jax.random.uniform(keys[2], leaf.shape)
    variables = jax.tree.map(draw, drawn)
    statistics = variables.pop("batch_stats", {})

    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def gradient(params, x, model):
        all_variables = params | {"batch_stats": statistics}
        y, updated = model.apply(all_variables, x, train=train, mutable=["batch_stats"])
        return (y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum(), (y, updated)

    ours, theirs = (
        jax.jit(functools.partial(gradient, model=model))(variables, x) for model in (ours, theirs)
    )
    for our, their in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        assert relative(our, their) < 2e-5 or jnp.abs(our - their).max() < 1e-5


def compiled_layers(make, size, *, train=False):
    model = OfLayers(make, sequential, Compute(convolutions=library("auto", jnp.float32)))
    x = jnp.ones((4, size, size, 16))
    variables = model.init(jax.random.key(0), x, train=False)
    apply = lambda *x: model.apply(*x, train=train, mutable=["batch_stats"])[0]
    return compiled(apply, variables, x).as_text()


def test_normalisation_and_activation_in_evaluation_are_one_pass_with_the_convolution():
    if library("auto", jnp.float32) != "onednn":
        pytest.skip("needs oneDNN")
    text = compiled_layers(LAYERS["conv, norm, relu"], 6)
    calls = re.findall(r'custom_call_target="jaxcifar_onednn_(\w+)"', text)
    assert calls == ["finished"] * 2


def test_an_odd_line_before_pooling_is_not_computed():
    assert "[4,7,7,5]" not in compiled_layers(LAYERS["conv, pool, norm, gelu"], 7)


def test_a_layer_that_is_used_twice_has_one_set_of_parameters():
    def make(conv, norm, then):
        pair = (conv(3), norm())
        return then(*pair, relu, *pair)

    model = OfLayers(make, sequential, Compute())
    variables = model.init(jax.random.key(0), jnp.ones((2, 5, 5, 3)), train=False)
    assert variables["params"].keys() == {"Conv_0", "BatchNorm_0"}


@pytest.mark.parametrize(
    "dtype, current, reason",
    [
        (jnp.float32, "gpu", "the platform is gpu, not a CPU"),
        (jnp.float64, "cpu", "the precision is float64, neither float32 nor bfloat16"),
        (jnp.bfloat16, "cpu", "the precision is bfloat16, which this processor does not multiply"),
        (
            jnp.float32,
            "cpu",
            "the package onednn-cpu-gomp is not installed or does not load, or XLA",
        ),
    ],
)
def test_asking_for_onednn_where_it_cannot_be_had_says_why(monkeypatch, dtype, current, reason):
    monkeypatch.setattr(platform, "current", lambda: current)
    monkeypatch.setattr(convolution, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(convolution, "onednn", None)
    assert library("auto", dtype) == library("xla", dtype) == "xla"
    with pytest.raises(UserError) as caught:
        library("onednn", dtype)
    message = str(caught.value)
    assert reason in message and "\n" not in message
    assert message.startswith("--config.convolutions=onednn ")
    assert message.endswith("set it to auto")


WITHOUT_ONEDNN = """
import sys
sys.modules["jaxcifar.cpu"] = None
from jaxcifar import Classifier, main
exit_code = main.main(sys.argv)
Classifier(sys.argv[-1])([])
sys.exit(exit_code)
"""


def test_without_the_room_of_onednn_a_run_trains_evaluates_reports_and_predicts(
    tiny_flags, tmp_path
):
    command = [sys.executable, "-c", WITHOUT_ONEDNN, *tiny_flags, "--workdir", str(tmp_path)]
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "run.json").read_text())["convolutions"] == "xla"
    assert (tmp_path / "report/index.html").exists()


def test_convolutions_are_mapped_by_vmap_in_xla():
    images = jax.random.normal(jax.random.key(0), (2, 3, 5, 5, 4))
    kernels = jax.random.normal(jax.random.key(1), (2, 3, 3, 4, 6))
    loss = lambda *x: (convolve(*x, Window(2, ((1, 1), (1, 1))), "xla") ** 2).sum()
    mapped = jax.vmap(jax.value_and_grad(loss, (0, 1)))(images, kernels)
    alone = [jax.value_and_grad(loss, (0, 1))(*pair) for pair in zip(images, kernels, strict=True)]
    for both, *each in zip(*map(jax.tree.leaves, (mapped, *alone)), strict=True):
        assert relative(both, jnp.stack(each)) < 1e-6


@pytest.mark.parametrize(
    "ours, theirs",
    [(gelu, functools.partial(nn.gelu, approximate=False)), (relu, nn.relu), (relu6, nn.relu6)],
)
def test_an_activation_and_its_gradient_equal_flax_s(ours, theirs):
    x = jnp.linspace(-8, 8, 1001)  # 0 is among them
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-6)
    slopes = [jax.vmap(jax.grad(function))(x) for function in (ours, theirs)]
    np.testing.assert_allclose(*slopes, atol=2e-6)


def test_relu_keeps_its_result_for_the_gradient():
    x = jnp.array([-1.0, 2.0])
    result, vjp = jax.vjp(relu, x)
    (kept,) = jax.tree.leaves(vjp)
    np.testing.assert_array_equal(kept, result)


def seconds(function, *arguments):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


def compiled(function, *arguments):
    options = {"xla_backend_optimization_level": 3} | backend.compiler_options(deterministic=False)
    return jax.jit(function).lower(*arguments).compile(compiler_options=options)


def test_a_sum_over_channels_is_exact_and_quicker_than_xla_s_on_a_cpu():
    x = jax.random.normal(jax.random.key(0), (128, 32, 32, 32))
    ours, plain = compiled(lambda x: channel_sums(x)[0], x), compiled(lambda x: x.sum((0, 1, 2)), x)
    np.testing.assert_allclose(ours(x), np.asarray(x, np.float64).sum((0, 1, 2)), atol=1e-2)
    assert seconds(ours, x) < seconds(plain, x) / 2


@pytest.mark.usefixtures("each_platform")
@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 1, 2, 5), (3, 7, 2, 5), (2, 32, 3, 5)])
def test_sums_over_channels_add_up_every_place(shape):
    x = jnp.arange(np.prod(shape)).reshape(shape)
    for array, sums in zip((x, 2 * x), channel_sums(x, 2 * x), strict=True):
        np.testing.assert_array_equal(sums, np.asarray(array).reshape(-1, 5).sum(0))


def test_a_bias_with_its_activation_and_their_gradients_are_those_of_a_plain_sum():
    x, bias = jax.random.normal(jax.random.key(0), (2, 3, 4, 5)), jnp.arange(5.0)
    functions = (lambda *pair: add_bias(*pair, gelu), lambda x, bias: gelu(x + bias))
    np.testing.assert_allclose(*(function(x, bias) for function in functions), rtol=1e-6)
    ours, plain = (
        jax.grad(lambda *pair: (function(*pair) ** 2).sum(), (0, 1))(x, bias)
        for function in functions
    )
    for our, expected in zip(ours, plain, strict=True):
        np.testing.assert_allclose(our, expected, rtol=1e-5, atol=1e-6)


def test_our_options_keep_xla_s_convolutions_from_the_library_that_is_slow_at_their_gradients():
    images, kernel = jnp.zeros((128, 32, 32, 32)), jnp.zeros((3, 3, 32, 32))
    window = Window(pads=((1, 1), (1, 1)))
    grad = jax.grad(lambda *x: (convolve(*x, window, "xla") ** 2).sum(), (0, 1))

    def in_the_library(program):
        calls = [line for line in program.as_text().splitlines() if "__ynn_fusion" in line]
        fused = {re.search(r"calls=(%[\w.-]+)", line)[1] for line in calls}
        bodies = program.as_text().split("\n\n")
        return sum(" convolution(" in body and body.split()[0] in fused for body in bodies)

    by_default = jax.jit(grad).lower(images, kernel).compile()
    assert in_the_library(by_default) > 0, "XLA's default has changed: is the option still needed?"
    assert in_the_library(compiled(grad, images, kernel)) == 0


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
@each_model
def test_parameters_statistics_and_logits_stay_float32(name, dtype):
    model, variables, images = build(name, compute=Compute(jnp.dtype(dtype)))
    logits = model.apply(variables, images, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, logits))} == {jnp.dtype("float32")}


@each_model
def test_bfloat16_is_near_float32(name):
    model, variables, images = build(name)
    if hasattr(model, "initialise_from"):
        variables = model.initialise_from(variables, images)
    exact = model.apply(variables, images, train=False)
    rounded = model.clone(compute=Compute(jnp.bfloat16)).apply(variables, images, train=False)
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


def test_whitened_patches_have_no_correlation_and_unit_variance():
    model, variables, _ = build("speednet")
    smooth = jax.image.resize(
        jax.random.normal(jax.random.key(2), (256, 6, 6, 3)), (256, 16, 16, 3), "linear"
    )
    kernel = model.initialise_from(variables, smooth)["batch_stats"]["whitening"]
    whitened = convolve(smooth, kernel).reshape(-1, 24)
    np.testing.assert_array_equal(whitened[:, 12:], -whitened[:, :12])
    covariance = np.asarray(whitened[:, :12].T @ whitened[:, :12] / len(whitened))
    assert np.abs(covariance - np.diag(covariance.diagonal())).max() < 1e-2
    assert 0.9 < np.median(covariance.diagonal()) < 1.01


def test_speednet_s_convolutions_begin_as_the_identity_on_their_first_channels():
    _, variables, _ = build("speednet")
    kernel = variables["params"]["Conv_1"]["kernel"]
    images = jax.random.normal(jax.random.key(0), (2, 5, 5, 6))
    window = Window(pads=((1, 1), (1, 1)))
    np.testing.assert_allclose(convolve(images, kernel, window), images, atol=1e-6)

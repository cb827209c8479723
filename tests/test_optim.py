"""Schedules and optimisers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend import core

from configs import default, fast
from jaxcifar.config.reader import read_config
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices import platform
from jaxcifar.experiment.build import build
from jaxcifar.models import MODELS
from jaxcifar.models.compute import Compute
from jaxcifar.optim import SCHEDULES, optimizers as optim, parameters, schedules
from jaxcifar.optim.orthogonal import orthogonalise
from jaxcifar.step.batch import with_full_products
from jaxcifar.training.flops import count_flops

OPTIONS = {
    "cosine": {"final_fraction": 0.0},
    "linear": {"final_fraction": 0.1},
    "step": {"boundaries": (0.5, 0.75), "factor": 0.1},
    "constant": {},
}
LAST = {"cosine": 0.0, "linear": 0.2, "step": 0.02, "constant": 2.0}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_schedule_starts_at_the_peak_and_never_rises(name):
    rates = jax.vmap(SCHEDULES[name](2.0, 100, **OPTIONS[name]))(np.arange(101))
    assert rates[0] == 2
    assert (jnp.diff(rates) <= 1e-6).all()
    np.testing.assert_allclose(rates[-1], LAST[name], atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_warmup_rises_along_a_line_and_then_the_schedule_runs_its_course(name):
    plain = SCHEDULES[name](2.0, 90, **OPTIONS[name])
    rates = jax.vmap(schedules.with_warmup(plain, 2.0, 10))(np.arange(100))
    np.testing.assert_allclose(rates[:10], np.linspace(0.2, 2.0, 10), rtol=1e-6)
    np.testing.assert_allclose(rates[10:], jax.vmap(plain)(np.arange(90)), rtol=1e-6)


def test_step_decay_falls_at_its_boundaries():
    schedule = schedules.step_decay(1.0, 100, boundaries=(0.5, 0.75), factor=0.1)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 49, 51, 74, 76, 99)],
        [1, 1, 0.1, 0.1, 0.01, 0.01],
        rtol=1e-5,
    )


def test_step_decay_falls_twice_where_two_boundaries_are_one_step():
    schedule = schedules.step_decay(1.0, 2, boundaries=(0.4, 0.5), factor=0.1)
    np.testing.assert_allclose([schedule(0), schedule(2)], [1, 0.01], rtol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_in_float64_the_learning_rate_is_float64_though_steps_are_counted_in_int32(name):
    plain = schedules.with_warmup(SCHEDULES[name](3e-3, 90, **OPTIONS[name]), 3e-3, 10)
    exact = schedules.exact(plain)
    assert exact(jnp.int32(3)).dtype == jnp.float32
    with jax.enable_x64(True):
        rates = [exact(jnp.int32(step)) for step in (3, 40)]
        expected = [plain(jnp.int64(step)) for step in (3, 40)]
    assert all(rate.dtype == jnp.float64 for rate in rates)
    np.testing.assert_array_equal(rates, expected)


def test_epochs_to_steps_rounds():
    assert [schedules.epochs_to_steps(e, 195) for e in (0, 0.5, 1, 24)] == [0, 98, 195, 4680]


PARAMS = {
    "Conv_0": {"kernel": jnp.full((3, 3, 2, 4), 0.5)},
    "BatchNorm_0": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
    "Dense_0": {"kernel": jnp.full((4, 10), -0.5), "bias": jnp.ones(10)},
}


@pytest.mark.parametrize(
    "path, shape, kind",
    [
        ("Conv_0/kernel", (3, 3, 2, 4), "kernel"),
        ("Conv_0/bias", (4,), "bias"),
        ("BatchNorm_0/scale", (4,), "bias"),
        ("whitening_bias", (24,), "bias"),
        ("Dense_0/kernel", (4, 10), "head"),
        ("Head_0/Dense_0/kernel", (4, 10), "kernel"),
        ("Backbone_0/head/kernel", (4, 10), "head"),
        ("Backbone_0/Attention_0/heads/kernel", (4, 10), "kernel"),
        ("weight", (4, 10), "head"),
        ("TransformerBlock_0/Dense_1/kernel", (4, 16), "kernel"),
        ("Block_0/MultiHeadDotProductAttention_0/query/kernel", (4, 2, 2), "kernel"),
        ("Block_0/MultiHeadDotProductAttention_0/query/bias", (2, 2), "bias"),
        ("class_token", (1, 1, 4), "embedding"),
        ("position_embedding", (1, 5, 4), "embedding"),
        ("Embed_0/embedding", (10, 4), "embedding"),
    ],
)
def test_a_parameter_s_name_and_module_tell_what_it_is(path, shape, kind):
    tree = jnp.zeros(shape)
    for name in reversed(path.split("/")):
        tree = {name: tree}
    assert jax.tree.leaves(parameters.kinds(tree)) == [kind]
    assert jax.tree.leaves(parameters.is_decayed(tree)) == [kind in ("kernel", "head")]


def params_of(name):
    config = default.get_config()
    config.model.name = name
    config.model.cnn.dense_width = 8
    model = read_config(config).model.component(classes=10, compute=Compute())
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    init = lambda key, images: model.init(key, images, train=False)["params"]
    return jax.eval_shape(init, jax.random.key(0), images)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"vit"}))
def test_in_networks_without_attention_kinds_go_by_dimensions(name):
    """As in version 0.1.0, whose runs can be resumed."""
    params = params_of(name)
    expected = jax.tree.map(lambda leaf: {4: "kernel", 2: "head"}.get(leaf.ndim, "bias"), params)
    assert parameters.kinds(params) == expected


def test_a_transformer_s_parameters_are_known_for_what_they_are():
    kinds = parameters.kinds(params_of("vit"))
    assert kinds["class_token"] == kinds["position_embedding"] == "embedding"
    assert kinds["Dense_0"] == {"kernel": "head", "bias": "bias"}
    assert kinds["Conv_0"] == {"kernel": "kernel", "bias": "bias"}
    block = kinds["TransformerBlock_11"]
    assert [block[f"Dense_{i}"]["kernel"] for i in range(4)] == ["kernel"] * 4
    assert jax.tree.leaves(kinds).count("kernel") == 12 * 4 + 1


def test_muon_moves_embeddings_at_the_learning_rate_without_decay_and_attention_as_kernels():
    params = {
        "position_embedding": jnp.full((1, 5, 4), 0.5),
        "Block_0": {"query": {"kernel": jax.random.normal(jax.random.key(0), (4, 2, 4))}},
    }
    grads = jax.tree.map(jnp.sin, params)
    optimizer = muon(weight_decay=0.5)
    change, _ = optimizer.update(grads, optimizer.init(params), params)
    expected = -0.1 * 1.85 * grads["position_embedding"]
    np.testing.assert_allclose(change["position_embedding"], expected, rtol=1e-5)
    kernel, update = params["Block_0"]["query"]["kernel"], change["Block_0"]["query"]["kernel"]
    scaled = kernel * 2 / jnp.linalg.norm(kernel)
    values = np.linalg.svd((kernel + update - scaled).reshape(8, 4), compute_uv=False)
    assert values.min() > 0.05 and values.max() < 0.13


def updates(optimizer, grads, steps=1):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        change, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, change)
    return jax.tree.map(jnp.subtract, params, PARAMS)


def plain_sgd(rate=1.0, **options):
    whole = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0} | options
    return optim.sgd(optax.constant_schedule(rate), **whole)


ZERO = jax.tree.map(jnp.zeros_like, PARAMS)
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def test_l2_penalty_is_the_gradient_of_half_the_squared_weights():
    optimizer = optim.with_penalty_and_clipping(plain_sgd(), l2_penalty=0.1, clip_norm=0)

    def penalty(params):
        return (
            0.1 / 2 * sum((params[layer]["kernel"] ** 2).sum() for layer in ("Conv_0", "Dense_0"))
        )

    expected = jax.tree.map(jnp.negative, jax.grad(penalty)(PARAMS))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates(optimizer, ZERO), expected
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        plain_sgd(rate=0.5, weight_decay=0.1),
        optim.adamw(
            optax.constant_schedule(0.5), beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.1
        ),
    ],
)
def test_weight_decay_takes_rate_times_decay_of_weights_and_nothing_of_the_rest(optimizer):
    change = updates(optimizer, ZERO)
    for layer, leaves in change.items():
        for name, leaf in leaves.items():
            expected = -0.5 * 0.1 * PARAMS[layer][name] if name == "kernel" else 0
            np.testing.assert_allclose(leaf, expected * jnp.ones_like(leaf), rtol=1e-5)


def test_clipping_bounds_the_norm_and_keeps_the_direction():
    clipped = updates(
        optim.with_penalty_and_clipping(plain_sgd(), l2_penalty=0, clip_norm=0.5), ONES
    )
    np.testing.assert_allclose(optax.tree.norm(clipped), 0.5, rtol=1e-5)
    free = updates(optim.with_penalty_and_clipping(plain_sgd(), l2_penalty=0, clip_norm=0), ONES)
    ratios = jax.tree.leaves(jax.tree.map(lambda a, b: (a / b).ravel(), clipped, free))
    assert np.ptp(np.concatenate(ratios)) < 1e-6


def test_nesterov_momentum_is_the_published_recursion():
    change = updates(plain_sgd(rate=0.1, momentum=0.9, nesterov=True), ONES, steps=3)
    velocity, position = 0.0, 0.0
    for _ in range(3):
        velocity = 0.9 * velocity + 1
        position -= 0.1 * (0.9 * velocity + 1)
    np.testing.assert_allclose(change["Dense_0"]["bias"], position, rtol=1e-5)


def test_adam_s_first_step_is_the_learning_rate():
    adam = optim.adam(optax.constant_schedule(0.01), beta1=0.9, beta2=0.999, epsilon=1e-8)
    grads = jax.tree.map(lambda leaf: 123.0 * jnp.sign(leaf), PARAMS)
    for leaf, grad in zip(jax.tree.leaves(updates(adam, grads)), jax.tree.leaves(grads)):
        np.testing.assert_allclose(leaf, -0.01 * jnp.sign(grad), rtol=1e-4)


def muon(**changes):
    options = {"momentum": 0.6, "newton_schulz_steps": 3, "sgd_momentum": 0.85}
    options |= {"bias_multiplier": 2.0, "head_multiplier": 3.0, "weight_decay": 0.0}
    return optim.muon(optax.constant_schedule(0.1), **(options | changes))


both_platforms = pytest.mark.parametrize("current", ["cpu", "gpu"])


@both_platforms
def test_muon_s_update_of_a_kernel_has_singular_values_near_the_rate(monkeypatch, current):
    monkeypatch.setattr(platform, "current", lambda: current)
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 16))
    kernel *= 4 / jnp.linalg.norm(kernel)  # Muon scales to this norm: its scaling does nothing
    optimizer = muon()
    change, _ = optimizer.update(kernel**3, optimizer.init(kernel), kernel)
    values = np.linalg.svd(change.reshape(-1, 16), compute_uv=False)
    assert values.min() > 0.05 and values.max() < 0.13


def test_muon_s_kernels_are_scaled_to_the_root_of_their_output_channels():
    kernel = 7 * jax.random.normal(jax.random.key(0), (3, 3, 4, 16))
    optimizer = muon()
    change, _ = optimizer.update(jnp.zeros_like(kernel), optimizer.init(kernel), kernel)
    scaled = kernel + change
    np.testing.assert_allclose(jnp.linalg.norm(scaled), 4, rtol=1e-5)
    np.testing.assert_allclose(scaled / kernel, (scaled / kernel).mean(), rtol=1e-4)


def test_muon_leaves_biases_and_heads_to_nesterov_sgd_at_their_own_rates():
    change = updates(muon(), ONES, steps=3)
    for name, multiplier in (("bias", 2), ("kernel", 3)):
        velocity, position = 0.0, 0.0
        for _ in range(3):
            velocity = 0.85 * velocity + 1
            position -= 0.1 * multiplier * (0.85 * velocity + 1)
        np.testing.assert_allclose(change["Dense_0"][name], position, rtol=1e-5)


def test_muon_s_decay_takes_rate_times_decay_of_biases_and_heads():
    change = updates(muon(weight_decay=0.5), ZERO)
    for name in ("bias", "kernel"):
        np.testing.assert_allclose(
            change["Dense_0"][name], -0.05 * PARAMS["Dense_0"][name], rtol=1e-5
        )


COEFFICIENTS = jnp.array((3.4445, -4.7750, 2.0315))
TALL, WIDE, SQUARE = (3, 3, 24, 64), (1, 1, 3, 32), (2, 2, 4, 16)
RESNET = [
    (3, 3, 3, 64),
    *[(3, 3, 64, 64)] * 4,
    *[(3, 3, width // 2, width) for width in (128, 256, 512)],
    *[(1, 1, width // 2, width) for width in (128, 256, 512)],
    *[(3, 3, width, width) for width in (128, 256, 512) for _ in range(3)],
]


def by_kernel(kernels, steps):
    """Return Optax's result for each kernel."""
    transform = optax.contrib.scale_by_muon(
        ns_steps=steps,
        beta=0,
        nesterov=False,
        weight_dimension_numbers=lambda kernels: [
            optax.contrib.MuonDimensionNumbers((0, 1, 2), 3) for _ in kernels
        ],
    )
    return transform.update(kernels, transform.init(kernels))[0]


def normal(shapes, scale=1e-3):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [scale * jax.random.normal(key, shape) for key, shape in zip(keys, shapes)]


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize(
    "shapes",
    [
        [TALL],
        [WIDE],
        [TALL, TALL],
        [WIDE, TALL, SQUARE],
        [(3, 3, 64, 64), TALL, WIDE, SQUARE, WIDE],
    ],
)
def test_kernels_are_orthogonalised_together_as_one_by_one(shapes, steps):
    kernels = normal(shapes)
    for zeros in range(len(shapes)):  # one kernel after another has no gradient
        found = orthogonalise(kernels, COEFFICIENTS, steps, None)
        for one, other in zip(found, by_kernel(kernels, steps), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        kernels[zeros] = jnp.zeros_like(kernels[zeros])


def test_a_kernel_that_is_not_a_number_leaves_the_others_alone():
    kernels = normal([TALL, SQUARE, WIDE])
    kernels[1] = kernels[1].at[0, 0, 0, 0].set(jnp.nan)
    first, second, third = orthogonalise(kernels, COEFFICIENTS, 3, jnp.bfloat16)
    assert np.isnan(second).all() and np.isfinite(first).all() and np.isfinite(third).all()


def test_in_bfloat16_the_orthogonalised_kernels_are_a_rounding_away():
    kernels = normal([TALL, WIDE, SQUARE, (3, 3, 64, 256)], scale=1e-12)
    rounded = orthogonalise(kernels, COEFFICIENTS, 3, jnp.bfloat16)
    for one, other in zip(rounded, orthogonalise(kernels, COEFFICIENTS, 3, None)):
        assert one.dtype == jnp.float32
        assert jnp.linalg.norm(one - other) < 0.03 * jnp.linalg.norm(other)


@pytest.mark.parametrize("shapes, fewer", [(RESNET, 4), ([TALL, (3, 3, 64, 64)], 2), ([], 1)])
def test_kernels_lie_in_few_batches_whose_zeros_at_most_double_the_work(shapes, fewer):
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    together = lambda *kernels: orthogonalise(kernels, COEFFICIENTS, 3, None)
    alone = lambda *kernels: by_kernel(list(kernels), 3)
    products = [len(products_in(jax.make_jaxpr(way)(*structs))) for way in (alone, together)]
    assert products[0] == 9 * len(shapes) >= fewer * products[1]
    assert count_flops(together, *structs) <= 2 * count_flops(alone, *structs)


def products_in(jaxpr):
    """Return the types of the factors of each product in a jaxpr; those in a loop count in each iteration."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found.append({variable.aval.dtype.name for variable in equation.invars})
        for inner in filter(is_jaxpr, jax.tree.leaves(equation.params, is_leaf=is_jaxpr)):
            found += products_in(inner) * equation.params.get("length", 1)
    return found


def is_jaxpr(value):
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


@pytest.mark.parametrize(
    "current, precision, products, dtype",
    [
        ("cpu", "bfloat16", 54, "float32"),
        ("gpu", "bfloat16", 9, "bfloat16"),
        ("gpu", "float32", 9, "float32"),
    ],
)
def test_on_an_accelerator_a_step_of_the_fast_config_orthogonalises_in_nine_products(
    monkeypatch, current, precision, products, dtype
):
    monkeypatch.setattr(platform, "current", lambda: current)
    config = fast.get_config()
    config.precision = precision
    data = DataFacts((32, 32, 3), tuple("abcdefghij"), (0.5,) * 3, (0.2,) * 3, 50000)
    experiment = build(read_config(config), data)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    state = jax.eval_shape(experiment.init_state, jax.random.key(0), images)
    update = experiment.optimizer.update
    update = update if precision == "bfloat16" else with_full_products(update)
    jaxpr, result = jax.make_jaxpr(update, return_shape=True)(
        state.params, state.opt_state, state.params
    )
    assert products_in(jaxpr) == [{dtype}] * products
    types = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert types(result) == types((state.params, state.opt_state))


def test_muon_s_state_and_in_full_precision_its_updates_are_the_same_on_every_platform(monkeypatch):
    params = PARAMS | {"Conv_1": {"kernel": 0.1 * jnp.ones((1, 1, 4, 9))}}
    grads = jax.tree.map(lambda leaf: jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape), params)
    optimizer = muon()
    update = with_full_products(optimizer.update)
    results = {}
    for current in ("cpu", "gpu"):
        monkeypatch.setattr(platform, "current", lambda: current)
        _, state = update(grads, optimizer.init(params), params)
        results[current] = update(grads, state, params)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5),
        *(jax.device_get(results[current]) for current in ("cpu", "gpu")),
    )

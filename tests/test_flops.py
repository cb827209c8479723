"""The count of floating-point operations, against XLA's count and against sums of ones."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax

from configs import default, fast
from jaxcifar.config.reader import read_config
from jaxcifar.data.facts import DataFacts
from jaxcifar.experiment.build import build
from jaxcifar.experiment.setup import Setup, start_layout
from jaxcifar.training import overview
from jaxcifar.training.flops import count_flops


@pytest.mark.parametrize(
    "make, model, mflop",
    [(default, "cnn", 131.7), (default, "resnet", 965.8), (fast, "speednet", 187.3)],
)
def test_the_count_is_within_one_percent_of_xla_s_own(make, model, mflop):
    config = make.get_config()
    config.model.name, config.precision = model, "float32"
    facts = DataFacts((32, 32, 3), tuple("abcdefghij"), (0.5,) * 3, (0.2,) * 3, 50_000)
    layout, counted = start_layout(read_config(config)), []
    images = jax.ShapeDtypeStruct((1000, 32, 32, 3), jnp.uint8)
    for library in ("auto", "xla"):
        config.convolutions = library
        experiment = build(read_config(config), facts)
        state = jax.eval_shape(experiment.init_state, jax.random.key(0), images)
        counted.append(
            overview.forward_flops(Setup(read_config(config), layout, experiment), state)
        )
    assert counted[0] == counted[1]

    def forward(state, images):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return experiment.model.apply(variables, images, train=False)

    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    by_xla = jax.jit(forward).lower(state, image).cost_analysis()["flops"]
    assert by_xla == pytest.approx(mflop * 1e6, rel=1e-3)
    assert counted[0] == pytest.approx(by_xla, rel=0.01)


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_a_convolution_counts_the_products_that_do_not_fall_on_padding_or_dilation(data):
    draw = lambda low, high: data.draw(st.integers(low, high))
    groups = draw(1, 2)
    images = jnp.ones((2, draw(6, 9), draw(6, 9), 2 * groups))
    kernel = jnp.ones((draw(1, 3), draw(1, 3), 2, 3 * groups))
    window = {
        "window_strides": (draw(1, 2), draw(1, 2)),
        "padding": [(draw(-1, 3), draw(0, 3)), (draw(0, 3), draw(-1, 3))],
        "lhs_dilation": (draw(1, 2), draw(1, 2)),
        "rhs_dilation": (draw(1, 2), draw(1, 2)),
        "feature_group_count": groups,
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    }
    convolve = lambda images, kernel: lax.conv_general_dilated(images, kernel, **window)
    assert count_flops(convolve, images, kernel) == 2 * convolve(images, kernel).sum()


def test_products_are_counted_inside_custom_gradients_branches_and_loops():
    square = jnp.ones((4, 4))
    one = 2 * 4**3

    @jax.custom_vjp
    def custom(x):
        return x @ x

    custom.defvjp(lambda x: (x @ x, x), lambda x, grad: (grad @ x,))
    assert count_flops(custom, square) == one
    assert count_flops(jax.grad(lambda x: custom(x).sum()), square) == 2 * one
    branches = lambda x: lax.cond(x.sum() > 0, lambda x: x @ x @ x, lambda x: x, x)
    assert count_flops(branches, square) == 2 * one
    scanned = lambda x: lax.scan(lambda carry, _: (carry @ x, None), x, length=5)[0]
    assert count_flops(scanned, square) == 5 * one
    batched = lambda x: jnp.einsum("bij,bjk->bik", x, x)
    assert count_flops(batched, jnp.ones((3, 4, 4))) == 3 * one

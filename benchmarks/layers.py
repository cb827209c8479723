"""Times jaxcifar's layers beside Flax's: forward and gradient, under jaxcifar's compiler options.

python -m benchmarks.layers

Milliseconds, medians of nine, the two in turn; float32, all cores.
"""

import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app
from jax import lax

from benchmarks import machine
from jaxcifar.devices import backend
from jaxcifar.models import layers
from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import Window, convolve, library
from jaxcifar.models.dense import Dense

SHAPES = ((256, 32, 32, 32), (256, 16, 16, 64), (256, 8, 8, 128))
"""Of the activations: batch, height, width, channel."""
TOKENS = ((64, 65, 192), (64, 65, 768))
"""Of a transformer's activations: batch, token, feature."""


def batch_norm(norm):
    """Return a function of `x` that normalises it with `norm`, in training."""

    def apply(x):
        statistics = {"mean": jnp.zeros(x.shape[-1]), "var": jnp.ones(x.shape[-1])}
        params = {"scale": jnp.ones(x.shape[-1]), "bias": jnp.zeros(x.shape[-1])}
        variables = {"params": params, "batch_stats": statistics}
        return norm.apply(variables, x, mutable=["batch_stats"])[0]

    return apply


def convolution(convolve, *, depthwise=False):
    """Return a function of `x` that convolves it with a kernel made from it."""

    def apply(x):
        channels = x.shape[-1]
        kernel = x[0, 0, 0] * jnp.ones((3, 3, 1 if depthwise else channels, channels))
        return convolve(x, kernel)

    return apply


def own_convolve(images, kernel):
    window = Window(pads=((1, 1), (1, 1)), groups=images.shape[-1] // kernel.shape[2])
    return convolve(images, kernel, window, library("auto", images.dtype))


def plain_convolve(images, kernel):
    layout, groups = ("NHWC", "HWIO", "NHWC"), images.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(
        *(images, kernel, (1, 1), "SAME"), dimension_numbers=layout, feature_group_count=groups
    )


def with_parameters(layer):
    """Return a function that applies `layer` to `x`, with parameters made from `x`."""

    def apply(x):
        shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
        return layer.apply(jax.tree.map(lambda leaf: x[0, 0, 0] * jnp.ones(leaf.shape), shapes), x)

    return apply


PAIRS = {
    "sum over channels": (SHAPES, lambda x: layers.channel_sums(x)[0], lambda x: x.sum((0, 1, 2))),
    "batch norm": (
        SHAPES,
        batch_norm(layers.BatchNorm(Compute(), use_running_average=False)),
        batch_norm(nn.BatchNorm(use_running_average=False, momentum=0.9)),
    ),
    "gelu": (SHAPES, layers.gelu, lambda x: nn.gelu(x, approximate=False)),
    "2×2 max pooling": (SHAPES, layers.max_pool_2x2, lambda x: nn.max_pool(x, (2, 2), (2, 2))),
    "3×3 convolution": (SHAPES, convolution(own_convolve), convolution(plain_convolve)),
    "3×3 depthwise": (
        ((32, 32, 32, 96),),
        convolution(own_convolve, depthwise=True),
        convolution(plain_convolve, depthwise=True),
    ),
    "dense, 768 features": (
        TOKENS,
        with_parameters(Dense(768, Compute())),
        with_parameters(nn.Dense(768)),
    ),
    "layer norm": (
        TOKENS,
        with_parameters(layers.LayerNorm(Compute())),
        with_parameters(nn.LayerNorm(1e-6)),
    ),
}


def programs(function, x):
    """Return the compiled forward pass and the compiled gradient, for `x`, of `function`."""
    options = backend.compiler_options(deterministic=False)
    weights = jax.random.normal(jax.random.key(1), jax.eval_shape(function, x).shape)
    gradient = jax.grad(lambda x: (function(x) * weights).sum())
    return [jax.jit(f).lower(x).compile(compiler_options=options) for f in (function, gradient)]


def main(argv):
    del argv
    print(f"{'':20} {'activations':>16}   {'forward':>15}   {'with gradient':>15}   (ours, Flax's)")
    for name, (shapes, *pair) in PAIRS.items():
        for shape in shapes:
            x = jax.random.normal(jax.random.key(0), shape)
            compiled = [program for function in pair for program in programs(function, x)]
            times = [[] for _ in compiled]
            for _ in range(10):
                for program, spent in zip(compiled, times, strict=True):
                    start = time.perf_counter()
                    jax.block_until_ready(program(x))
                    spent.append(1e3 * (time.perf_counter() - start))
            ours, our_grad, theirs, their_grad = (statistics.median(t[1:]) for t in times)
            size = "×".join(map(str, shape))
            print(
                f"{name:20} {size:>16}   {ours:7.1f} {theirs:7.1f}   {our_grad:7.1f} {their_grad:7.1f}"
            )
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")


if __name__ == "__main__":
    app.run(main)

"""Times jaxcifar's layers beside Flax's: forward and gradient, under jaxcifar's compiler options.

python -m benchmarks.layers

Milliseconds, medians of nine, the two in turn; batch 256, float32, all cores.
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

SHAPES = ((256, 32, 32, 32), (256, 16, 16, 64), (256, 8, 8, 128))
"""Of the activations: batch, height, width, channel."""


def batch_norm(norm):
    """Return a function of `x` that has `norm` normalise it, in training."""

    def apply(x):
        statistics = {"mean": jnp.zeros(x.shape[-1]), "var": jnp.ones(x.shape[-1])}
        params = {"scale": jnp.ones(x.shape[-1]), "bias": jnp.zeros(x.shape[-1])}
        variables = {"params": params, "batch_stats": statistics}
        return norm.apply(variables, x, mutable=["batch_stats"])[0]

    return apply


def convolution(convolve):
    """Return a function of `x` that convolves it with a kernel made from it."""

    def apply(x):
        channels = x.shape[-1]
        kernel = x[0, 0, 0] * jnp.ones((3, 3, channels, channels))
        return convolve(x, kernel)

    return apply


def own_convolve(images, kernel):
    return convolve(images, kernel, Window(pads=((1, 1), (1, 1))), library("auto", images.dtype))


def plain_convolve(images, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=layout)


PAIRS = {
    "sum over channels": (lambda x: layers.channel_sums(x)[0], lambda x: x.sum((0, 1, 2))),
    "batch norm": (
        batch_norm(layers.BatchNorm(Compute(), use_running_average=False)),
        batch_norm(nn.BatchNorm(use_running_average=False, momentum=0.9)),
    ),
    "gelu": (layers.gelu, lambda x: nn.gelu(x, approximate=False)),
    "2×2 max pooling": (layers.max_pool_2x2, lambda x: nn.max_pool(x, (2, 2), (2, 2))),
    "3×3 convolution": (convolution(own_convolve), convolution(plain_convolve)),
}


def programs(function, x):
    """Return the compiled forward pass and the compiled gradient, for `x`, of `function`."""
    options = backend.compiler_options(deterministic=False)
    weights = jax.random.normal(jax.random.key(1), jax.eval_shape(function, x).shape)
    gradient = jax.grad(lambda x: (function(x) * weights).sum())
    return [jax.jit(f).lower(x).compile(compiler_options=options) for f in (function, gradient)]


def main(argv):
    del argv
    print(f"{'':18} {'activations':>16}   {'forward':>15}   {'with gradient':>15}   (ours, Flax's)")
    for name, pair in PAIRS.items():
        for shape in SHAPES:
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
                f"{name:18} {size:>16}   {ours:7.1f} {theirs:7.1f}   {our_grad:7.1f} {their_grad:7.1f}"
            )
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")


if __name__ == "__main__":
    app.run(main)

"""Times a 3×3 convolution and its two gradients in XLA and in PyTorch; needs the extra `bench`.

python -m benchmarks.convolutions

Prints GFLOP/s, medians of seven, batch 256, all cores, in float32 and in bfloat16: with XLA's default
options, with those that jaxcifar sets on a CPU, in jaxcifar, and in PyTorch in channels-last.
"""

import itertools
import os
import statistics
import time

import jax
import torch
from absl import app
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from benchmarks import machine
from benchmarks.layers import own_convolve, plain_convolve
from jaxcifar.devices import backend

BATCH = 256
SHAPES = ((32, 32, 32), (16, 64, 64), (8, 128, 128), (4, 256, 256), (2, 256, 256))
"""Height and width, channels in, channels out."""


def seconds(run) -> float:
    """Return the median time of `run`, which waits for its own result."""
    run(), run()
    times = []
    for _ in range(7):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def xla(size, inward, outward, dtype, options, convolve=plain_convolve):
    """Return the seconds of the convolution, the input's gradient and the kernel's gradient."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (BATCH, size, size, inward), (3, 3, inward, outward), (BATCH, size, size, outward)
    arrays = [jax.random.normal(*pair, dtype) for pair in zip(keys, shapes, strict=True)]
    functions = (
        lambda images, kernel, _: convolve(images, kernel),
        lambda images, kernel, grad: jax.vjp(lambda x: convolve(x, kernel), images)[1](grad),
        lambda images, kernel, grad: jax.vjp(lambda k: convolve(images, k), kernel)[1](grad),
    )
    compiled = [jax.jit(f).lower(*arrays).compile(compiler_options=options) for f in functions]
    return [seconds(lambda run=run: jax.block_until_ready(run(*arrays))) for run in compiled]


def pytorch(size, inward, outward, dtype):
    """Return the same in PyTorch."""
    last = {"dtype": getattr(torch, dtype), "memory_format": torch.channels_last}
    images = torch.randn(BATCH, inward, size, size).to(**last)
    kernel = torch.randn(outward, inward, 3, 3).to(**last)
    grad = torch.randn(BATCH, outward, size, size).to(**last)
    return [
        seconds(lambda: functional.conv2d(images, kernel, padding=1)),
        seconds(lambda: conv2d_input(images.shape, kernel, grad, padding=1)),
        seconds(lambda: conv2d_weight(images, kernel.shape, grad, padding=1)),
    ]


def main(argv):
    del argv
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    ours = backend.compiler_options(deterministic=False)
    print(f"{'GFLOP/s':33} {'size':>12} {'forward':>8} {'input':>8} {'kernel':>8}")
    for dtype, shape in itertools.product(("float32", "bfloat16"), SHAPES):
        size, inward, outward = shape
        work = 2 * BATCH * size * size * 9 * inward * outward / 1e9
        rows = {
            "XLA, default options": xla(*shape, dtype, {}),
            "XLA, jaxcifar's options": xla(*shape, dtype, ours),
            "jaxcifar": xla(*shape, dtype, ours, own_convolve),
            "PyTorch": pytorch(*shape, dtype),
        }
        for name, times in rows.items():
            rates = " ".join(f"{work / spent:8.0f}" for spent in times)
            print(f"{name:24} {dtype:8} {size:2}²×{inward:3}→{outward:3} {rates}", flush=True)
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")


if __name__ == "__main__":
    app.run(main)

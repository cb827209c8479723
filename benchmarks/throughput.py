"""Times one network in JAX and in PyTorch, in turn, in one run; needs the extra `bench`.

python -m benchmarks.throughput --config=configs/default.py [--pairs=7] [--out=FILE.json]

Every side is a process of its own, which waits while another works. All train (forward, backward,
optimiser) and infer with the same network on the same kind of images, batch by batch, in the same
precision, on all cores. The sides are: `jaxcifar`, its own step without augmentation;
`jaxcifar+input`, the same with the config's augmentation; `flax`, the same as the first without the
compiler options and pooling that jaxcifar chooses; `torch eager` and `torch compiled`, in
channels-last, of which the faster counts.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

SIDES = ("jaxcifar", "jaxcifar+input", "flax", "torch eager", "torch compiled")
WORK = ("train", "infer")

_CONFIG = config_flags.DEFINE_config_file("config", "configs/default.py", lock_config=True)
_PAIRS = flags.DEFINE_integer("pairs", 7, "how often each side is timed", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 4, "about how long one timing takes", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")
_SIDE = flags.DEFINE_enum("side", None, SIDES, "what this process times; set by the one above it")


def peak_bytes() -> int:
    """Return the most memory that this process has held: its peak resident set."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def jax_side(config, side):
    """Return `train()` and `infer()`, which do one batch and wait for it."""
    import jax
    import numpy as np

    from jaxcifar import experiment as experiments
    from jaxcifar.models import cnn
    from jaxcifar.parallel import Layout, over_rows
    from jaxcifar.steps import on_rows

    layout = experiments.start_layout(config)
    if side == "flax":
        import flax.linen as nn

        layout = Layout(layout.devices, {})
        cnn.max_pool_2x2 = lambda images: nn.max_pool(images, (2, 2), (2, 2))
    after_import = peak_bytes()
    config.data.name = "shapes"
    config.data.shapes.train_examples = config.batch_size
    if side != "jaxcifar+input":
        for augmentation in config.augmentation.values():
            augmentation.enabled = False
    dataset = experiments.load_split(config, "train_split")
    experiment = experiments.build(config, experiments.facts_of(config, dataset), layout)
    state = layout.run_once(experiment.init_state, jax.random.key(0), dataset.images)
    order = np.arange(config.batch_size, dtype=np.int32)[None]
    data, order, key = layout.place(((dataset.images, dataset.labels), order, jax.random.key(1)))
    run_train = over_rows(on_rows(experiment.train_step), layout, updates_state=True)
    run_infer = over_rows(on_rows(experiment.evaluation_step), layout, updates_state=False)

    def train():
        nonlocal state
        state, counts = run_train(state, data, order, 0, 1, key)
        jax.block_until_ready(counts)

    def infer():
        jax.block_until_ready(run_infer(state, data, order, 0, 1))

    return train, infer, after_import


def torch_side(config, side):
    """Return the same in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    after_import = peak_bytes()
    model = torch_cnn(nn, **config.model.cnn).to(memory_format=torch.channels_last)
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    options = config.optimizer
    optimizer = torch.optim.Adam(
        [{"params": kernels, "weight_decay": options.l2_penalty}, {"params": others}],
        lr=options.learning_rate,
        betas=(options.adam.beta1, options.adam.beta2),
        eps=options.adam.epsilon,
        fused=True,
    )
    images = torch.rand(config.batch_size, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (config.batch_size,))
    forward = torch.compile(model) if side == "torch compiled" else model

    def train():
        model.train()
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(forward(images), labels).backward()
        optimizer.step()

    @torch.inference_mode()
    def infer():
        model.eval()
        forward(images).argmax(1)

    return train, infer, after_import


def torch_cnn(nn, *, widths, convs_per_block, kernel_size, activation, dropout_rate, dense_width):
    """Return the network of `jaxcifar.models.CNN` as a PyTorch module."""
    if activation != "relu" or dense_width:
        raise SystemExit("the PyTorch side knows relu and no hidden dense layer")
    layers, inward = [], 3
    for width, convs in zip(widths, convs_per_block, strict=True):
        for _ in range(convs):
            layers += [
                nn.Conv2d(inward, width, kernel_size, padding=kernel_size // 2, bias=False),
                nn.BatchNorm2d(width, momentum=0.1),
                nn.ReLU(),
            ]
            inward = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout_rate), nn.Linear(inward, 10)]
    return nn.Sequential(*layers, *head)


def serve(config, side) -> None:
    """Time what the lines on standard input ask for, and answer each with a line of JSON."""
    make = torch_side if side.startswith("torch") else jax_side
    train, infer, after_import = make(config, side)
    functions = {"train": train, "infer": infer}
    for line in sys.stdin:
        work, seconds = line.split()
        run = functions[work]
        run(), run()  # compile, and settle
        steps, start = 0, time.perf_counter()
        while steps == 0 or time.perf_counter() - start < float(seconds):
            run()
            steps += 1
        spent = time.perf_counter() - start
        answer = {
            "images_per_second": steps * config.batch_size / spent,
            "peak_bytes_after_import": peak_bytes() - after_import,
        }
        print(json.dumps(answer), flush=True)


def measure() -> dict:
    """Run all the sides in turn, and return the images a second of each, round by round."""
    processes = {
        side: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.throughput", *sys.argv[1:], f"--side={side}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for side in SIDES
    }
    figures = {work: {side: [] for side in SIDES} for work in WORK}
    peaks = {}
    for work in WORK:
        for _ in range(_PAIRS.value):
            for side, process in processes.items():
                process.stdin.write(f"{work} {_SECONDS.value}\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline())
                figures[work][side].append(answer["images_per_second"])
                peaks.setdefault((work, side), answer["peak_bytes_after_import"])
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {
        "images_per_second": figures,
        "peak_bytes_after_import": {side: peaks["train", side] for side in SIDES},
    }


def main(argv):
    del argv
    config = _CONFIG.value
    if _SIDE.value:
        serve(config, _SIDE.value)
        return
    result = measure()
    result["versions"] = {name: version(name) for name in ("jax", "jaxlib", "flax", "torch")}
    result["machine"] = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    for work, sides in result["images_per_second"].items():
        eager, compiled = sides["torch eager"], sides["torch compiled"]
        best = max(eager, compiled, key=statistics.median)
        print(f"{work}: median images/s, and the median of the ratios to the faster PyTorch")
        for side, rates in sides.items():
            ratio = statistics.median(a / b for a, b in zip(rates, best, strict=True))
            print(f"  {side:16} {statistics.median(rates):10,.0f}   {ratio:.2f}")
    print("peak resident memory in training, less that after import, MB")
    for side, peak in result["peak_bytes_after_import"].items():
        print(f"  {side:16} {peak / 1e6:10,.0f}")
    print(f"{result['machine']}; {result['versions']}")
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

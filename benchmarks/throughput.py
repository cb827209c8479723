"""Times one network in JAX and in PyTorch, in turn, in one run; needs the extra `bench`.

python -m benchmarks.throughput --config=configs/default.py [--pairs=7] [--sides=…] [--works=…]
    [--ready_within=SECONDS] [--out=FILE.json]

Every side is a process of its own, which waits while another works. All train (forward, backward,
optimiser), infer, and prepare input (gather and augment) with the same network on the same kind of
images, batch by batch, in the same precision, on all cores. The sides are:
`jaxcifar`, its own step without augmentation; `jaxcifar+input`, the same with the config's
augmentation; `flax`, the same as the first with Flax's own layers under
XLA's default options; PyTorch in channels-last, eager and compiled, on a GPU in three modes of
`torch.compile`, of which the fastest counts.
On a GPU sixteen steps are sent before a wait. JAX's steps also take their batch from the split,
normalise it and count correct answers; PyTorch's steps do not. PyTorch does not jitter the hue. The
memory is the host's.
"""

import functools
import json
import math
import os
import select
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.machine import peak_bytes

TORCH_MODES = {
    "torch eager": None,
    "torch compiled": "default",
    "torch reduce-overhead": "reduce-overhead",
    "torch max-autotune": "max-autotune",
}
SIDES = ("jaxcifar", "jaxcifar+input", "flax", *TORCH_MODES)
WORK = ("train", "infer", "input")

_CONFIG = config_flags.DEFINE_config_file("config", "configs/default.py", lock_config=True)
_PAIRS = flags.DEFINE_integer("pairs", 7, "how often each side is timed", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 4, "about how long one timing takes", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")
_SIDES = flags.DEFINE_multi_enum("sides", None, SIDES, "what is timed; all, if none is named")
_WORKS = flags.DEFINE_multi_enum("works", WORK, WORK, "what they do")
_READY = flags.DEFINE_float("ready_within", None, "seconds after which a side is left out")
_SIDE = flags.DEFINE_enum("side", None, SIDES, "what this process times; set by the one above it")
_WORK = flags.DEFINE_enum("work", None, WORK, "what it does; likewise")


def jax_side(config, side, work):
    """Return `(steps) -> None`, which does the work, its steps at once, and the peak memory after import."""
    import jax
    import numpy as np

    from jaxcifar.augment.augmentations import Examples
    from jaxcifar.config.reader import read_config
    from jaxcifar.devices.layout import Layout
    from jaxcifar.experiment.build import computation_dtype
    from jaxcifar.experiment.setup import beginning, set_up, start_layout
    from jaxcifar.step.batch import map_step

    layout = start_layout(read_config(config))
    config.precision = computation_dtype(config.precision, config.convolutions).name
    if side == "flax":
        use_flax_layers()
        config.convolutions = "xla"
        layout = Layout(layout.devices, {})
    after_import = peak_bytes()
    rows = min(16, layout.rows_per_dispatch)
    config.data.name = "shapes"
    config.data.shapes.train_examples = config.batch_size
    if side != "jaxcifar+input":
        for options in config.augmentation.values():
            options.enabled = False
    setup, dataset = set_up(read_config(config), layout)
    experiment = setup.experiment

    def init_state(key, images):
        state = experiment.init_state(key, images)
        return state if work == "train" else state.replace(opt_state=None)

    state = layout.run_once(init_state, *beginning(dataset, jax.random.key(0)))
    order = np.tile(np.arange(config.batch_size, dtype=np.int32), (rows, 1))
    data, order, key = layout.put(((dataset.images, dataset.labels), order, jax.random.key(1)))
    run_train = map_step(experiment.train_step, layout, updates_state=True)
    run_infer = map_step(experiment.evaluation_step, layout, updates_state=False)

    def augment_batch(state, batch, key):
        images, targets = batch.images / 255, jax.nn.one_hot(batch.labels, 10)
        examples = Examples(images, targets, batch.index, state.step)
        key = jax.random.fold_in(key, state.step)
        images = experiment.augment(key, batch.places, examples).images
        return state.replace(step=state.step + 1), images

    run_input = map_step(augment_batch, layout, updates_state=False)
    programs = {"train": run_train, "infer": run_infer, "input": run_input}
    programs[work].lower(rows, state, data, order, key)()

    def train(steps):
        nonlocal state
        for _ in range(0, steps, rows):
            state, counts = run_train(state, data, order, 0, rows, key)
        jax.block_until_ready(counts)

    def infer(steps):
        for _ in range(0, steps, rows):
            counts = run_infer(state, data, order, 0, rows, key)
        jax.block_until_ready(counts)

    def input(steps):
        for _ in range(0, steps, rows):
            total = run_input(state, data, order, 0, rows, key)
        jax.block_until_ready(total)

    return {"train": train, "infer": infer, "input": input}[work], rows, after_import


def use_flax_layers():
    """Replace jaxcifar's own layers by Flax's in the models."""
    import flax.linen as nn

    from jaxcifar.models import MODELS, blocks

    def conv(features, kernel_size, compute, *, strides=1, groups=1, pads=None, **options):
        pads = pads or [((size - 1) // 2, size // 2) for size in kernel_size]
        options = {
            "use_bias": False,
            "dtype": compute.dtype,
            "feature_group_count": groups,
        } | options
        return nn.Conv(features, kernel_size, strides, pads, **options)

    def batch_norm(compute, **options):
        options |= {"axis_name": compute.axis_name, "dtype": compute.dtype}
        return nn.BatchNorm(**{"momentum": 0.9} | options)

    def sequential(*layers):
        return lambda x: functools.reduce(lambda x, layer: layer(x), layers, x)

    own = {
        "Conv": conv,
        "BatchNorm": batch_norm,
        "Dense": lambda features, compute, kernel_init: nn.Dense(
            features, dtype=compute.dtype, kernel_init=kernel_init
        ),
        "LayerNorm": lambda compute: nn.LayerNorm(1e-6, dtype=compute.dtype),
        "sequential": sequential,
        "max_pool_2x2": lambda images: nn.max_pool(images, (2, 2), (2, 2)),
        "average_pool_2x2": lambda images: nn.avg_pool(images, (2, 2), (2, 2)),
        "max_pool_3x3": lambda images: nn.max_pool(images, (3, 3), (2, 2), ((1, 1), (1, 1))),
    }
    for module in (blocks, *(sys.modules[model.__module__] for model in MODELS.values())):
        for name in own.keys() & vars(module).keys():
            setattr(module, name, own[name])


def torch_side(config, side, work):
    """Return the same for PyTorch."""
    import torch
    from torch.nn import functional

    from benchmarks import torch_peer, torch_zoo
    from jaxcifar.config.reader import read_config

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    after_import = peak_bytes()
    count = config.batch_size
    chosen = read_config(config).model.component
    model = (torch_peer.MODELS | torch_zoo.MODELS)[chosen.name](**chosen.options)
    model = model.to(device, memory_format=torch.channels_last)
    optimizers = torch_peer.optimizers(model, config.optimizer)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    pixels = pixels.to(device, memory_format=torch.channels_last)
    images = (pixels / 255).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (count,), device=device)
    prepare, forward = torch_peer.augmented, model
    if mode := TORCH_MODES[side]:
        prepare, forward = torch.compile(prepare, mode=mode), torch.compile(model, mode=mode)
    precision = torch_peer.in_the_precision_of(config, device)

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def train(steps):
        model.train()
        for _ in range(steps):
            with precision:
                logits = forward(images)
            functional.cross_entropy(logits.float(), labels).backward()
            for optimizer in optimizers:
                optimizer.step()
            model.zero_grad(set_to_none=True)
        wait()

    @torch.inference_mode()
    def infer(steps):
        model.eval()
        for _ in range(steps):
            with precision:
                forward(images).argmax(1)
        wait()

    @torch.inference_mode()
    def input(steps):
        for _ in range(steps):
            chosen = pixels[torch.randperm(count, device=device)]
            mirrored = torch.rand(count, device=device) < 0.5
            prepare(chosen / 255, config.augmentation, mirrored)
        wait()

    steps_at_once = 16 if device == "cuda" else 1
    return {"train": train, "infer": infer, "input": input}[work], steps_at_once, after_import


def serve(config, side, work) -> None:
    """Say when ready; then work for each number of seconds that standard input gives, and answer in JSON."""
    make = torch_side if side.startswith("torch") else jax_side
    run, rows, after_import = make(config, side, work)
    run(rows)
    print("ready", flush=True)
    for seconds in sys.stdin:
        run(rows)  # settle
        steps, start = 0, time.perf_counter()
        while steps == 0 or time.perf_counter() - start < float(seconds):
            run(rows)
            steps += rows
        spent = time.perf_counter() - start
        answer = {
            "images_per_second": steps * config.batch_size / spent,
            "peak_bytes_after_import": peak_bytes() - after_import,
        }
        print(json.dumps(answer), flush=True)


def wait_until_ready(processes: dict) -> None:
    """Wait until each side has compiled; remove those that take too long from `processes`."""
    began = time.monotonic()
    for side, process in list(processes.items()):
        left = _READY.value and max(0, began + _READY.value - time.monotonic())
        if select.select([process.stdout], [], [], left)[0]:
            if not process.stdout.readline():  # "ready"
                raise SystemExit(f"{side} has ended, for the reason above")
        else:
            print(f"{side}: not ready within {_READY.value:g} seconds", file=sys.stderr, flush=True)
            processes.pop(side).kill()
    if not processes:
        raise SystemExit("no side was ready in time")


def measure() -> dict:
    """Run all the sides in turn, and return the images a second of each, round by round."""
    sides, works = _SIDES.value or SIDES, _WORKS.value
    if not _SIDES.value and not shutil.which("nvidia-smi"):
        sides = [
            side for side in SIDES if side not in ("torch reduce-overhead", "torch max-autotune")
        ]
    figures, peaks = {}, {}
    for work in works:
        processes = {
            side: subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.throughput",
                    *sys.argv[1:],
                    f"--side={side}",
                    f"--work={work}",
                    "--verbosity=-1",  # without JAX's line that there is no TPU
                ],
                env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for side in sides
        }
        wait_until_ready(processes)
        figures[work] = {side: [] for side in processes}
        for _ in range(_PAIRS.value):
            for side, process in processes.items():
                process.stdin.write(f"{_SECONDS.value}\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline())
                figures[work][side].append(answer["images_per_second"])
                peaks[work, side] = answer["peak_bytes_after_import"]
            newest = (f"{side} {rates[-1]:,.0f}" for side, rates in figures[work].items())
            print(f"{work}, images/s: {', '.join(newest)}", file=sys.stderr, flush=True)
        for process in processes.values():
            process.stdin.close()
            process.wait()
    return {
        "images_per_second": figures,
        "peak_bytes_after_import": {
            work: {side: peaks[work, side] for side in figures[work]} for work in works
        },
    }


def main(argv):
    del argv
    config = _CONFIG.value
    if _SIDE.value:
        serve(config, _SIDE.value, _WORK.value)
        return
    described = {"model": config.model.name, "batch_size": config.batch_size} | machine.describe()
    machine.require_torch()
    result = measure() | described
    for work, sides in result["images_per_second"].items():
        torch = [sides[side] for side in TORCH_MODES if side in sides]
        best = max(torch, key=statistics.median, default=None)
        print(
            f"{work}: median images/s, median of the ratios to the fastest PyTorch, peak resident "
            "memory less that after import in MB"
        )
        for side, rates in sides.items():
            pairs = zip(rates, best, strict=True) if best else [(math.nan, 1)]
            ratio = statistics.median(a / b for a, b in pairs)
            peak = result["peak_bytes_after_import"][work][side] / 1e6
            print(f"  {side:16} {statistics.median(rates):12,.0f} {ratio:6.2f} {peak:8,.0f}")
    print(
        f"{config.model.name}, batch {config.batch_size}; {result['machine']}; {result['versions']}"
    )
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

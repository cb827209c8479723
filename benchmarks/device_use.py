"""Says how much of the device a config's training uses.

python -m benchmarks.device_use --config=configs/fast.py [--seconds=10] [--out=FILE.json]

Prints the rate of the training step in dispatches as long as the device takes, the rate that the program
reaches on the same images with its logging, the share of the time that the device waits for the program
(one minus their ratio), and the share of the device's matrix rate, which is measured too, with the
largest product of square matrices in the precision of the run.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.prepare import prepare
from jaxcifar import experiment as experiments
from jaxcifar import overview
from jaxcifar.loop import epoch_order
from jaxcifar.parallel import OverRows
from jaxcifar.steps import on_rows

_CONFIG = config_flags.DEFINE_config_file("config", "configs/fast.py", lock_config=True)
_SECONDS = flags.DEFINE_float("seconds", 10, "about how long a measurement takes", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


def repeated(run, seconds: float) -> float:
    """Return the median seconds of `run`, repeated for `seconds`."""
    run()
    times, began = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_flops(dtype, seconds: float) -> float:
    """Return the FLOP/s of a product of square matrices, the best of several sizes."""
    rates = []
    sizes = (1024, 2048) if jax.default_backend() == "cpu" else (4096, 8192, 16384)
    for size in sizes:
        matrix = jnp.ones((size, size), dtype)
        product = jax.jit(jnp.matmul)
        spent = repeated(lambda: product(matrix, matrix).block_until_ready(), seconds / len(sizes))
        rates.append(2 * size**3 / spent)
    return max(rates)


def device_rate(config, seconds: float):
    """Return images a second in long dispatches, and an image's FLOPs forward."""
    layout = experiments.start_layout(config)
    dataset, experiment, state = prepare(config, layout)
    flops = overview.forward_flops(experiment, state)
    run = OverRows(on_rows(experiment.train_step), layout, updates_state=True)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    rows = min(len(order), layout.rows_per_dispatch)
    data, order, key = layout.place(((dataset.images, dataset.labels), order, jax.random.key(1)))

    def dispatch():
        nonlocal state
        state, counts = run(state, data, order, 0, rows, key)
        jax.block_until_ready(counts)

    return rows * config.batch_size / repeated(dispatch, seconds), flops, experiment.model.dtype


def program_rate(arguments: list[str]) -> float:
    """Return the median images a second that a run of three epochs writes down, but for its first."""
    with tempfile.TemporaryDirectory() as workdir:
        flags = [*arguments, "--config.num_epochs=3", f"--workdir={workdir}"]
        subprocess.run(
            [sys.executable, "-m", "jaxcifar.main", *flags], check=True, capture_output=True
        )
        lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    # An epoch's first record also holds the evaluation before it.
    records = [json.loads(line) for line in lines]
    within = [b for a, b in zip(records, records[1:]) if "test/accuracy" not in a]
    return float(np.median([record["images_per_second"] for record in within]))


def main(argv):
    del argv
    seconds = _SECONDS.value
    rate, flops, dtype = device_rate(_CONFIG.value, seconds)
    peak = matrix_flops(dtype, seconds)
    arguments = [item for item in sys.argv[1:] if item.startswith("--config")]
    arguments = arguments or ["--config=configs/fast.py"]
    reached = program_rate(arguments)
    result = {
        "images_per_second_in_long_dispatches": rate,
        "images_per_second_of_the_program": reached,
        "share_of_time_the_device_waits": 1 - reached / rate,
        "matrix_flop_per_second": peak,
        "share_of_matrix_rate": 3 * flops * rate / peak,
        "mflop_an_image_forward": flops / 1e6,
        "arguments": arguments,
    } | machine.describe()
    for name, value in result.items():
        print(f"{name}: {value:,.3f}" if isinstance(value, float) else f"{name}: {value}")
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

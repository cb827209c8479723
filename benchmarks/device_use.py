"""Says how much of the device a config's training uses.

python -m benchmarks.device_use --config=configs/fast.py [--seconds=10] [--out=FILE.json]

Prints the rate of the training step in dispatches as long as the device takes, the rate that the program
reaches on the same images with its logging, the share of the time within an epoch that the device waits
for the program (one minus their ratio), and the share of the device's matrix rate. That is measured too,
with the largest product of square matrices in the precision of the run.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments, repeated, training_rate
from jaxcifar.config.reader import read_config
from jaxcifar.experiment.setup import start_layout

_CONFIG = config_flags.DEFINE_config_file("config", "configs/fast.py", lock_config=True)
_SECONDS = flags.DEFINE_float("seconds", 10, "about how long a measurement takes", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


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


def program_rate(arguments: list[str]) -> float:
    """Return the median images a second that a run of three epochs writes down after the first."""
    with tempfile.TemporaryDirectory() as workdir:
        flags = [*arguments, "--config.num_epochs=3", f"--workdir={workdir}"]
        command = [sys.executable, "-m", "jaxcifar.main", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return statistics.median(r["images_per_second"] for r in records if r["epoch"] > 1)


def main(argv):
    del argv
    seconds = _SECONDS.value
    arguments = config_arguments()
    reached = program_rate(arguments)  # before JAX takes the memory of a GPU here
    layout = start_layout(read_config(_CONFIG.value))
    measured = training_rate(_CONFIG.value, layout, seconds)
    rate, flops = measured["images_per_second"], measured["flops"]
    peak = len(layout.devices) * matrix_flops(measured["precision"], seconds)
    result = {
        "images_per_second_in_long_dispatches": rate,
        "images_per_second_of_the_program": reached,
        "share_of_an_epoch_the_device_waits": 1 - reached / rate,
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

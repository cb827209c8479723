"""Says how much of the device a config's training uses.

python -m benchmarks.device_use --config=configs/fast.py [--seconds=10] [--out=FILE.json]

Runs the program twice to its end. In the second run the programs are in the caches; its time is taken from
the first dispatch sent to the last counts, evaluation and checkpoint. Then this process measures the training
step, in dispatches of the run's own length, sent one ahead, and an evaluation alone. The share of the time
that the device waits is 1 - (steps * step + evaluations * evaluation) / time. The benchmark also prints the
peak of the device's memory, where the platform tells it, and the share of the device's matrix rate, which is
the best that products of square matrices of several sizes reach in the precision of the run.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments, laps, repeated, training_rate
from jaxcifar.config.reader import read_config
from jaxcifar.devices.layout import Layout
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.experiment.setup import load_split, set_up, start_layout

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


def run_to_the_end(arguments: list[str]) -> dict[str, float]:
    """Run the program twice, and return the seconds of each part of the second run."""
    for _ in range(2):
        with tempfile.TemporaryDirectory() as workdir:
            command = [sys.executable, "-m", "jaxcifar.main", *arguments, f"--workdir={workdir}"]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return laps(done.stdout)


def evaluation_seconds(config, layout: Layout, seconds: float) -> float:
    """Return how long an evaluation of the test split takes, alone."""
    setup, dataset = set_up(read_config(config), layout)
    state = setup.new_state(dataset, jax.random.key(0))
    evaluator = Evaluator(setup, load_split(setup.config, "test_split"))
    return repeated(lambda: evaluator(state), seconds)


def main(argv):
    del argv
    arguments, seconds, config = config_arguments(), _SECONDS.value, _CONFIG.value
    parts = run_to_the_end(arguments)  # before JAX takes the memory of a GPU here
    spent = parts["first step"] + parts["training"]
    layout = start_layout(read_config(config))
    measured = training_rate(config, layout, seconds, rows=config.logging.every_steps)
    alone = evaluation_seconds(config, layout, seconds)
    rate, flops = measured["images_per_second"], measured["flops"]
    evaluations = -(-config.num_epochs // config.evaluation.every_epochs)
    steps = config.num_epochs * measured["steps_per_epoch"]
    busy = steps * config.batch_size / rate + evaluations * alone
    peak = len(layout.devices) * matrix_flops(measured["precision"], seconds)
    result = {
        "seconds_from_first_step_to_last": spent,
        "share_of_it_the_device_waits": 1 - busy / spent,
        "images_per_second_of_the_step_alone": rate,
        "seconds_of_an_evaluation_alone": alone,
        "peak_bytes_of_device_memory": (layout.devices[0].memory_stats() or {}).get(
            "peak_bytes_in_use"
        ),
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

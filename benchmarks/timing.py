"""Functions that several benchmarks of the program share."""

import re
import statistics
import time
from collections.abc import Callable

import jax
from absl import flags
from ml_collections import config_flags

from jaxcifar.config.reader import read_config
from jaxcifar.devices.layout import Layout
from jaxcifar.experiment.setup import set_up
from jaxcifar.step.batch import map_step
from jaxcifar.step.order import epoch_order
from jaxcifar.training import overview


def config_arguments() -> list[str]:
    """Return the flags that give another program this one's config."""
    flag = flags.FLAGS["config"]
    overrides = config_flags.get_override_values(flag)
    return [
        f"--config={config_flags.get_config_filename(flag)}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]


def laps(printed: str) -> dict[str, float]:
    """Return the seconds of each part of a run that the program has printed, from launch to its end."""
    lines = re.findall(r"^(?:first step|done) after .*?\((.*)\)$", printed, re.MULTILINE)
    parts = (part.rsplit(" ", 1) for line in lines for part in line.split(", "))
    found = {name: float(seconds) for name, seconds in parts}
    found.pop("until the first step", None)
    return found


def training_rate(config, layout: Layout, seconds: float, rows: int = 2**31 - 1) -> dict:
    """Time the training step for `seconds`, in dispatches of up to `rows` steps.

    Each dispatch is sent before the previous one is waited for, as in the program.

    Returns:
      images a second, the steps of an epoch, an image's FLOPs forward, the bytes that XLA plans for the
      program, and the precision of the computation.
    """
    setup, dataset = set_up(read_config(config), layout)
    state = setup.new_state(dataset, jax.random.key(0))
    run = map_step(setup.experiment.train_step, layout, updates_state=True)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    rows = min(len(order), layout.rows_per_dispatch, rows)
    flops = overview.forward_flops(setup, state)
    data, order, key = layout.put(((dataset.images, dataset.labels), order, jax.random.key(1)))
    planned = run.lower(rows, state, data, order, key)().memory_analysis()
    before = None

    def dispatch():
        nonlocal state, before
        state, counts = run(state, data, order, 0, rows, key)
        jax.block_until_ready(before)
        before = counts

    return {
        "images_per_second": rows * config.batch_size / repeated(dispatch, seconds),
        "steps_per_epoch": setup.experiment.steps_per_epoch,
        "flops": flops,
        "precision": jax.numpy.dtype(setup.experiment.compute.dtype).name,
        "planned_bytes": planned.temp_size_in_bytes + planned.argument_size_in_bytes,
    }


def repeated(run: Callable[[], None], seconds: float) -> float:
    """Return the median seconds of `run`, repeated for `seconds` after two runs that do not count."""
    run(), run()
    times, began = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)

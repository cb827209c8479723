"""What several benchmarks of the program begin with."""

import statistics
import sys
import time
from collections.abc import Callable

import jax

from jaxcifar import experiment as experiments
from jaxcifar import overview
from jaxcifar.datasets import Dataset
from jaxcifar.experiment import Experiment
from jaxcifar.loop import epoch_order
from jaxcifar.parallel import Layout, OverRows
from jaxcifar.state import TrainState
from jaxcifar.steps import on_rows


def config_arguments(default: str) -> list[str]:
    """Return the flags of this process that are the config's, with `--config=default` if need be."""
    flags = []
    given = sys.argv[1:]
    for item, following in zip(given, [*given[1:], "--"]):
        if item.startswith("--config"):
            value_apart = "=" not in item and not following.startswith("-")
            flags += [item, following] if value_apart else [item]
    whole = any(item.split("=")[0] == "--config" for item in flags)
    return flags if whole else [f"--config={default}", *flags]


def prepare(
    config, layout: Layout, *, training: bool = True
) -> tuple[Dataset, Experiment, TrainState]:
    """Return the training split, the experiment on it, and the state in which that begins.

    If not `training`, without what only the optimiser needs, as in an evaluation.
    """
    dataset = experiments.load_split(config, "train_split")
    experiment = experiments.build(config, experiments.facts_of(config, dataset), layout)

    def init_state(key, images):
        state = experiment.init_state(key, images)
        return state if training else state.replace(opt_state=None)

    state = layout.run_once(init_state, jax.random.key(0), dataset.images[:1000])
    return dataset, experiment, state


def training_rate(config, layout: Layout, seconds: float) -> dict:
    """Time the training step for `seconds`, in dispatches as long as the devices take.

    Returns:
      images a second, an image's FLOPs forward, the bytes that XLA plans for the program, and the
      precision of the computation.
    """
    dataset, experiment, state = prepare(config, layout)
    run = OverRows(on_rows(experiment.train_step), layout, updates_state=True)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    rows = min(len(order), layout.rows_per_dispatch)
    flops = overview.forward_flops(experiment, state)
    data, order, key = layout.place(((dataset.images, dataset.labels), order, jax.random.key(1)))
    planned = run.compile(state, data, order, key).memory_analysis()

    def dispatch():
        nonlocal state
        state, counts = run(state, data, order, 0, rows, key)
        jax.block_until_ready(counts)

    return {
        "images_per_second": rows * config.batch_size / repeated(dispatch, seconds),
        "flops": flops,
        "precision": jax.numpy.dtype(experiment.model.dtype).name,
        "planned_bytes": planned.temp_size_in_bytes + planned.argument_size_in_bytes,
    }


def repeated(run: Callable[[], None], seconds: float) -> float:
    """Return the median seconds of `run`, repeated for `seconds` after two that do not count."""
    run(), run()
    times, began = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)

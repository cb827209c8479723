"""What the benchmarks of a training step begin with."""

import jax

from jaxcifar import experiment as experiments
from jaxcifar.datasets import Dataset
from jaxcifar.experiment import Experiment
from jaxcifar.parallel import Layout
from jaxcifar.state import TrainState


def prepare(config, layout: Layout) -> tuple[Dataset, Experiment, TrainState]:
    """Return the training split, the experiment on it, and the state in which that begins."""
    dataset = experiments.load_split(config, "train_split")
    experiment = experiments.build(config, experiments.facts_of(config, dataset), layout)
    state = layout.run_once(experiment.init_state, jax.random.key(0), dataset.images[:1000])
    return dataset, experiment, state

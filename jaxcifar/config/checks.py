"""Checks a config against the devices and the data, beyond what its components check themselves."""

import itertools
from collections.abc import Mapping, Sequence

from jaxcifar.config.schema import Config
from jaxcifar.data.datasets import Part
from jaxcifar.data.facts import DataFacts
from jaxcifar.errors import UserError

_MOST_STEPS = 100_000_000


def count_shared(some: Sequence[Part], others: Sequence[Part]) -> int:
    """Return how many examples are in parts of both."""
    return sum(
        max(0, min(a_stop, b_stop) - max(a_start, b_start))
        for a_split, a_start, a_stop in some
        for b_split, b_start, b_stop in others
        if a_split == b_split
    )


def check_disjoint(config: Config, parts: Mapping[str, Sequence[Part]]) -> None:
    """Check that no example is in two of the splits that a run uses.

    Args:
      config: of the run.
      parts: for each field of `config.data` that names a split, what of the dataset it takes.

    Raises:
      UserError: two of them share examples.
    """
    for one, other in itertools.combinations(parts, 2):
        if shared := count_shared(parts[one], parts[other]):
            raise UserError(
                f"--config.data.{other}={getattr(config.data, other)} holds {shared} examples that are "
                f"in --config.data.{one}={getattr(config.data, one)} too: name splits that share none"
            )


def check_devices(config: Config, devices: int) -> None:
    """Check the config against the number of devices that are to train.

    Raises:
      UserError: they cannot share a batch evenly.
    """
    batch_size = config.batch_size
    if batch_size % devices:
        near = max(batch_size // devices, 1) * devices
        raise UserError(
            f"--config.batch_size={batch_size} cannot be shared evenly by {devices} devices: it "
            f"must be a multiple of {devices}, e.g. --config.batch_size={near}"
        )


def check_data(config: Config, facts: DataFacts) -> None:
    """Check the config against the facts of the training split.

    Raises:
      UserError: for the first thing that does not fit.
    """
    batch_size, train_examples = config.batch_size, facts.train_examples
    if batch_size > train_examples:
        raise UserError(
            f"--config.batch_size={batch_size} is more than the {train_examples} examples "
            "of the training split: at most that many"
        )
    steps = config.num_epochs * (train_examples // batch_size)
    if steps > _MOST_STEPS:
        raise UserError(
            f"--config.num_epochs={config.num_epochs} at --config.batch_size={batch_size} makes "
            f"{steps:,} steps of {train_examples:,} examples: at most {_MOST_STEPS:,}"
        )
    for component in config.components:
        component.check_data(facts)

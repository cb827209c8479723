"""The state of a training run: arrays only."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
    """Hold all that a step changes; every leaf is an array.

    The model and the optimiser are not in here: they are functions, and belong to the program.
    """

    step: jax.Array
    """[] int32, optimiser steps taken."""
    params: Any
    """What the optimiser trains, float32 (float64 in a float64 run)."""
    batch_stats: Any
    """Other variables of the model, such as BatchNorm's running mean and variance; may be empty."""
    opt_state: Any
    """The state of the Optax transformation; None where nothing is trained."""

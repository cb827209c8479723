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
    """What else the model keeps, such as BatchNorm's running mean and variance; empty if nothing."""
    opt_state: Any
    """Whatever the Optax transformation keeps; None where nothing is trained."""

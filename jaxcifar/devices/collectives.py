"""The collective operations of a mapped step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

AXIS = "devices"
"""The name of the mapped axis, for modules that synchronise in their forward pass (BatchNorm)."""


def mean_over_devices(tree: Any) -> Any:
    """Average every leaf over the devices; for use inside a mapped step."""
    return lax.pmean(tree, AXIS)


def device_index() -> jax.Array:
    """Return the position of the device that runs this step: [] int32."""
    return lax.axis_index(AXIS)


def whole_row(values: jax.Array, places: jax.Array) -> jax.Array:
    """Return the values of a whole row: this device's share at its places, zeros elsewhere.

    Every mapped step ends with a sum over the devices, which fills the row.

    Args:
      values: [share, ...], of the examples that this device holds.
      places: [share] int32, their columns in the row.
    """
    shape = (len(values) * lax.axis_size(AXIS), *values.shape[1:])
    return jnp.zeros(shape, values.dtype).at[places].set(values)

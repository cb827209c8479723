"""How a model computes: what all its layers have in common."""

import dataclasses
from typing import Any

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Compute:
    """Say in which type a model computes, over which devices, and by which library."""

    dtype: Any = jnp.float32
    """Of the activations; parameters, statistics and logits are in `wide`."""
    axis_name: str | None = None
    """The mapped axis over which BatchNorm takes its moments, or None for this device alone."""
    convolutions: str = "xla"
    """The library that convolves on a CPU: `onednn` or `xla`, as chosen by `convolution.library`."""

    @property
    def wide(self) -> Any:
        """The type of parameters, statistics and logits: at least float32."""
        return jnp.promote_types(self.dtype, jnp.float32)

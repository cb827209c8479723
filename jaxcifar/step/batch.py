"""A batch, and the signature of the steps that take it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
from jax.typing import ArrayLike

from jaxcifar.devices import platform
from jaxcifar.devices.kept_programs import KeptPrograms
from jaxcifar.devices.layout import Layout
from jaxcifar.devices.mapping import OverRows
from jaxcifar.step.state import TrainState


@flax.struct.dataclass
class Batch:
    """Hold the examples of one step as the dataset stores them."""

    images: jax.Array
    """[batch, height, width, channel] uint8."""
    labels: jax.Array
    """[batch] int32."""
    index: jax.Array
    """[batch] int32, which example of the split each is; negative for padding."""
    places: jax.Array
    """[batch] int32, the position of each in the global batch, on which random draws depend."""


Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Any]]
"""`(state, batch, key) -> (state, sums)`; the sums are of this device's examples alone."""


def map_step(
    step: Step,
    layout: Layout,
    *,
    updates_state: bool,
    streamed: bool = False,
    sums: Any = None,
    kept: KeptPrograms | None = None,
) -> OverRows:
    """Map `step` over the devices and the rows of an order; its data are `(images, labels)`.

    Args:
      step: to be mapped.
      layout: the devices.
      updates_state: whether the state that `step` returns is wanted.
      streamed: whether a dispatch is given the data of its rows alone, see `OverRows`.
      sums: a tree with the structure of the sums of `step`; needed where programs are kept.
      kept: stores its programs from one start to the next; None to store none.
    """

    def step_on_row(state, data, index, places, key):
        images, labels = data if streamed else (array[index] for array in data)
        return step(state, Batch(images, labels, index, places), key)

    return OverRows(
        step_on_row, layout, updates_state=updates_state, streamed=streamed, sums=sums, kept=kept
    )


def with_full_products(function: Callable) -> Callable:
    """Return `function` with its products of float32 arrays in float32.

    By default a GPU rounds their factors to TF32 and a TPU to bfloat16; a CPU does not.
    """

    def full(*args):
        with jax.default_matmul_precision(None if platform.current() == "cpu" else "float32"):
            return function(*args)

    return full


def normalise(images: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """Shift and scale `images: [batch, height, width, channel]` in [0, 1], channel by channel."""
    return (images - mean) / std

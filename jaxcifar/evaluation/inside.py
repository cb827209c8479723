"""What a network looks for and where it looks: filters, feature maps and Grad-CAM, for the report."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcifar.data.facts import DataFacts
from jaxcifar.errors import first_line
from jaxcifar.experiment.setup import Setup
from jaxcifar.host.progress import warn
from jaxcifar.step.batch import normalise, with_full_products
from jaxcifar.step.state import TrainState

_MOST_FILTERS = 64
_MOST_MAPS = 16
_FINE_ENOUGH = 4
"""Height and width of a feature map; the Grad-CAM of a smaller one says little."""


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Describe the output of a layer that keeps height and width as axes."""

    path: tuple[str, ...]
    """The layer's path in the network."""
    shape: tuple[int, ...]
    """[n, height, width, channel]."""


class _Layers:
    """Collect the outputs of a network's layers, in the order of computation."""

    def __init__(self, shift: jax.Array | None = None, at: int = -1):
        """Add `shift` to the output of layer number `at`."""
        self.seen: list[_Seen] = []
        self.arrays: list[jax.Array] = []
        self._shift, self._at = shift, at

    def __call__(self, layer: Any, args: tuple, kwargs: Mapping, context: Any) -> Any:
        answer = layer(*args, **kwargs)
        if context.method_name != "__call__" or getattr(answer, "ndim", 0) != 4:
            return answer
        if self._shift is not None and len(self.seen) == self._at:
            answer = answer + self._shift.astype(answer.dtype)
        self.seen.append(_Seen(context.module.path, answer.shape))
        self.arrays.append(answer)
        return answer


def look(
    module: nn.Module, variables: Mapping[str, Any], facts: DataFacts, images: np.ndarray
) -> dict[str, np.ndarray]:
    """Return a network's filters, feature maps and Grad-CAM; empty if no layer keeps height and width.

    Args:
      module: the network, which computes on one device.
      variables: of the network.
      facts: of its training data.
      images: [n, height, width, channel] uint8.

    Returns:
      `maps: [map, height, width] float32`, the first layer's output for the first image, at most 16;
      `filters: [height, width, channel, filter] float32` of this layer, at most 64, if its input is the image
      itself; and, if more layers keep height and width, `attention: [n, height, width] float32` from 0 to 1:
      where the last layer of at least 4 × 4 pixels spoke for the predicted class (Grad-CAM, Selvaraju et al.
      2017).
    """
    mean, std = np.asarray(facts.mean, np.float32), np.asarray(facts.std, np.float32)

    def forward(variables, images, layers) -> Any:
        with nn.intercept_methods(layers):
            return module.apply(
                variables, normalise(images / jnp.float32(255), mean, std), train=False
            )

    layers = _Layers()
    jax.eval_shape(lambda variables, images: forward(variables, images, layers), variables, images)
    spread = [i for i, seen in enumerate(layers.seen) if min(seen.shape[1:3]) > 1]
    if not spread:
        return {}
    fine = [i for i in spread if min(layers.seen[i].shape[1:3]) >= _FINE_ENOUGH]
    first, last = spread[0], (fine or spread)[-1]

    def looked(variables, images):
        def named(shift):
            taken = _Layers(shift, last)
            logits = forward(variables, images, taken)
            return logits.max(1).sum().astype(jnp.float32), taken.arrays

        shift = jnp.zeros(layers.seen[last].shape, jnp.float32)
        if last == first:
            _, arrays = named(shift)
            return arrays[first][0], None
        slopes, arrays = jax.grad(named, has_aux=True)(shift)
        weights = slopes.mean((1, 2), keepdims=True)
        attention = jnp.maximum((weights * arrays[last].astype(jnp.float32)).sum(-1), 0)
        most = attention.max((1, 2), keepdims=True)
        return arrays[first][0], attention / jnp.where(most > 0, most, 1)

    maps, attention = jax.device_get(jax.jit(with_full_products(looked))(variables, images))
    found = {"maps": np.moveaxis(np.asarray(maps, np.float32), -1, 0)[:_MOST_MAPS]}
    kernel = variables["params"]
    for name in layers.seen[first].path:
        kernel = kernel.get(name, {})
    if "kernel" in kernel and kernel["kernel"].shape[-2] in (1, 3):
        found["filters"] = np.asarray(kernel["kernel"], np.float32)[..., :_MOST_FILTERS]
    return found if attention is None else found | {"attention": attention}


def looker(setup: Setup, state: TrainState) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function that runs `look` with a run's network; on failure it warns and returns {}."""

    def look_at(images: np.ndarray) -> dict[str, np.ndarray]:
        try:
            variables = {"params": state.params, "batch_stats": state.batch_stats}
            return look(
                setup.experiment.model, jax.device_get(variables), setup.experiment.facts, images
            )
        except Exception as error:  # of XLA, and of networks of the user's own
            warn(
                "the report shows nothing of the network's inside "
                f"({type(error).__name__}: {first_line(error)})"
            )
            return {}

    return look_at

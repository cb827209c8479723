"""The step that answers: forward pass, probabilities, counts."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import numpy as np
import optax
from jax.typing import DTypeLike

from jaxcifar.augment.test_time import Views
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices import collectives
from jaxcifar.step.batch import Step, normalise
from jaxcifar.step.counts import Counts


@flax.struct.dataclass
class Answers:
    """Hold what a model answers on a row of examples, and how good that is."""

    counts: Counts
    probabilities: jax.Array | np.ndarray
    """[row, class] float; of a device's share, zeros but for its own examples."""

    @classmethod
    def empty(cls) -> "Answers":
        """Return the answers on no example."""
        return cls(Counts.empty(), np.zeros((0, 0), np.float32))


def make_evaluation_step(model: nn.Module, views: Views, facts: DataFacts, wide: DTypeLike) -> Step:
    """Return the step that answers: no dropout, the state as it was; every image in its `views`.

    What it sums are `Answers`. Images and logits are of the type `wide`.
    """
    mean, std = np.asarray(facts.mean, wide), np.asarray(facts.std, wide)

    forward: Any = functools.partial(model.apply, train=False)

    def evaluation_step(state, batch, key):
        del key
        images = normalise(batch.images.astype(wide) / 255, mean, std)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits = sum(weight * forward(variables, view) for weight, view in views(images))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        # Counted are the probabilities, for what is written of them must agree with the counts.
        probabilities = jax.nn.softmax(logits)
        counts = Counts.from_scores(probabilities, losses, batch.labels, batch.index >= 0)
        return state, Answers(counts, collectives.whole_row(probabilities, batch.places))

    return evaluation_step

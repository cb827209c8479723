"""The evaluation step: forward pass, probabilities, counts."""

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
    """Hold a model's answers on a row of examples, and their counts."""

    counts: Counts
    probabilities: jax.Array | np.ndarray
    """[row, class] float; on one of several devices, zeros except for its own examples."""

    @classmethod
    def empty(cls) -> "Answers":
        """Return the answers on no example."""
        return cls(Counts.empty(), np.zeros((0, 0), np.float32))


def make_evaluation_step(model: nn.Module, views: Views, facts: DataFacts, wide: DTypeLike) -> Step:
    """Return the evaluation step: no dropout, an unchanged state, every image in its `views`.

    Its sums are `Answers`. Images and logits have the type `wide`.
    """
    mean, std = np.asarray(facts.mean, wide), np.asarray(facts.std, wide)

    forward: Any = functools.partial(model.apply, train=False)

    def evaluation_step(state, batch, key):
        del key
        images = normalise(batch.images.astype(wide) / 255, mean, std)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits = sum(weight * forward(variables, view) for weight, view in views(images))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        # Counts come from the probabilities, so that they agree with the predictions that are written.
        probabilities = jax.nn.softmax(logits)
        counts = Counts.from_scores(probabilities, losses, batch.labels, batch.index >= 0)
        return state, Answers(counts, collectives.whole_row(probabilities, batch.places))

    return evaluation_step

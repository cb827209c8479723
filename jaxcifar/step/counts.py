"""Counts over examples: sums are kept, and divided once at the end."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics


@flax.struct.dataclass
class Counts(metrics.Metric):
    """Sum loss and correct answers over examples.

    Two `Counts` of disjoint examples add up to the `Counts` of their union (`merge`), so batches,
    devices and dispatches may be summed in any grouping.
    """

    loss_sum: jax.Array
    """[] float32, cross-entropy in nats, summed over the examples seen."""
    correct: jax.Array
    """[] int32, examples whose largest score is the label's."""
    seen: jax.Array
    """[] int32, examples counted; padding is not."""

    @classmethod
    def empty(cls) -> "Counts":
        """Return the counts of no example."""
        zeros: Any = (np.float32(0), np.int32(0), np.int32(0))
        return cls(*zeros)

    @classmethod
    def from_scores(cls, scores: jax.Array, losses: jax.Array, labels: jax.Array, mask: jax.Array):
        """Count one batch.

        Args:
          scores: [batch, class] float, logits or probabilities; the largest is the prediction.
          losses: [batch] float, each example's loss.
          labels: [batch] int32.
          mask: [batch] bool, false for padding, which counts nowhere.
        """
        predictions = jnp.argmax(scores, axis=-1)
        seen = mask.astype(jnp.int32)
        return cls(
            loss_sum=jnp.sum(jnp.where(mask, losses, 0)).astype(jnp.float32),
            correct=jnp.sum(seen * (predictions == labels)),
            seen=jnp.sum(seen),
        )

    def of_rows(self, rows: slice) -> "Counts":
        """Return the sums over some rows; each count must be a NumPy array [rows]."""
        part = jax.tree.map(lambda leaf: leaf[rows], self)
        return Counts(part.loss_sum.sum(dtype=np.float64), part.correct.sum(), part.seen.sum())

    def merge(self, other: "Counts") -> "Counts":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the counts of both."""
        return jax.tree.map(lambda a, b: a + b, self, other)

    def compute(self) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return mean loss in nats and top-1 accuracy in [0, 1]; both are NaN if nothing was seen."""
        seen = int(self.seen) or float("nan")
        return {"loss": float(self.loss_sum) / seen, "accuracy": float(self.correct) / seen}

"""The training loss: cross-entropy, optionally with class weights or a focus on hard examples."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""`(logits, targets) -> losses`: both [batch, class] float, losses [batch]; an example's targets sum to 1."""


def balanced_weights(class_counts: Sequence[int]) -> np.ndarray:
    """Return weights that give classes the same total weight: [class], with a mean of 1 over the examples."""
    counts = np.asarray(class_counts, np.float64)
    return counts.sum() / (len(counts) * np.maximum(counts, 1))


def scaled_weights(weights: Sequence[float], class_counts: Sequence[int]) -> np.ndarray:
    """Return the weights scaled to a mean of 1 over the examples: [class]."""
    counts, given = np.asarray(class_counts, np.float64), np.asarray(weights, np.float64)
    return given * counts.sum() / (given * counts).sum()


def make_loss(
    weights: np.ndarray | None = None, focal_gamma: float = 0.0, label_smoothing: float = 0.0
) -> Loss:
    """Return the loss w Σ -t (1 - p)^γ log p of an example, summed over the classes, in nats.

    t are the smoothed targets, and p the probabilities of the classes. w is the weight of the example's
    class; for a mixed example, the mean of its classes' weights by their shares. PyTorch weighs the smoothed
    targets instead. This would train images of a common class towards a rare one: its share of their targets,
    times its weight, is the larger term.

    Args:
      weights: of the classes, [class]; None for 1.
      focal_gamma: γ of the focal loss (Lin et al. 2017, arXiv:1708.02002); 0 for the cross-entropy.
      label_smoothing: the share by which the targets were smoothed.
    """
    if weights is None and not focal_gamma:
        return optax.softmax_cross_entropy

    def loss(logits, targets):
        log_p = jax.nn.log_softmax(logits)
        terms = -targets * log_p
        if focal_gamma:
            # Where p rounds to 1, the power would have no gradient for γ below 1.
            terms *= jnp.maximum(-jnp.expm1(log_p), 1e-7) ** focal_gamma
        losses = terms.sum(-1)
        if weights is not None:
            shares = (targets - label_smoothing / len(weights)) / (1 - label_smoothing)
            losses *= shares @ jnp.asarray(weights, targets.dtype)
        return losses

    return loss

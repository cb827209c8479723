"""The training step: augment, forward pass, backward pass, update."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike

from jaxcifar.augment.augmentations import Augment, Examples
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices import collectives
from jaxcifar.step.batch import Step, normalise
from jaxcifar.step.counts import Counts
from jaxcifar.step.losses import Loss
from jaxcifar.step.state import TrainState


def make_train_step(  # noqa: PLR0913, all that a step is made of
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    loss: Loss,
    facts: DataFacts,
    wide: DTypeLike,
    label_smoothing: float,
    steps_per_epoch: int,
) -> Step:
    """Return the training step.

    It minimises `loss` of the logits and the (smoothed, perhaps mixed) targets, averaged over the global
    batch. The counts compare the logits with the true labels. Images, targets and logits have the type
    `wide`.
    """
    mean, std = np.asarray(facts.mean, wide), np.asarray(facts.std, wide)

    def train_step(state, batch, key):
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        targets = jax.nn.one_hot(batch.labels, len(facts.class_names), dtype=wide)
        targets = optax.smooth_labels(targets, label_smoothing)
        images, epoch = batch.images.astype(wide) / 255, state.step // steps_per_epoch
        examples = Examples(images, targets, batch.index, epoch)
        examples = augment(augment_key, batch.places, examples)
        images = normalise(examples.images, mean, std)

        def mean_loss(params):
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                rngs={"dropout": jax.random.fold_in(dropout_key, collectives.device_index())},
                mutable=["batch_stats"],
            )
            losses = loss(logits, examples.targets)
            return losses.mean(), (logits, losses, updated)

        grads, (logits, losses, updated) = jax.grad(mean_loss, has_aux=True)(state.params)
        grads = collectives.mean_over_devices(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        counts = Counts.from_scores(logits, losses, batch.labels, jnp.ones_like(batch.labels, bool))
        params = optax.apply_updates(state.params, updates)
        batch_stats = updated.get("batch_stats", state.batch_stats)
        return TrainState(state.step + 1, params, batch_stats, opt_state), counts

    return train_step

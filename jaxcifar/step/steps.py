"""The pure steps: one batch in, new state and counts out."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxcifar.augment.augmentations import Augment, Examples, Views
from jaxcifar.devices import parallel
from jaxcifar.step.counts import Counts
from jaxcifar.step.state import TrainState


@flax.struct.dataclass
class Batch:
    """Hold the rows of one step as they lie in the dataset."""

    images: jax.Array
    """[batch, height, width, channel] uint8."""
    labels: jax.Array
    """[batch] int32."""
    indices: jax.Array
    """[batch] int32, places in the dataset; negative for padding."""
    places: jax.Array
    """[batch] int32, places in the global batch, which the random draws depend on."""


Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Any]]
"""`(state, batch, key) -> (state, sums)`; the sums are of this device's examples alone."""


@flax.struct.dataclass
class Answers:
    """Hold what a model answers on a row of examples, and how good that is."""

    counts: Counts
    probabilities: jax.Array
    """[row, class] float; of a device's share, zeros but for its own examples."""


def on_rows(step: Step) -> Callable:
    """Return `step` as `parallel.OverRows` wants it: on rows of `(images, labels)`, by index."""

    def step_on_rows(state, data, indices, places, key):
        images, labels = data
        batch = Batch(images[indices], labels[indices], indices, places)
        return step(state, batch, key)

    return step_on_rows


def with_full_products(step: Step) -> Step:
    """Return `step` with products of float32 arrays in float32.

    By default a GPU rounds their factors to TF32 and a TPU to bfloat16.
    """

    def full_step(*args):
        with jax.default_matmul_precision("float32"):
            return step(*args)

    return full_step


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Shift and scale `images: [batch, height, width, channel]` in [0, 1], channel by channel."""
    return (images - mean) / std


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    classes: int,
    mean: jax.Array,
    std: jax.Array,
    label_smoothing: float,
    steps_per_epoch: int,
    dtype: Any,
) -> Step:
    """Return the step that trains.

    The loss is the cross-entropy in nats between the logits and the (smoothed, perhaps mixed)
    targets, averaged over the global batch. The counts compare the logits with the true labels.
    """

    def train_step(state, batch, key):
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        targets = jax.nn.one_hot(batch.labels, classes, dtype=dtype)
        examples = augment(
            augment_key,
            batch.places,
            Examples(
                images=batch.images.astype(dtype) / 255,
                targets=optax.smooth_labels(targets, label_smoothing),
                index=batch.indices,
                epoch=state.step // steps_per_epoch,
            ),
        )
        images = normalise(examples.images, mean, std)

        def mean_loss(params):
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                rngs={"dropout": jax.random.fold_in(dropout_key, parallel.device_index())},
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy(logits, examples.targets)
            return losses.mean(), (logits, losses, updated)

        grads, (logits, losses, updated) = jax.grad(mean_loss, has_aux=True)(state.params)
        grads = parallel.mean_over_devices(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        counts = Counts.from_scores(logits, losses, batch.labels, jnp.ones_like(batch.labels, bool))
        return (
            TrainState(
                step=state.step + 1,
                params=optax.apply_updates(state.params, updates),
                batch_stats=updated.get("batch_stats", state.batch_stats),
                opt_state=opt_state,
            ),
            counts,
        )

    return train_step


def make_evaluation_step(
    model: nn.Module, views: Views, *, mean: jax.Array, std: jax.Array, dtype: Any
) -> Step:
    """Return the step that answers: no dropout, the state as it was; every image in its `views`.

    What it sums are `Answers`.
    """

    def evaluation_step(state, batch, key):
        del key
        images = normalise(batch.images.astype(dtype) / 255, mean, std)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits = sum(
            weight * model.apply(variables, view, train=False) for weight, view in views(images)
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        # Counted are the probabilities, for what is written of them must agree with the counts.
        probabilities = jax.nn.softmax(logits)
        counts = Counts.from_scores(probabilities, losses, batch.labels, batch.indices >= 0)
        return state, Answers(counts, parallel.whole_row(probabilities, batch.places))

    return evaluation_step

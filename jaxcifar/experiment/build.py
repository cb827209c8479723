"""Turns a config into the frozen bundle of functions and values that a run computes with."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcifar.augment.augmentations import Augment, chain
from jaxcifar.augment.test_time import plain
from jaxcifar.config import checks
from jaxcifar.config.schema import Config
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices import platform
from jaxcifar.devices.collectives import AXIS
from jaxcifar.devices.cpu_facts import bfloat16_is_quicker
from jaxcifar.errors import UserError
from jaxcifar.experiment import own_components
from jaxcifar.models import convolution
from jaxcifar.models.compute import Compute
from jaxcifar.optim.optimizers import with_penalty_and_clipping
from jaxcifar.optim.schedules import epochs_to_steps, exact, with_warmup
from jaxcifar.step.batch import Step, normalise, with_full_products
from jaxcifar.step.evaluation_step import make_evaluation_step
from jaxcifar.step.losses import balanced_weights, make_loss, scaled_weights
from jaxcifar.step.state import TrainState
from jaxcifar.step.train_step import make_train_step


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Hold all that a run computes with, as values and functions."""

    facts: DataFacts
    compute: Compute
    model: nn.Module
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    augment: Augment
    steps_per_epoch: int
    num_epochs: int
    train_step: Step
    evaluation_step: Step
    augmented_evaluation_step: Step
    """The same under the config's test-time augmentation."""

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.num_epochs * self.steps_per_epoch

    def init_state(self, key: jax.Array, images: jax.Array) -> TrainState:
        """Draw the parameters of a run that has not begun.

        Args:
          key: what they are drawn from.
          images: [n, height, width, channel] uint8, for models that take something from the data.
        """
        mean, std = jnp.asarray(self.facts.mean), jnp.asarray(self.facts.std)
        images = normalise(images / 255, mean, std)
        variables = self.model.init(key, images[:1], train=False)
        if hasattr(self.model, "initialise_from"):
            variables = with_full_products(self.model.initialise_from)(variables, images)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        return TrainState(jnp.int32(0), params, batch_stats, self.optimizer.init(params))


def computation_dtype(precision: str, convolutions: str) -> np.dtype:
    """Return the type in which models compute on this platform.

    Args:
      precision: as `config.precision`.
      convolutions: as `convolution.library` takes it.

    Raises:
      UserError: the requested library is unavailable.
    """
    if precision == "auto":
        quick = platform.current() != "cpu" or (
            bfloat16_is_quicker() and convolution.library(convolutions, jnp.bfloat16) == "onednn"
        )
        precision = "bfloat16" if quick else "float32"
    return jnp.dtype(precision)


def build(config: Config, facts: DataFacts) -> Experiment:
    """Build the experiment that `config` describes, for data with these facts.

    Raises:
      UserError: the config and the data do not go together, or this machine cannot compute as configured.
    """
    checks.check_data(config, facts)
    dtype = computation_dtype(config.precision, config.convolutions)
    compute = Compute(dtype, AXIS, convolution.library(config.convolutions, dtype))
    model = config.model.component(classes=len(facts.class_names), compute=compute)
    own_components.check_network(config.model.component, model, facts, compute)
    for augmentation in config.augmentation.values():
        own_components.check_augmentation(augmentation, facts, compute)
    own_components.check_views(config.evaluation.component, facts, compute)
    steps_per_epoch = facts.train_examples // config.batch_size
    schedule = _schedule(config, steps_per_epoch)
    optimizer = config.optimizer.component(schedule)
    own_components.check_optimizer(config.optimizer.component, optimizer, model, facts, compute)
    optimizer = with_penalty_and_clipping(
        optimizer,
        l2_penalty=config.optimizer.l2_penalty,
        clip_norm=config.optimizer.clip_norm,
    )
    augment = chain(config.augmentation)
    train_step = make_train_step(
        model,
        optimizer,
        augment,
        loss=make_loss(
            class_weights(config, facts), config.loss.focal_gamma, config.label_smoothing
        ),
        facts=facts,
        wide=compute.wide,
        label_smoothing=config.label_smoothing,
        steps_per_epoch=steps_per_epoch,
    )
    views = (plain, config.evaluation.component)
    steps = [
        train_step,
        *(make_evaluation_step(model, seen, facts, compute.wide) for seen in views),
    ]
    if dtype != jnp.bfloat16:
        steps = map(with_full_products, steps)
    functions = (optimizer, schedule, augment)
    lengths = (steps_per_epoch, config.num_epochs)
    return Experiment(facts, compute, model, *functions, *lengths, *steps)


def class_weights(config: Config, facts: DataFacts) -> np.ndarray | None:
    """Return the weights of the classes in the loss, [class], None if all are 1.

    Raises:
      UserError: there are not as many as classes.
    """
    given, classes = config.loss.class_weights, len(facts.class_names)
    if given == "none":
        return None
    if given == "balanced":
        return balanced_weights(facts.class_counts)
    if len(given) != classes:
        raise UserError(
            f"--config.loss.class_weights={','.join(map(str, given))}: {len(given)} weights for {classes} "
            f"classes: give one for each, in the order {', '.join(facts.class_names[:5])}"
            f"{' …' if classes > 5 else ''}"
        )
    return scaled_weights([float(weight) for weight in given], facts.class_counts)


def _schedule(config: Config, steps_per_epoch: int) -> optax.Schedule:
    warmup = epochs_to_steps(config.schedule.warmup_epochs, steps_per_epoch)
    peak = config.optimizer.learning_rate
    total = epochs_to_steps(config.num_epochs, steps_per_epoch)
    after = config.schedule.component(peak, total - warmup)
    own_components.check_schedule(config.schedule.component, after)
    return exact(with_warmup(after, peak, warmup))

"""Turns a config into the frozen bundle of functions and values that a run is made of."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxcifar.augment import augmentations as augment
from jaxcifar.config import checks
from jaxcifar.cpu import onednn
from jaxcifar.data import datasets
from jaxcifar.devices import parallel, platform, runtime
from jaxcifar.devices.machine import bfloat16_is_quicker
from jaxcifar.devices.parallel import Layout
from jaxcifar.errors import UserError
from jaxcifar.models import MODELS
from jaxcifar.models.layers import ACTIVATIONS
from jaxcifar.optim import optimizers as optim
from jaxcifar.step import steps
from jaxcifar.step.state import TrainState


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Hold what a model must know of the data it was trained on; kept in every checkpoint."""

    image_shape: tuple[int, int, int]
    """Height, width, channel."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """Of each channel of pixels in [0, 1]; subtracted."""
    std: tuple[float, ...]
    """Likewise; divided by."""
    train_examples: int

    @classmethod
    def from_json(cls, value: Mapping) -> "DataFacts":
        """Return what `dataclasses.asdict` and JSON made a dict of."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Hold all that a run computes with, as values and functions."""

    facts: DataFacts
    model: nn.Module
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    augment: augment.Augment
    steps_per_epoch: int
    num_epochs: int
    train_step: steps.Step
    evaluation_step: steps.Step
    augmented_evaluation_step: steps.Step
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
        images = steps.normalise(images / 255, mean, std)
        variables = self.model.init(key, images[:1], train=False)
        if hasattr(self.model, "initialise_from"):
            variables = self.model.initialise_from(variables, images)
        return TrainState(
            step=jnp.int32(0),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=self.optimizer.init(variables["params"]),
        )


def check(config: ConfigDict) -> None:
    """Check every field, before any work begins.

    Raises:
      UserError: for the first field that is wrong.
    """
    checks.check_config(
        config,
        {
            "precision": checks.PRECISIONS,
            "data.normalisation": checks.NORMALISATIONS,
            "model.name": tuple(MODELS),
            "model.cnn.activation": tuple(ACTIVATIONS),
            "optimizer.name": tuple(optim.OPTIMIZERS),
            "schedule.name": tuple(optim.SCHEDULES),
            "evaluation.test_time_augmentation": tuple(augment.TEST_TIME_AUGMENTATIONS),
        },
        built_in=tuple(datasets.DATASETS),
    )


def start_layout(config: ConfigDict) -> Layout:
    """Start JAX, and lay the run out over all the devices that there are.

    Raises:
      UserError: the config asks for a precision that JAX is not set up for.
    """
    devices = runtime.start()
    if config.precision == "float64" and not jax.config.jax_enable_x64:
        raise UserError(
            "--config.precision=float64 needs JAX's 64-bit mode: set JAX_ENABLE_X64=1 in the "
            "environment"
        )
    options = runtime.compiler_options(deterministic=config.deterministic)
    return Layout(devices, options)


def load_split(config: ConfigDict, field: str) -> datasets.Dataset:
    """Load the split that `config.data[field]` names.

    Raises:
      UserError: there is no such dataset or split, or it cannot be had here.
    """
    data = config.data
    options = _options(data) if data.name in datasets.DATASETS else {}
    try:
        return datasets.load(
            data.name,
            data[field],
            data_dir=data.data_dir,
            image_size=data.image_size,
            options=options,
        )
    except datasets.SplitError as error:
        raise UserError(f"--config.data.{field}={data[field]}: {error}") from error


def facts_of(config: ConfigDict, train: datasets.Dataset) -> DataFacts:
    """Measure the training split."""
    channels = train.images.shape[-1]
    match config.data.normalisation:
        case "statistics":
            mean, std = datasets.channel_statistics(train.images)
        case "symmetric":
            mean, std = [0.5] * channels, [0.5] * channels
        case "unit":
            mean, std = [0.0] * channels, [1.0] * channels
    return DataFacts(train.images.shape[1:], train.class_names, tuple(mean), tuple(std), len(train))


def computation_dtype(precision: str) -> np.dtype:
    """Return the type in which models compute under `config.precision` on this platform."""
    if precision == "auto":
        quick_on_cpu = bfloat16_is_quicker() and onednn.available(jnp.bfloat16)
        quick = platform.current() != "cpu" or quick_on_cpu
        precision = "bfloat16" if quick else "float32"
    return jnp.dtype(precision)


def build(config: ConfigDict, facts: DataFacts, layout: Layout) -> Experiment:
    """Build the experiment that `config` describes, for data with these facts.

    Raises:
      UserError: the config and the data do not go together.
    """
    checks.check_data(config, image_shape=facts.image_shape, train_examples=facts.train_examples)
    dtype = computation_dtype(config.precision)
    wide = jnp.promote_types(dtype, jnp.float32)
    classes = len(facts.class_names)
    model = MODELS[config.model.name](
        classes=classes, dtype=dtype, axis_name=parallel.AXIS, **_options(config.model)
    )
    steps_per_epoch = facts.train_examples // config.batch_size
    schedule = _schedule(config, steps_per_epoch)
    make_optimizer = optim.OPTIMIZERS[config.optimizer.name]
    optimizer = optim.with_penalty_and_clipping(
        make_optimizer(schedule, **_options(config.optimizer)),
        l2_penalty=config.optimizer.l2_penalty,
        clip_norm=config.optimizer.clip_norm,
    )
    mean, std = np.asarray(facts.mean, wide), np.asarray(facts.std, wide)
    evaluation_step = functools.partial(
        steps.make_evaluation_step, model, mean=mean, std=std, dtype=wide
    )
    augmentations = augment.chain(_augmentations(config.augmentation))
    computed_wide = dtype == wide and platform.current() != "cpu"
    finished = steps.with_full_products if computed_wide else lambda step: step
    return Experiment(
        facts=facts,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        augment=augmentations,
        steps_per_epoch=steps_per_epoch,
        num_epochs=config.num_epochs,
        train_step=finished(
            steps.make_train_step(
                model,
                optimizer,
                augmentations,
                classes=classes,
                mean=mean,
                std=std,
                label_smoothing=config.label_smoothing,
                steps_per_epoch=steps_per_epoch,
                dtype=wide,
            )
        ),
        evaluation_step=finished(evaluation_step(augment.plain)),
        augmented_evaluation_step=finished(
            evaluation_step(
                augment.TEST_TIME_AUGMENTATIONS[config.evaluation.test_time_augmentation]
            )
        ),
    )


def _options(section: ConfigDict) -> dict[str, Any]:
    """Return the options of the thing that the section names, under its name; it may have none."""
    return dict(section[section.name]) if section.name in section else {}


def _schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    warmup = optim.epochs_to_steps(config.schedule.warmup_epochs, steps_per_epoch)
    peak = config.optimizer.learning_rate
    total = optim.epochs_to_steps(config.num_epochs, steps_per_epoch)
    make = optim.SCHEDULES[config.schedule.name]
    return optim.with_warmup(make(peak, total - warmup, **_options(config.schedule)), peak, warmup)


def _augmentations(section: ConfigDict) -> dict[str, augment.Augmentation]:
    chosen = {}
    for name, function in augment.AUGMENTATIONS.items():
        # A run that was made before an augmentation was added does not name it.
        options = dict(section[name]) if name in section else {"enabled": False}
        if options.pop("enabled"):
            chosen[name] = functools.partial(function, **options)
    return chosen

"""A config that has been read: frozen, its values checked, and the components that it chooses."""

import dataclasses
import inspect
import operator
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np

from jaxcifar.data.facts import NORMALISATIONS, DataFacts
from jaxcifar.data.reading import Reading
from jaxcifar.options import (
    MAY_CHANGE,
    NOT_EMPTY,
    PATH,
    POSITIVE,
    SHARE_BELOW_ONE,
    Limit,
    Mark,
    at_least,
    between,
    one_of,
    options_of,
    run_check,
)

SPLIT = Limit(NOT_EMPTY.fits, "a split, such as train or test")
SIZE = Limit(
    lambda value: value == 0 or all(1 <= side <= 4096 for side in np.ravel(value)),
    "0, or from 1 to 4096: of a square, or height and width",
)
CHANNELS = Limit(lambda value: value in (0, 1, 3), "0, 1 or 3")
Due = Annotated[int, at_least(1), "epochs; and after the last", MAY_CHANGE]


@dataclasses.dataclass(frozen=True)
class Component:
    """Hold a function or a class, and its options."""

    name: str
    """What the config calls it: a name of ours, or an import path."""
    field: str
    """The flag that names it, as `--config.model.name`."""
    function: Callable
    options: Mapping[str, Any]
    path: str
    """The path of the options in the config, such as `model.cnn`."""
    module: str = ""
    """The user's own module that defines it; empty for one of ours."""
    sha256: str = ""
    """The hash of this module's file when the config was read."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with the arguments and the options."""
        return self.function(*args, **kwargs, **self.options)

    def takes(self, parameter: str) -> bool:
        """Return whether the function has a parameter of this name."""
        return parameter in inspect.signature(self.function).parameters

    @property
    def marks(self) -> dict[str, tuple[Mark, ...]]:
        """The marks of the options, by their dotted paths."""
        known = options_of(self.function) if self.options else {}
        return {f"{self.path}.{name}": known[name].marks for name in self.options}

    def check_data(self, facts: DataFacts) -> None:
        """Check the options against the facts of the training split.

        Raises:
          UserError: they do not go together.
        """
        run_check(self.function, "check_data", self.options, self.path, facts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Hold `config.data`."""

    name: Annotated[str, NOT_EMPTY, "of a dataset"]
    data_dir: Annotated[str, "of TFDS", PATH]
    cache_dir: Annotated[str, "of decoded images", PATH] = ""
    train_split: Annotated[str, SPLIT, "in TFDS's syntax"]
    validation_split: Annotated[str, "in TFDS's syntax; empty: none", MAY_CHANGE]
    test_split: Annotated[str, SPLIT, "in TFDS's syntax", MAY_CHANGE]
    image_size: Annotated[int | tuple[int, int], SIZE, "pixels; 0: as the images are"]
    channels: Annotated[int, CHANNELS, "1: grey, 3: RGB; 0: as TFDS's are, RGB of a folder"] = 0
    image_feature: Annotated[str, "of a dataset of TFDS; empty: the one that it is learnt from"] = (
        ""
    )
    label_feature: Annotated[str, "of a dataset of TFDS; empty: the one that is learnt"] = ""
    normalisation: Annotated[str, one_of(NORMALISATIONS)]
    resident_bytes: Annotated[
        int, at_least(0), "the largest split that devices hold; 0: chosen from them", MAY_CHANGE
    ] = 0
    component: Component | None
    """The dataset; None for one of TFDS."""

    @property
    def reading(self) -> Reading:
        """How images are read from their files."""
        return Reading(self.image_size, self.channels, self.cache_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Hold `config.model`."""

    name: Annotated[str, NOT_EMPTY]
    component: Component


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Hold `config.optimizer`."""

    name: Annotated[str, NOT_EMPTY]
    learning_rate: Annotated[float, POSITIVE, "the peak of the schedule"]
    l2_penalty: Annotated[float, at_least(0), "adds l2_penalty / 2 * ||weights||² to the loss"]
    clip_norm: Annotated[float, at_least(0), "largest norm of the gradient; 0: any"]
    component: Component


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Hold `config.schedule`."""

    name: Annotated[str, NOT_EMPTY]
    warmup_epochs: Annotated[float, at_least(0), "of linear rise to the peak"]
    component: Component


WEIGHTS = Limit(
    lambda value: (
        value in ("none", "balanced")
        if isinstance(value, str)
        else len(value) > 1 and all(0 < weight < float("inf") for weight in value)
    ),
    "none, balanced, or a number above 0 for each class",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """Hold `config.loss`."""

    class_weights: Annotated[str | tuple[float, ...], WEIGHTS, "in the order of the classes"] = (
        "none"
    )
    focal_gamma: Annotated[float, between(0, 10), "the exponent of the focal loss; 0: none"] = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logging:
    """Hold `config.logging`."""

    every_steps: Annotated[int, at_least(1), "optimiser steps a record", MAY_CHANGE]
    loggers: Annotated[
        str, "import paths, separated by commas, of functions of step and values", MAY_CHANGE
    ] = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Hold `config.evaluation`."""

    every_epochs: Due
    batch_size: Annotated[int, at_least(1), "examples a step, over all devices", MAY_CHANGE]
    test_time_augmentation: Annotated[str, NOT_EMPTY, MAY_CHANGE]
    component: Component
    """The test-time augmentation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Hold `config.checkpoint`."""

    every_epochs: Due
    keep: Annotated[int, at_least(1), "the newest", MAY_CHANGE]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Hold all that a run is made of: checked values, and the components that are chosen."""

    seed: Annotated[int, between(0, 2**32 - 1), "of parameters, order, augmentation and dropout"]
    num_epochs: Annotated[int, between(1, 100_000), "passes over the training split"]
    batch_size: Annotated[int, at_least(1), "examples a step, over all devices"]
    label_smoothing: Annotated[float, SHARE_BELOW_ONE, "share of each target for all classes"]
    precision: Annotated[str, one_of(("auto", "bfloat16", "float32", "float64"))]
    deterministic: Annotated[bool, "slower kernels of a GPU that always round the same way"]
    convolutions: Annotated[str, one_of(("auto", "onednn", "xla")), MAY_CHANGE] = "auto"
    sampling: Annotated[str, one_of(("shuffled", "balanced"))] = "shuffled"
    data: Data
    augmentation: Mapping[str, Component]
    """Those that are enabled, in the order in which they are applied."""
    model: Model
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    logging: Logging
    evaluation: Evaluation
    checkpoint: Checkpoint
    whole: Mapping[str, Any]
    """The config as JSON holds it, including the components that are not chosen."""

    @property
    def components(self) -> tuple[Component, ...]:
        """All that are chosen."""
        sections = (self.data, self.model, self.optimizer, self.schedule, self.evaluation)
        named = (section.component for section in sections)
        return (*filter(None, named), *self.augmentation.values())

    @property
    def marks(self) -> dict[str, tuple[Mark, ...]]:
        """The marks of all fields and of the options of the chosen components, by their dotted paths."""
        marks = {path: option.marks for path, option in FIELDS.items()}
        for component in self.components:
            marks |= component.marks
        return marks

    def effective(self) -> dict[str, Any]:
        """Return every effective value by its dotted path, including defaults."""
        values = {path: operator.attrgetter(path)(self) for path in FIELDS}
        for name, component in self.augmentation.items():
            values[f"augmentation.{name}.enabled"] = True
            if component.module:
                values[f"augmentation.{name}.function"] = component.name
        for component in self.components:
            for name, value in component.options.items():
                values[f"{component.path}.{name}"] = value
        return values


SECTIONS: dict[str, Any] = {
    name: kind
    for name, kind in typing.get_type_hints(Config).items()
    if dataclasses.is_dataclass(kind)
}
"""The groups of fields that are no components' options, by name."""

FIELDS = options_of(Config) | {
    f"{name}.{field}": option
    for name, section in SECTIONS.items()
    for field, option in options_of(section).items()
}
"""All fields that are no components' options, by their dotted paths."""

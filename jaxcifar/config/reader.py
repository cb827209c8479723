"""Reads a ConfigDict, or its JSON, into a frozen `Config`."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxcifar.config import components
from jaxcifar.config.fields import as_json, split
from jaxcifar.config.presets import without_preset
from jaxcifar.config.schema import SECTIONS, Config
from jaxcifar.errors import UserError, unknown
from jaxcifar.host.files import with_tuples
from jaxcifar.options import options_of, read


def read_config(given: ConfigDict | Mapping[str, Any]) -> Config:
    """Read what a run needs of a `ConfigDict` with the fields of `configs/default.py`, or of its JSON.

    The options of components that are not chosen may be missing, and are not checked.

    Raises:
      UserError: for the first field that is unknown, missing or wrong, or conflicts with another.
    """
    whole = without_preset(as_json(given))
    values = with_tuples(whole)
    top, groups = split(values, Config)
    if strange := set(groups) - {*SECTIONS, "augmentation"}:
        raise unknown("--config:", min(strange), [*SECTIONS, "augmentation"])
    sections = {}
    for name, section in SECTIONS.items():
        own, options = split(groups.get(name), section)
        found = read(section, own, name)
        if name == "data":
            found["component"] = components.choose_dataset(found["name"], options)
        elif name in components.CHOSEN_BY_NAME:
            found["component"] = components.choose(name, found["name"], options)
        elif options:
            raise unknown(f"--config.{name}:", min(options), options_of(section))
        if name == "evaluation":
            found["component"] = components.choose_views(found["test_time_augmentation"])
        sections[name] = section(**found)
    enabled = components.enabled_augmentations(groups.get("augmentation", {}))
    config = Config(**read(Config, top, ""), **sections, augmentation=enabled, whole=whole)
    _check_together(config)
    return config


def check_what_is_not_chosen(given: ConfigDict | Mapping[str, Any]) -> None:
    """Check the options of components that a config holds but does not choose.

    They have no effect on a run, but the user would want to know of a mistake in them.

    Raises:
      UserError: for the first mistake.
    """
    _, groups = split(with_tuples(as_json(given)), Config)
    for name in components.CHOSEN_BY_NAME:
        components.check_all(name, split(groups.get(name), SECTIONS[name])[1])
    components.check_all_augmentations(groups.get("augmentation", {}))


def _check_together(config: Config) -> None:
    data = config.data
    for name in ("image_size", "channels"):
        value = getattr(data, name)
        if value and data.component and not data.component.takes("reading"):
            raise UserError(
                f"--config.data.{name}={value} is for images in files, and --config.data.name={data.name} "
                "reads none: leave it at 0"
            )
    for name in ("image_feature", "label_feature"):
        if (value := getattr(data, name)) and data.component:
            raise UserError(
                f"--config.data.{name}={value} is for datasets of TFDS, and "
                f"--config.data.name={data.name} is none: leave it empty"
            )
    if config.sampling == "balanced" and config.loss.class_weights != "none":
        raise UserError(
            f"--config.sampling=balanced and --config.loss.class_weights={config.loss.class_weights} both "
            "make up for unequal classes: leave one of them out"
        )
    if config.schedule.warmup_epochs > config.num_epochs:
        raise UserError(
            f"--config.schedule.warmup_epochs={config.schedule.warmup_epochs} is longer than "
            f"the run: at most --config.num_epochs={config.num_epochs}"
        )

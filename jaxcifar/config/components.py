"""The components that a config chooses: ours by name, the user's own by import path."""

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from jaxcifar.augment import AUGMENTATIONS, TEST_TIME_AUGMENTATIONS
from jaxcifar.config.importing import IMPORT_PATH, Kind, defining_module, imported
from jaxcifar.config.schema import Component
from jaxcifar.data import DATASETS
from jaxcifar.data.tfds_prepare import NAMESPACES
from jaxcifar.errors import UserError, unknown
from jaxcifar.models import MODELS, PRESETS
from jaxcifar.optim import OPTIMIZERS, SCHEDULES
from jaxcifar.options import flag, options_of, read

CHOSEN_BY_NAME = {
    "data": Kind(DATASETS, ("split",), wanted=("reading",)),
    "model": Kind(MODELS, (), ("classes", "compute"), presets=PRESETS),
    "optimizer": Kind(OPTIMIZERS, ("schedule",)),
    "schedule": Kind(SCHEDULES, ("peak", "steps")),
}
"""By section of the config: the field `name` in it names the component."""
AUGMENTATION = Kind(AUGMENTATIONS, ("keys", "examples"))
LOGGER = Kind({}, ("step", "values"), has_options=False)
VIEWS = Kind(TEST_TIME_AUGMENTATIONS, ("images",), has_options=False)


def _component(name: str, field: str, kind: Kind, path: str, options: Mapping) -> Component:
    """Return the component of a kind that the config calls `name`; `field` is its field's name in errors."""
    if name in kind.ours:
        ours = kind.ours[name]
        return Component(name, field, ours, _read(kind, ours, options, path), path)
    if not IMPORT_PATH.fits(name):
        raise unknown(f"{field}:", name, kind.ours, kind.presets)
    function = imported(name, field, kind)
    module = defining_module(function, name.partition(":")[0])
    file = getattr(sys.modules[module], "__file__", None)
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    options = _read(kind, function, options, path)
    return Component(name, field, function, options, path, module, sha256)


def _read(kind: Kind, function: Callable, options: Mapping, path: str) -> dict[str, Any]:
    return read(function, options, path) if kind.has_options else {}


def choose(section: str, name: str, groups: Mapping[str, Mapping]) -> Component:
    """Return the component that a section of the config names.

    Args:
      section: one of `CHOSEN_BY_NAME`.
      name: of the component.
      groups: of the section: the options of each of our components by its name, of the user's as `options`.

    Raises:
      UserError: there is no such component, or its options are wrong.
    """
    kind = CHOSEN_BY_NAME[section]
    if name in kind.ours:
        _check_no_options(section, name, groups)
    group = name if name in kind.ours else "options"
    path, options = f"{section}.{group}", groups.get(group, {})
    return _component(name, flag(section, "name"), kind, path, options)


def choose_dataset(name: str, groups: Mapping[str, Mapping]) -> Component | None:
    """Return what `choose` does for the section `data`, None for a dataset of TFDS."""
    own = IMPORT_PATH.fits(name) and name.partition(":")[0] not in NAMESPACES
    if own or name in DATASETS:
        return choose("data", name, groups)
    _check_no_options("data", name, groups)
    return None


def _check_no_options(section: str, name: str, groups: Mapping[str, Mapping]) -> None:
    if groups.get("options"):
        raise UserError(
            f"--config.{section}.options are for a component of your own, and {flag(section, 'name')}={name} "
            "is none: leave them out"
        )


def loggers(paths: str) -> tuple[Callable, ...]:
    """Return the functions that comma-separated import paths name; only training needs them.

    Raises:
      UserError: there is no such function, or it cannot be called with step and values.
    """
    field, found = "--config.logging.loggers", []
    for path in filter(None, map(str.strip, paths.split(","))):
        if not IMPORT_PATH.fits(path):
            raise UserError(f"{field}={path}: it must be {IMPORT_PATH.words}")
        found.append(imported(path, field, LOGGER))
    return tuple(found)


def choose_views(name: str) -> Component:
    """Return the test-time augmentation of that name, which has no options.

    Raises:
      UserError: there is none.
    """
    path = "evaluation.test_time_augmentation"
    return _component(name, f"--config.{path}", VIEWS, path, {})


@dataclasses.dataclass(frozen=True)
class _Switch:
    """Hold the field that the group of every augmentation has, beside the options."""

    enabled: Annotated[bool, "whether it is applied"]


@dataclasses.dataclass(frozen=True)
class _Own:
    """Hold the additional field of the group of a user's own augmentation."""

    function: Annotated[str, IMPORT_PATH]


def enabled_augmentations(groups: Mapping[str, Mapping]) -> dict[str, Component]:
    """Return the augmentations that are enabled, in the order in which they are applied.

    Ours come first, then the user's own in the order of their names.

    Args:
      groups: of `config.augmentation`, by name: `enabled`, the import path `function` of the user's own, and
        options.

    Raises:
      UserError: one is unknown, has wrong options, or excludes another.
    """
    chosen = {}
    own = sorted(set(groups) - set(AUGMENTATIONS))
    for name in [*AUGMENTATIONS, *own]:
        if name not in groups:  # a run that was made before it was added
            continue
        path, group = f"augmentation.{name}", _as_group(name, groups[name])
        if not _taken(_Switch, group, path)["enabled"]:
            continue
        source = name
        if name not in AUGMENTATIONS:
            if "function" not in group:
                raise unknown("--config.augmentation:", name, AUGMENTATIONS)
            source = _taken(_Own, group, path)["function"]
        chosen[name] = _component(source, flag(path, "function"), AUGMENTATION, path, group)
    for name, component in chosen.items():
        for other in set(getattr(component.function, "excludes", ())) & set(chosen):
            raise UserError(
                f"--config.augmentation.{name}.enabled=True excludes "
                f"--config.augmentation.{other}.enabled=True: enable one of them"
            )
    return chosen


def _as_group(name: str, value: Any) -> dict[str, Any]:
    """Return a copy of the group of an augmentation."""
    if not isinstance(value, Mapping):
        raise UserError(
            f"--config.augmentation.{name}={value}: it is a group of fields: set one of them, as "
            f"--config.augmentation.{name}.enabled"
        )
    return dict(value)


def _taken(component: type, group: dict[str, Any], path: str) -> dict[str, Any]:
    """Take the options of `component` out of a group, and return them checked."""
    return read(
        component, {name: group.pop(name) for name in options_of(component) if name in group}, path
    )


def check_all(section: str, groups: Mapping[str, Mapping]) -> None:
    """Check the options of all components of ours that a section of the config holds, chosen or not.

    Raises:
      UserError: for the first mistake.
    """
    kind = CHOSEN_BY_NAME[section]
    for name, options in groups.items():
        if name in kind.ours:
            read(kind.ours[name], options, f"{section}.{name}")
        elif name != "options":
            raise unknown(f"--config.{section}:", name, kind.ours)


def check_all_augmentations(groups: Mapping[str, Mapping]) -> None:
    """Check the options of all augmentations of ours that a config holds, enabled or not.

    Raises:
      UserError: for the first mistake.
    """
    for name, group in groups.items():
        path, options = f"augmentation.{name}", _as_group(name, group)
        _taken(_Switch, options, path)
        if name in AUGMENTATIONS:
            read(AUGMENTATIONS[name], options, path)
        elif "function" not in options:
            raise unknown("--config.augmentation:", name, AUGMENTATIONS)


def hashes(components: Iterable[Component]) -> dict[str, str]:
    """Return the SHA-256 of the file of each module of the user's own, by the module's name."""
    return {each.module: each.sha256 for each in components if each.module}

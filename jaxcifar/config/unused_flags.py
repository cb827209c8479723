"""Flags that set an option of a component which the config does not choose."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxcifar.augment import AUGMENTATIONS
from jaxcifar.config.components import CHOSEN_BY_NAME
from jaxcifar.models import PRESETS
from jaxcifar.options import flag


def without_effect(names: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """Return a line for each flag that has no effect, with the reason.

    Args:
      names: the fields that flags set, as dotted paths.
      config: of the run.
    """
    lines = []
    for name in names:
        section, _, rest = name.partition(".")
        group, _, option = rest.rpartition(".")
        if section in CHOSEN_BY_NAME and group in CHOSEN_BY_NAME[section].ours:
            chosen = config[section]["name"]
            if group != PRESETS.get(chosen, (chosen,))[0]:
                lines.append(_line(name, f"{section}.name", chosen))
        if section == "augmentation" and group in AUGMENTATIONS and option != "enabled":
            enabled = config[section][group]["enabled"]
            if not enabled:
                lines.append(_line(name, f"{section}.{group}.enabled", enabled))
    return lines


def _line(name: str, field: str, value: Any) -> str:
    return f"{flag('', name)} has no effect: {flag('', field)} is {value}"

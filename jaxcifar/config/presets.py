"""Presets of networks: a config that names one is read as that of its family with all its numbers."""

import json
from collections.abc import Mapping
from typing import Any

from jaxcifar.errors import UserError
from jaxcifar.models import MODELS, PRESETS
from jaxcifar.options import flag, options_of


def without_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the preset that it names, if it names one, replaced by family and options.

    Args:
      values: the config as JSON holds it.

    Raises:
      UserError: it sets an option of the family to a value that is neither the default nor the preset's.
    """
    model = values.get("model")
    if not isinstance(model, Mapping) or str(model.get("name")) not in PRESETS:
        return dict(values)
    preset = model["name"]
    family, chosen = PRESETS[preset]
    defaults = {name: option.default for name, option in options_of(MODELS[family]).items()}
    defaults, wanted = (json.loads(json.dumps(x)) for x in (defaults, defaults | dict(chosen)))
    given, path = model.get(family, {}), f"model.{family}"
    for name, value in given.items():
        if name in wanted and value not in (wanted[name], defaults[name]):
            others = " ".join(_as_flag(path, *pair) for pair in chosen.items()) or "nothing"
            raise UserError(
                f"{flag(path, name)}={value} changes the preset --config.model.name={preset}: leave it out, "
                f"or set --config.model.name={family} and what else {preset} sets: {others}"
            )
    return {**values, "model": {**model, "name": family, family: {**given, **wanted}}}


def _as_flag(path: str, name: str, value: Any) -> str:
    parts = value if isinstance(value, tuple) else [value]
    return f"{flag(path, name)}={','.join(map(str, parts))}"

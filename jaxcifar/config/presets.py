"""Presets of networks, which a config replaces by their family and its options."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxcifar.errors import UserError
from jaxcifar.host.files import with_tuples
from jaxcifar.models import MODELS, PRESETS
from jaxcifar.options import flag, options_of


def without_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config in which a preset, if it names one, is replaced by its family and options.

    Args:
      values: the config as JSON holds it.

    Raises:
      UserError: it sets an option of the family to a value that is neither the default nor the preset's.
    """
    model = values.get("model")
    if not isinstance(model, Mapping) or str(model.get("name")) not in PRESETS:
        return dict(values)
    preset = model["name"]
    family, _ = PRESETS[preset]
    given = model.get(family, {})
    if not isinstance(given, Mapping):  # which is refused when the family's options are read
        return {**values, "model": {**model, "name": family}}
    defaults, wanted = _options(preset)
    for name, value in given.items():
        if value != defaults.get(name):
            _check(preset, name, value)
    return {**values, "model": {**model, "name": family, family: {**given, **wanted}}}


def check_flags(preset: str, overrides: Mapping[str, Any]) -> None:
    """Check that no flag contradicts the preset; a flag that sets a family's default can do so too.

    Args:
      preset: the name of a model, a preset or not.
      overrides: what flags set, by dotted path.

    Raises:
      UserError: one does.
    """
    if preset in PRESETS:
        path = f"model.{PRESETS[preset][0]}."
        for name, value in overrides.items():
            if name.startswith(path):
                _check(preset, name.removeprefix(path), json.loads(json.dumps(value)))


def take_preset(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """If a flag names a preset, set its options in an earlier run's config, which may have others."""
    preset = overrides.get("model.name", "")
    if preset in PRESETS:
        family, _ = PRESETS[preset]
        _, wanted = _options(preset)
        changes = {f"model.{family}.{name}": value for name, value in with_tuples(wanted).items()}
        with config.unlocked():
            config.update_from_flattened_dict(changes)


def preset_of(family: str, options: Mapping[str, Any]) -> str | None:
    """Return the preset that equals a family with these options, None if there is none."""
    given = json.loads(json.dumps(dict(options)))
    presets = (name for name, (owner, _) in PRESETS.items() if owner == family)
    return next((name for name in presets if _options(name)[1] == given), None)


def _options(preset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the defaults of the preset's family and the preset's options, as JSON holds them."""
    family, chosen = PRESETS[preset]
    defaults = {name: option.default for name, option in options_of(MODELS[family]).items()}
    defaults, wanted = (json.loads(json.dumps(x)) for x in (defaults, defaults | dict(chosen)))
    return defaults, wanted


def _check(preset: str, name: str, value: Any) -> None:
    family, chosen = PRESETS[preset]
    _, wanted = _options(preset)
    if value == wanted.get(name, value):
        return
    others = " ".join(_as_flag(family, *pair) for pair in chosen.items() if pair[0] != name)
    raise UserError(
        f"{_as_flag(family, name, value)} contradicts the preset --config.model.name={preset}: leave "
        f"one of the two out, or name the family, --config.model.name={family}"
        + (f", and set what else {preset} sets: {others}" if others else "")
    )


def _as_flag(family: str, name: str, value: Any) -> str:
    parts = value if isinstance(value, tuple | list) else [value]
    return f"{flag(f'model.{family}', name)}={','.join(map(str, parts))}"

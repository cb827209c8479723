"""A config as a tree of fields, and errors for fields that are set on the command line."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxcifar.errors import UserError, did_you_mean, first_line
from jaxcifar.options import KINDS, options_of


def fields(config: ConfigDict | Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field and group of fields, with its dotted path."""
    for name, value in config.items():
        yield prefix + name, value
        if isinstance(value, ConfigDict | Mapping):
            yield from fields(value, f"{prefix}{name}.")


def split(values: Any, owner: Callable) -> tuple[dict[str, Any], dict[str, Mapping]]:
    """Split a group into the fields that `owner` reads, and the subgroups that it does not."""
    values = values if isinstance(values, Mapping) else {}
    others = {
        name: value
        for name, value in values.items()
        if isinstance(value, Mapping) and name not in options_of(owner)
    }
    return {name: value for name, value in values.items() if name not in others}, others


def as_json(config: ConfigDict | Mapping) -> dict:
    """Return the config as JSON gives it back: dicts and lists.

    Raises:
      UserError: it holds a value that JSON cannot.
    """
    try:
        values = config.to_dict() if isinstance(config, ConfigDict) else config
        return json.loads(json.dumps(values))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the config cannot be saved ({first_line(error)}): each --config.key must hold a number, a "
            "text, true or false, or a tuple of these"
        ) from error


def check_overrides(argv: list[str], config: ConfigDict, name: str) -> None:
    """Check that every `--config.key` on the command line is a field of the config; errors call it `name`.

    Raises:
      UserError: one is not.
    """
    known = dict(fields(config))
    for argument in argv[1:]:
        flag = argument.lstrip("-").split("=")[0]
        flag = flag.removeprefix("no") if flag.startswith("noconfig.") else flag
        path = flag.removeprefix("config.")
        if flag.startswith("config.") and path not in known:
            group = path.rpartition(".")[0]
            if group.endswith(".options") or f"{group}.function" in known:
                raise UserError(
                    f"--{flag}: {name} does not set this option: set it there, in config.{group}, and it "
                    "is a flag too"
                )
            raise _no_such_field(path, known, name)


def _no_such_field(path: str, known: Mapping[str, Any], name: str) -> UserError:
    from jaxcifar.models import PRESETS  # takes a while

    group, _, option = path.rpartition(".")
    preset = group.removeprefix("model.")
    if preset in PRESETS:
        family = PRESETS[preset][0]
        return UserError(
            f"--config.{path}: {preset} is a preset, which sets all numbers of its family: name the family, "
            f"--config.model.name={family}, and set --config.model.{family}.{option}"
        )
    here = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == group]
    if group and here:
        hint = did_you_mean(option, here, form=f"--config.{group}.{{}}")
        hint = hint or f"--config.{group} has {', '.join(here)}; "
    else:
        hint = did_you_mean(path, known, form="--config.{}", cutoff=0.5)
    return UserError(
        f"--config.{path}: {name} has no such field; {hint}the schema is configs/default.py"
    )


def explain_flag(flag: str, config: ConfigDict) -> str:
    """Return a hint at the field that the user may have meant by an unknown flag, or an empty text."""
    words = set(flag.rpartition(".")[2].split("_"))
    alike = [
        path
        for path, value in fields(config)
        if not isinstance(value, ConfigDict)
        and (path in (flag, f"{flag}.name") or words <= set(path.rpartition(".")[2].split("_")))
    ]
    nearest = min(alike, key=lambda path: (path.count("."), len(path)), default="")
    return f"did you mean --config.{nearest}? " if nearest else ""


def explain_value(text: str, config: ConfigDict) -> UserError:
    """Return the error for a value of the wrong type; `text` is absl's message."""
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", text)
    known = dict(fields(config))
    if not found or known.get(found[1]) is None:
        return UserError(text.splitlines()[0])
    flag, value = f"--config.{found[1]}", known[found[1]]
    if isinstance(value, ConfigDict):
        own = (path for path, inner in fields(value) if not isinstance(inner, ConfigDict))
        nearest = min(own, key=lambda path: (path != "name", path.count(".")), default="…")
        return UserError(
            f"{flag}={found[2]}: it is a group of fields: set one of them, as {flag}.{nearest}"
        )
    return UserError(f"{flag}={found[2]}: it must be {KINDS[type(value)]}, as {value} is")

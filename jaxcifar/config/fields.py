"""The fields of a config, and what can be wrong with one that is set on the command line."""

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from jaxcifar.errors import UserError, did_you_mean

Config: TypeAlias = Any
"""A `ConfigDict` with the fields of `configs/default.py`, whose types ml_collections does not know."""


def fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field and group of fields, with its dotted path."""
    for name, value in config.items():
        yield prefix + name, value
        if isinstance(value, ConfigDict):
            yield from fields(value, f"{prefix}{name}.")


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
            hint = did_you_mean(path, known, form="--config.{}", cutoff=0.5)
            raise UserError(
                f"--{flag}: {name} has no such field; {hint}the schema is configs/default.py"
            )


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "values separated by commas",
}


def explain_value(text: str, config: ConfigDict) -> UserError:
    """Return the error for a value of the wrong type, of which absl says `text`."""
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", text)
    known = dict(fields(config))
    if not found or known.get(found[1]) is None:
        return UserError(text.splitlines()[0])
    flag, value = f"--config.{found[1]}", known[found[1]]
    if isinstance(value, ConfigDict):
        return UserError(
            f"{flag}={found[2]}: it is a group of fields: set one of them, as {flag}.{next(iter(value))}"
        )
    return UserError(f"{flag}={found[2]}: it must be {_KINDS[type(value)]}, as {value} is")

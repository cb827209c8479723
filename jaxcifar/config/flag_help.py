"""Flags of absl: their definition, their help, and their errors."""

import functools
import re
import textwrap
from collections.abc import Callable, Collection, Iterator

from absl import flags
from ml_collections import ConfigDict

from jaxcifar.config.fields import explain_flag, explain_value
from jaxcifar.errors import UserError, did_you_mean, first_line


def definers(values: flags.FlagValues) -> Iterator[Callable]:
    """Return functions `(name, default, help)` that define text, whole-number and switch flags."""
    kinds = (flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_bool)
    return (functools.partial(define, flag_values=values) for define in kinds)


def help_of(values: flags.FlagValues, leave_out: Collection[str] = ()) -> str:
    """Return a line for each flag that is not left out, with its default and what it means."""
    known = {name: values[name] for name in values if values[name].name == name}
    known = {name: flag for name, flag in known.items() if name not in leave_out}
    shown = {}
    for name in sorted(known, key=lambda name: (name not in ("config", "workdir"), name)):
        default = (known[name].default_as_str or "").strip("'").removesuffix("None")
        about = " ".join((known[name].help or "").split())
        shown[f"--{name}={default}" if default else f"--{name}"] = about
    width = max(map(len, shown))
    return "".join(
        textwrap.fill(
            about,
            100,
            initial_indent=f"  {flag:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        + "\n"
        for flag, about in shown.items()
    )


def explain_error(
    error: flags.Error, known: flags.FlagValues, config: ConfigDict | None = None
) -> UserError:
    """Return the error for an unknown flag, or for a flag with a wrong value.

    Args:
      error: of absl.
      known: the flags of the program.
      config: whose fields an unknown flag may mean.
    """
    if isinstance(error, flags.UnrecognizedFlagError):
        name = error.flagname
        hint = explain_flag(name, config) if config is not None else ""
        hint = hint or did_you_mean(name, known, form="--{}")
        return UserError(f"there is no flag --{name}: {hint}--help lists the flags")
    if config is not None and str(error).startswith("flag --config."):
        return explain_value(str(error), config)
    if found := re.match(r"flag (--\w+)=(.*): \('Non-boolean argument", str(error)):
        return UserError(f"{found[1]}={found[2]}: {found[1]} is a switch, and takes no value")
    return UserError(f"{first_line(error)} (--help lists the flags)")

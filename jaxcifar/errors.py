"""Mistakes that a user can make, and how they are reported."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct; `main` prints it as one line and exits with 2.

    The message says what is wrong, with the value, then the limit, then the remedy.
    """


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type's name if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def unknown(what: str, value: str, known: Iterable[str], presets: Iterable[str] = ()) -> UserError:
    """Return the error for a name that is neither in `known` nor a preset, with the nearest known name."""
    known, presets = sorted(known), list(presets)
    hint = did_you_mean(value, [*known, *presets])
    also = f"; presets are {', '.join(presets)}" if presets else ""
    return UserError(f"{what} {value!r} is unknown: {hint}known are {', '.join(known)}{also}")


def did_you_mean(
    value: str, known: Iterable[str], *, form: str = "{!r}", most: int = 1, cutoff: float = 0.6
) -> str:
    """Return a question that suggests up to `most` near names in `known`; empty if none is near."""
    by_lower = {name.lower(): name for name in known}  # of two that differ in case, the last
    near = difflib.get_close_matches(value.lower(), list(by_lower), most, cutoff)
    near = [by_lower[name] for name in near]
    return f"did you mean {' or '.join(map(form.format, near))}? " if near else ""

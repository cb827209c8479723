"""What a user can get wrong, and how it is said."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend; `main` prints it as one line and exits with 2.

    The message says what is wrong, with the value, then the limit, then the remedy.
    """


def unknown(what: str, value: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not among `known`, with the nearest that is."""
    known = sorted(known)
    near = difflib.get_close_matches(value, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"{what} {value!r} is unknown: {hint}known are {', '.join(known)}")

"""The options of a component: read from its signature and checked.

An option is a parameter or a field whose type is `Annotated`, with limits and a unit:

    def crop(keys, examples, *, padding: Annotated[int, at_least(0), "pixels of shift each way"]): ...

A component is a function, a Linen module or another dataclass. Its `check(**options)` checks the options
against each other, and its `check_data(facts, **options)` checks them against the data. Both raise
`OptionError`. A class defines them as static methods; a function gets them from `with_checks`.
"""

import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from jaxcifar.errors import UserError, did_you_mean, unknown


class OptionError(UserError):
    """Options do not fit each other or the data; `{name}` in the message becomes a flag and its value."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """Say which values an option of the right type may have."""

    fits: Callable[[Any], bool]
    words: str
    """The text after "it must be"."""
    known: tuple[str, ...] = ()
    """The allowed names, if there are only a few."""


def between(low: float, high: float) -> Limit:
    """Return the limit from `low` to `high`, both included."""
    return Limit(lambda value: low <= value <= high, f"from {low} to {high}")


def at_least(low: float) -> Limit:
    """Return the limit from `low` on, infinity excluded."""
    return Limit(lambda value: low <= value < float("inf"), f"at least {low}")


def one_of(names: Iterable[str]) -> Limit:
    """Return the limit to a few names."""
    known = tuple(names)
    return Limit(lambda value: value in known, f"one of {', '.join(known)}", known)


def each(limit: Limit) -> Limit:
    """Return the limit to one or more values, each within `limit`."""
    return Limit(
        lambda values: len(values) > 0 and all(map(limit.fits, values)),
        f"one or more, each {limit.words}",
    )


class Mark(enum.Enum):
    """Say when the value of an option may differ within one run."""

    MAY_CHANGE = "from one start to the next"
    PATH = (
        "from one start to the next, and between processes, for it names a place on their machine"
    )


MAY_CHANGE, PATH = Mark.MAY_CHANGE, Mark.PATH

POSITIVE = Limit(lambda value: 0 < value < float("inf"), "above 0 and finite")
SHARE = between(0, 1)
SHARE_BELOW_ONE = Limit(lambda value: 0 <= value < 1, "at least 0 and below 1")
ODD = Limit(lambda value: 0 < value < 100 and value % 2 == 1, "odd, from 1 to 99")
NOT_EMPTY = Limit(lambda value: value != "", "a name")
WIDTHS = each(between(1, 65536))

KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "values separated by commas",
}
"""What messages call each type that an option may have."""

REQUIRED = inspect.Parameter.empty
"""In place of a default: the option must be given."""


@dataclasses.dataclass(frozen=True)
class Option:
    """Describe an option."""

    type: Any
    """`bool`, `int`, `float`, `str`, `tuple[int, ...]` or the like, or a union of one type and a tuple."""
    default: Any
    limits: tuple[Limit, ...]
    unit: str
    marks: tuple[Mark, ...]

    @property
    def words(self) -> str:
        """What a value must be: its type, and the limits."""
        return ": ".join([_kind(self.type), *(limit.words for limit in self.limits)])

    def read(self, value: Any, flag: str) -> Any:
        """Return `value` in the option's type: a float for a whole number, a tuple for a list.

        Raises:
          UserError: it has the wrong type, or is outside the limits; `flag` names the option in the message.
        """
        try:
            read = _as(self.type, value)
        except (TypeError, OverflowError) as error:
            raise UserError(f"{flag}={value}: it must be {self.words}") from error
        for limit in self.limits:
            if not limit.fits(read):
                if limit.known:
                    raise unknown(f"{flag}:", str(value), limit.known)
                raise UserError(f"{flag}={value}: it must be {limit.words}")
        return read


def _as(kind: Any, value: Any) -> Any:
    is_group = isinstance(value, list | tuple)
    kind = next((one for one in _kinds(kind) if bool(typing.get_args(one)) is is_group), kind)
    if parts := typing.get_args(kind):
        if not is_group:
            raise TypeError
        if parts[-1] is Ellipsis:
            parts = parts[:1] * len(value)
        if len(parts) != len(value):
            raise TypeError
        return tuple(map(_as, parts, value))
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or isinstance(value, bool) != (kind is bool):
        raise TypeError
    return kind(value)


def _kinds(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, a single type and a tuple; or the type itself, if it is no union."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _kind(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(map(_kind, _kinds(kind)))
    parts = typing.get_args(kind)
    if not parts:
        return KINDS[kind]
    one = KINDS[parts[0]].removeprefix("a ")
    count = "" if parts[-1] is Ellipsis else f"{len(parts)} "
    return f"{count}{one}s separated by commas"


@functools.cache
def options_of(component: Callable) -> dict[str, Option]:
    """Return the options of a component, by name.

    Raises:
      TypeError: an option has a type that is not supported.
    """
    annotated = component
    while isinstance(annotated, functools.partial):
        annotated = annotated.func
    if inspect.isclass(annotated) and not dataclasses.is_dataclass(annotated):
        annotated = annotated.__init__
    hints = typing.get_type_hints(annotated, include_extras=True)
    return {
        name: _option(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(component).parameters.items()
        if typing.get_origin(hints.get(name)) is Annotated
    }


def _option(name: str, hint: Any, default: Any) -> Option:
    kind, *notes = typing.get_args(hint)
    groups = [one for one in _kinds(kind) if typing.get_origin(one) is tuple]
    singles = [one for one in _kinds(kind) if typing.get_origin(one) is not tuple]
    parts = [*singles, *(part for group in groups for part in typing.get_args(group) or (group,))]
    if len(singles) > 1 or any(part not in (bool, int, float, str, ...) for part in parts):
        raise TypeError(f"{name} must be bool, int, float, str or a tuple of these, not {kind}")
    limits = tuple(note for note in notes if isinstance(note, Limit))
    unit = next((note for note in notes if isinstance(note, str)), "")
    marks = tuple(note for note in notes if isinstance(note, Mark))
    return Option(kind, default, limits, unit, marks)


def read(component: Callable, given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return all options of a component, checked.

    Args:
      component: the owner of the options.
      given: the user's values, by name; a missing one has its default.
      path: dotted path of their group in the config, such as `model.cnn`; empty for the top level.

    Raises:
      UserError: an option is unknown, missing, of the wrong type or outside its limits, or options do not
        fit each other.
    """
    options = options_of(component)
    for name in given:
        if name not in options:
            if name in inspect.signature(component).parameters:
                raise UserError(
                    f"{flag(path, name)}: {name} is a parameter whose type is not Annotated, and so no option"
                )
            known = ", ".join(options) or "none"
            hint = did_you_mean(name, options)
            raise UserError(f"{flag(path, name)}: there is no such field; {hint}known are: {known}")
    values = {}
    for name, option in options.items():
        value = given.get(name, option.default)
        if value is REQUIRED:
            raise UserError(
                f"{flag(path, name)} is missing: a config starts from configs/default.py, and holds the "
                "options of components of your own"
            )
        values[name] = option.read(value, flag(path, name))
    run_check(component, "check", values, path)
    return values


def flag(path: str, name: str) -> str:
    """Return what the user calls the field `name` of the group at `path`."""
    return f"--config.{path}.{name}" if path else f"--config.{name}"


def run_check(
    component: Callable, name: str, options: Mapping[str, Any], path: str, *arguments: Any
) -> None:
    """Run a component's `check` or `check_data`, if it has one, on its options at `path` of the config.

    Raises:
      UserError: the check failed; the message names options by their flags.
    """
    check = getattr(component, name, None)
    if check is None:
        return
    try:
        check(*arguments, **options)
    except OptionError as error:
        text = str(error)
        for option, value in options.items():
            text = text.replace(f"{{{option}}}", f"{flag(path, option)}={value}")
        raise UserError(text) from error


_Function = TypeVar("_Function", bound=Callable)


def with_checks(
    *,
    check: Callable[..., None] | None = None,
    check_data: Callable[..., None] | None = None,
    excludes: Collection[str] = (),
) -> Callable[[_Function], _Function]:
    """Return a decorator that attaches checks to a function, see the head of this file.

    Args:
      check: `check(**options)` checks the options against each other.
      check_data: `check_data(facts, **options)` checks the options against the data.
      excludes: the names of augmentations that cannot be enabled together with this one.
    """

    def put(function):
        for name, value in (("check", check), ("check_data", check_data), ("excludes", excludes)):
            if value:
                setattr(function, name, value)
        return function

    return put

"""Functions and classes that a config names by import path."""

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from jaxcifar.errors import UserError, did_you_mean, first_line
from jaxcifar.options import Limit, options_of


@dataclasses.dataclass(frozen=True)
class Kind:
    """Say which components of a kind are ours, and with what arguments any of the kind is called."""

    ours: Mapping[str, Callable]
    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    """Keywords that are passed only to a component with a parameter of this name."""
    has_options: bool = True
    presets: Collection[str] = ()
    """Other names that a config may hold, which `presets.py` replaces before these components are found."""


IMPORT_PATH = Limit(
    lambda name: re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name) is not None,
    "an import path, as my_module:name",
)


def imported(name: str, field: str, kind: Kind) -> Callable:
    """Import what an import path names; errors call the field that holds it `field`."""
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is found, but not another that it imports
        raise UserError(
            f"{field}={name}: there is no module {error.name} in the current directory or on PYTHONPATH: "
            "start from the directory that holds it, or set PYTHONPATH"
        ) from error
    except OSError as error:  # an OSError would be taken for one of the run's own files
        raise ImportError(f"{module_name} cannot be imported") from error
    where = getattr(module, "__file__", None) or module_name
    function = getattr(module, attribute, None)
    if not callable(function):
        known = (key for key in vars(module) if not key.startswith("_"))
        hint = did_you_mean(attribute, known) or "name one that it holds"
        raise UserError(f"{field}={name}: {where} holds no function or class {attribute}: {hint}")
    words = [*kind.positional, *(f"{key}=" for key in kind.keywords)]
    call = ", ".join([*words, "**options"] if kind.has_options else words)
    try:
        signature = inspect.signature(function)
        options = options_of(function) if kind.has_options else ()
        wanted = set(kind.wanted) & set(signature.parameters)
        signature.bind(*kind.positional, **dict.fromkeys([*kind.keywords, *wanted, *options]))
    except (TypeError, ValueError, NameError) as error:
        options_are = "; options are the parameters whose types are Annotated"
        raise UserError(
            f"{field}={name}: {attribute} in {where} cannot be called as {attribute}({call}): "
            f"{first_line(error)}{options_are if kind.has_options else ''}"
        ) from error
    return function


def defining_module(function: Callable, module: str) -> str:
    """Return the module that defines a function; if it is in another package, `module`, which holds it."""
    defining = getattr(function, "__module__", None) or module
    same_package = defining.partition(".")[0] == module.partition(".")[0]
    return defining if same_package and defining in sys.modules else module

"""Lists what a config can choose, from the components themselves.

jaxcifar list                    all components and configs, a line each
jaxcifar list fields             all fields of a config that are no component's options
jaxcifar list SECTION            those of a section, as data or optimizer
jaxcifar list NAME               a component, with its options; a preset, with the numbers that it sets; or
                                 one of our configs, with what it changes of the default
"""

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxcifar.config import config_file
from jaxcifar.config.components import AUGMENTATION, CHOSEN_BY_NAME, VIEWS
from jaxcifar.config.fields import fields
from jaxcifar.config.schema import FIELDS
from jaxcifar.errors import UserError, did_you_mean
from jaxcifar.host import terminal
from jaxcifar.models import MODELS, PRESETS
from jaxcifar.options import Option, flag, options_of

_KINDS = {
    "models": ("model.name", "model", CHOSEN_BY_NAME["model"].ours),
    "augmentations": ("augmentation.NAME.enabled", "augmentation", AUGMENTATION.ours),
    "optimizers": ("optimizer.name", "optimizer", CHOSEN_BY_NAME["optimizer"].ours),
    "schedules": ("schedule.name", "schedule", CHOSEN_BY_NAME["schedule"].ours),
    "datasets": ("data.name", "data", CHOSEN_BY_NAME["data"].ours),
    "test_time_augmentations": ("evaluation.test_time_augmentation", "", VIEWS.ours),
}
"""By title: the field that chooses one, the section of the options, and the components by name."""


def lines(name: str = "") -> Iterable[str]:
    """Yield the lines of the catalogue: of everything, or of what is called `name`.

    Raises:
      UserError: nothing is called so.
    """
    components = {
        component: (title, function)
        for title, (_, _, functions) in _KINDS.items()
        for component, function in functions.items()
    }
    configs = {path.stem: path for path in config_file.shipped()}
    with_section = {
        f"{_KINDS[title][1]}.{component}": component for component, (title, _) in components.items()
    }
    name = Path(name).stem if name.endswith(".py") else with_section.get(name, name)
    above, _, option = name.rpartition(".")
    if not name:
        yield from _everything()
    elif found := {
        path: option
        for path, option in FIELDS.items()
        if name in ("fields", path) or path.startswith(f"{name}.")
    }:
        yield from _options(found, "")
    elif name in PRESETS:
        family, changes = PRESETS[name]
        yield f"{name}: --config.model.name={name}, {family} with"
        options = {option: known.default for option, known in options_of(MODELS[family]).items()}
        yield from _table(
            (option, _text(value)) for option, value in (options | dict(changes)).items()
        )
    elif name in components or name in configs:
        if name in configs:
            yield f"--config={name}: {_about_config(configs[name])}"
            yield from _changes(name)
        if name in components:
            title, function = components[name]
            _, section, _ = _KINDS[title]
            yield f"{name}, of the {title.replace('_', ' ')}: {_about(function)}"
            yield from _options(options_of(function) if section else {}, f"{section}.{name}.")
    elif above in with_section and option in (
        options := options_of(components[with_section[above]][1])
    ):
        yield from _options({option: options[option]}, f"{above}.")
    else:
        hint = did_you_mean(name, ["fields", *components, *PRESETS, *configs])
        raise UserError(
            f"there is nothing to list of {name!r}: {hint}`jaxcifar list` names the components and configs; "
            "`list fields`, `list data` and `list data.name` list all fields, a section and a field"
        )


def _everything() -> Iterable[str]:
    for title, (field, _, functions) in _KINDS.items():
        yield f"{title.replace('_', ' ')} ({flag('', field)})"
        yield from _table((name, _about(function)) for name, function in functions.items())
        if title == "models":
            yield f"  presets: {', '.join(PRESETS)}"
        if title == "datasets":
            yield "  any image-classification dataset of TFDS: cifar10, cifar100, svhn_cropped …"
        yield ""
    yield "configs (--config)"
    yield from _table((path.stem, _about_config(path)) for path in config_file.shipped())


def _about_config(path: Path) -> str:
    return _first(ast.get_docstring(ast.parse(path.read_text())) or "")


def _changes(name: str) -> Iterable[str]:
    """Yield the fields in which one of our configs differs from the default."""
    of = lambda config: {
        path: value
        for path, value in fields(config_file.load(config_file.find(config), config))
        if not isinstance(value, ConfigDict)
    }
    default = of("default")
    yield from (
        f"  {flag('', path)}={_text(value)}"
        for path, value in of(name).items()
        if default.get(path) != value
    )


def _options(options: Mapping[str, Option], prefix: str) -> Iterable[str]:
    """Yield a line for each option: its flag with the default, its range and its unit."""
    defaults = dict(fields(config_file.load(config_file.find("default"), "default")))
    yield from _table(
        (
            f"{flag('', prefix + name)}={_text(defaults.get(prefix + name, option.default))}",
            "; ".join(filter(None, [option.words, option.unit])),
        )
        for name, option in options.items()
    )


def _table(rows: Iterable[tuple[str, str]]) -> Iterable[str]:
    rows = list(rows)
    width = max((len(left) for left, _ in rows), default=0)
    return (f"  {left:{width}}  {right}".rstrip() for left, right in rows)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _about(function: Callable) -> str:
    return _first(inspect.getdoc(function) or "")


def _first(text: str) -> str:
    """Return the first paragraph, on one line."""
    return " ".join(text.partition("\n\n")[0].split())


def main(argv: list[str]) -> int:
    """Print the catalogue, and return the exit code."""
    _, *names = argv
    if names in (["--help"], ["-h"]):
        print(__doc__, end="")
        return 0
    try:
        for name in names or [""]:
            print("\n".join(lines(name)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    terminal.prepare()
    terminal.drop_what_cannot_be_written("stdout", "stderr")
    sys.exit(main(sys.argv))

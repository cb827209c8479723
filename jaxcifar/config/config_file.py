"""Config files: the flag that names one, and what can be wrong with it."""

import contextlib
import re
import runpy
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxcifar.errors import UserError, did_you_mean, first_line
from jaxcifar.host import compat


def define_flag(values: flags.FlagValues) -> None:
    """Define `--config` and the flags that change its fields."""
    config_flags.DEFINE_config_file(
        "config",
        help_string="file of the config, or the name of one of ours; --config.key=value changes it",
        lock_config=True,
        flag_values=values,
    )


_PACKAGE = Path(__file__).parents[1]
_BESIDE = _PACKAGE.parent / "configs"
SHIPPED = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _BESIDE
"""The configs of this project: in the package where it is installed, beside it in a clone."""


def find(named: str) -> str:
    """Return the file that `--config` names: by its path, or one of ours by its name alone.

    Raises:
      UserError: there is none.
    """
    path = Path(named)
    for ours in (SHIPPED / f"{named}.py", SHIPPED.parent / path):
        if not path.is_file() and ours.is_file() and ours.parent == SHIPPED:
            return str(ours)
    _check(path)
    return named


def shipped() -> list[Path]:
    """Return the files of our configs, in the order of their names."""
    return sorted(SHIPPED.glob("*.py"))


def _check(path: Path) -> None:
    """Check that a path names a Python file."""
    if ":" in str(path):
        raise UserError(
            f"--config={path}: ml_collections takes what follows a colon for an argument of get_config(): "
            "name a file whose path holds none"
        )
    if path.is_file() and path.suffix == ".py":
        return
    from jaxcifar.models import PRESETS  # takes a while

    ours = [file.stem for file in shipped()]
    folder = path.parent
    there = sorted(str(file) for file in folder.glob("*.py")) if folder.name else []
    hint = did_you_mean(str(path), [*there, *ours], form="{}")
    if path.stem in PRESETS:
        hint = f"{path.stem} is a preset, --config=default --config.model.name={path.stem}; "
    known = f"{folder} holds {', '.join(there) or 'no configs'}, and " if folder.name else ""
    if not folder.is_dir():
        known = f"there is no directory {folder} here; "
    raise UserError(f"--config={path} is no Python file: {hint}{known}ours are {', '.join(ours)}")


def load(file: str, name: str) -> ConfigDict:
    """Return the config in `file`, unchanged by flags.

    Args:
      file: its path, with what `get_config` takes after a colon.
      name: what errors call the file.

    Raises:
      UserError: the file cannot be run, or gives no config.
    """
    compat.let_config_flags_see(sys.argv[:1])
    values = flags.FlagValues()
    define_flag(values)
    try:
        with configs_found(Path(file)):
            values([__file__, f"--config={file}"])
    except SyntaxError as error:
        raise UserError(
            f"{error.filename} line {error.lineno} is no Python: {error.msg}"
        ) from error
    except Exception as error:
        text, line = str(error).strip(), _line_of(error, file)
        if key := re.search(r'Key "(\w+)" does not exist', text):
            near = re.search(r'Did you mean "(\w+)"', text)
            hint = f": did you mean {near[1]}?" if near else ""
            raise UserError(f"{name} sets a field {key[1]} that there is not{hint}") from error
        if "no attribute 'get_config'" in text and not line:
            raise UserError(f"{name} has no function get_config()") from error
        if isinstance(error, flags.Error):
            raise UserError(
                f"{name} is no config that can be used: {text.splitlines()[-1]}"
            ) from error
        if not line:
            raise
        raise UserError(
            f"{name} line {line}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(values.config, ConfigDict):
        raise UserError(f"{name}: get_config() returns no ConfigDict; it ends in `return config`")
    return values.config


def get_config(named: str) -> ConfigDict:
    """Return a config, to be changed and trained.

    Args:
      named: its file, or the name of one of ours, as `default`.

    Raises:
      UserError: there is none, or it has no function `get_config`.
    """
    file = find(named)
    with configs_found(Path(file)):
        make = runpy.run_path(file).get("get_config")
        if make is None:
            raise UserError(f"{named} has no function get_config()")
        return make()


@contextlib.contextmanager
def configs_found(file: Path) -> Iterator[None]:
    """Make the package `configs`, from which a config file imports others, hold those beside it, and ours.

    A directory or module `configs` in the working directory, which many projects have, would else hide ours.
    """
    hidden = {name: module for name, module in sys.modules.items() if _is_configs(name)}
    package = types.ModuleType("configs")
    beside = [file.resolve().parent] if file.resolve().parent.name == "configs" else []
    package.__path__ = [str(folder) for folder in [*beside, SHIPPED, Path.cwd() / "configs"]]
    for name in hidden:
        del sys.modules[name]
    sys.modules["configs"] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_configs(name)]:
            del sys.modules[name]
        sys.modules.update(hidden)


def _is_configs(module: str) -> bool:
    return module.partition(".")[0] == "configs"


def _line_of(error: Exception, file: str) -> int | None:
    """Return the line of `file` in which an error arose, None if it did not arise there."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        frame.lineno for frame in frames if Path(frame.filename).resolve() == Path(file).resolve()
    ]
    return lines[-1] if lines else None

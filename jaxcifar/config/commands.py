"""The command `jaxcifar`: `jaxcifar train` is `python -m jaxcifar.main`, and so on."""

import runpy
import sys

import jaxcifar
from jaxcifar.errors import did_you_mean
from jaxcifar.host.informative import code, known

_PROGRAMS = {
    "train": ("main", ()),
    "evaluate": ("main", ("--mode=evaluate",)),
    "predict": ("predict", ()),
    "report": ("report", ()),
    "list": ("config.catalogue", ()),
}
"""The module that does each command, and flags for it."""

HELP = """Train image classifiers, evaluate them, and predict with them.

  jaxcifar train --config=NAME [--workdir=DIR] [--config.key=value ...]
  jaxcifar evaluate --workdir=DIR [--step=N] [--config.key=value ...]
  jaxcifar predict --workdir=DIR IMAGE_OR_DIRECTORY ...
  jaxcifar report DIR [DIR ...]
  jaxcifar list [NAME]

train     trains, going on where the workdir stands, evaluates, and writes a report
evaluate  evaluates the newest checkpoint, or that of --step
predict   says what is on images; --json or --csv for programs
report    makes the report of a run again; of several runs, a page that compares them
list      names models, augmentations, optimisers, datasets, configs; of one of them, its options;
          of `fields`, or of a section as `data`, the keys of a config

--config  a file, or one of default, fast, folder, quick, resnet18, resnet8

For example:
  jaxcifar train --config=default --config.model.name=resnet18 --workdir=runs/resnet18
  jaxcifar train --config=folder --config.data.folder.path=photos --workdir=runs/photos
  jaxcifar predict --workdir=runs/photos IMG_0007.jpg

`jaxcifar COMMAND --help` lists the flags of a command; `jaxcifar --version` prints the version.
"""


def main() -> int:
    """Run what the command line names, and return the exit code."""
    command, *rest = sys.argv[1:] or [""]
    if command in ("--help", "-h", "help", ""):
        print(HELP, end="")
        return 0 if command else 2
    if command == "--version":
        print(known(code) or jaxcifar.__version__)
        return 0
    if command.startswith("-"):
        command, rest = "train", [command, *rest]
    if command not in _PROGRAMS:
        hint = did_you_mean(command, _PROGRAMS)
        line = f"there is no command {command!r}: {hint}they are {', '.join(_PROGRAMS)}"
        print(f"error: {line}", file=sys.stderr)
        return 2
    program, flags = _PROGRAMS[command]
    sys.argv[1:] = [*flags, *rest]
    # As `python -m` does, so that a process is the same however it was started.
    runpy.run_module(f"jaxcifar.{program}", run_name="__main__", alter_sys=True)
    return 0

"""Train and evaluate image classifiers.

python -m jaxcifar.main --config=configs/default.py --workdir=DIR [--config.key=value ...]
python -m jaxcifar.main --workdir=DIR --mode=evaluate
"""

import difflib
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxcifar import saved_config
from jaxcifar.errors import UserError
from jaxcifar.laps import Laps


def define_flags() -> flags.FlagValues:
    """Return the flags of this program, not yet parsed."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        help_string="file of the config, e.g. configs/default.py; --config.key=value changes a field",
        lock_config=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "directory of the run; by default runs/ and the config's name",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "evaluate"],
        "train: from images to an evaluated checkpoint, going on from where the workdir stands; "
        "evaluate: the newest checkpoint in the workdir, whose config it uses",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "extend",
        False,
        "go on with a run under another --config.num_epochs, and so under another schedule",
        flag_values=values,
    )
    flags.DEFINE_bool("help", False, "show this", short_name="h", flag_values=values)
    return values


def parse(argv: list[str]) -> flags.FlagValues:
    """Parse the command line.

    Returns:
      The flags' values, `workdir` among them always, and the config unless help is asked for.

    Raises:
      UserError: something on the command line is wrong.
    """
    given = flags.FlagValues()
    for name in ("config", "workdir", "mode"):
        flags.DEFINE_string(name, None, "", flag_values=given)
    flags.DEFINE_bool("help", False, "", short_name="h", flag_values=given)
    try:
        given(argv, known_only=True)
        if given.help:
            return given
        file, workdir = given.config, given.workdir
        if file is not None:
            _check_is_file(Path(file))
            workdir = workdir or f"runs/{Path(file).stem}"
        elif given.mode == "evaluate":
            _check_holds_run(workdir)
            file = f"{saved_config.__file__}:{workdir}"
            argv = [argv[0], f"--config={file}", *argv[1:]]
        else:
            raise UserError(
                "--config is missing, the file that says what to train: --config=configs/default.py, "
                "or --config=configs/quick.py to try things out without a dataset"
            )
        values = define_flags()
        # config_flags looks for --config.key=value in sys.argv, whatever it is given to parse.
        sys.argv = argv
        stray = values(argv)[1:]
    except (AttributeError, KeyError, TypeError) as error:
        raise _explain_override(argv, file, error) from error
    except flags.Error as error:
        raise UserError(f"{str(error).splitlines()[0]} (--help lists the flags)") from error
    if stray:
        raise UserError(f"{stray[0]!r} belongs to no flag: flags are written --name=value")
    values.workdir = workdir
    return values


def main(argv: list[str]) -> int:
    """Run the program and return its exit code."""
    laps = Laps()
    try:
        values = parse(argv)
        if values.help:
            print(__doc__ + define_flags().get_help(include_special_flags=False), end="")
            return 0
        workdir = Path(values.workdir)
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"--workdir={workdir} is a file: name a directory")
        from jaxcifar import train

        if values.mode == "train":
            evaluation = train.train(values.config, workdir, extend=values.extend, laps=laps)
        else:
            evaluation = train.evaluate_newest(values.config, workdir)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the newest checkpoint", file=sys.stderr)
        return 130
    print(
        f"{evaluation['split']}: accuracy {evaluation['accuracy']:.2%} "
        f"({evaluation['correct']:,} of {evaluation['examples']:,}), loss {evaluation['loss']:.4f}, "
        f"step {evaluation['step']}; {workdir / 'evaluation.json'}"
    )
    return 0


def _check_is_file(path: Path) -> None:
    if path.is_file():
        return
    folder = path.parent if path.parent.is_dir() else Path("configs")
    known = sorted(str(file) for file in folder.glob("*.py"))
    near = difflib.get_close_matches(str(path), known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    there = f"{folder} holds {', '.join(known)}" if known else f"{folder} holds no configs"
    raise UserError(f"--config={path} is no file: {hint}{there}")


def _check_holds_run(workdir: str | None) -> None:
    if workdir is None:
        raise UserError("--mode=evaluate needs --workdir=DIR, the directory of a run to evaluate")
    if not (Path(workdir) / "config.json").is_file():
        raise UserError(
            f"--workdir={workdir} holds no run to evaluate: train one with python -m jaxcifar.main "
            f"--config=configs/default.py --workdir={workdir}, or name the directory of a run"
        )


def _explain_override(argv: list[str], file: str, error: Exception) -> Exception:
    """Return the error for the first `--config.key` that is no field of the config in `file`."""
    sys.argv = argv[:1]
    alone = define_flags()
    alone([argv[0], f"--config={file}"])
    known = list(_fields(alone.config))
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0]
        name = name.removeprefix("no") if name.startswith("noconfig.") else name
        path = name.removeprefix("config.")
        if name.startswith("config.") and path not in known:
            near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
            hint = f"did you mean --config.{near[0]}? " if near else ""
            return UserError(f"--{name}: the config has no such field; {hint}all are in {file}")
    return error


def _fields(config: ConfigDict, prefix: str = ""):
    for name, value in config.items():
        yield prefix + name
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{prefix}{name}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""Train and evaluate image classifiers, and report on them.

python -m jaxcifar.main --config=configs/default.py --workdir=DIR [--config.key=value ...]
python -m jaxcifar.main --workdir=DIR --mode=evaluate [--step=N] [--config.key=value ...]
python -m jaxcifar.main --workdir=DIR --mode=report
"""

import os
import sys
from pathlib import Path

from jaxcifar.command_line import define_flags, parse
from jaxcifar.errors import UserError
from jaxcifar.laps import Laps


def main(argv: list[str]) -> int:
    """Run the program and return its exit code."""
    laps = Laps()
    try:
        values = parse(argv)
        if values.help:
            print(__doc__ + define_flags().get_help(include_special_flags=False))
            return 0
        workdir = Path(values.workdir)
        _check_writable(workdir)
        if values.mode == "report":
            _report(workdir)
            return 0
        from jaxcifar import train

        if values.mode == "train":
            evaluation = train.train(values.config, workdir, extend=values.extend, laps=laps)
        else:
            evaluation = train.evaluate(values.config, workdir, values.step)
        _print(evaluation)
        _report(workdir)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; the same command goes on from the newest checkpoint, if there is one",
            file=sys.stderr,
        )
        return 130
    return 0


def _report(workdir: Path) -> None:
    from jaxcifar import report

    print(f"report: {report.write_report(workdir)}")


def _print(evaluation: dict) -> None:
    for name, augmented in evaluation["test_time_augmentation"].items():
        print(
            f"{evaluation['split']} under test-time augmentation ({name}): accuracy "
            f"{augmented['accuracy']:.2%}, loss {augmented['loss']:.4f}"
        )
    print(
        f"{evaluation['split']}: accuracy {evaluation['accuracy']:.2%} "
        f"({evaluation['correct']:,} of {evaluation['examples']:,}), loss {evaluation['loss']:.4f}, "
        f"step {evaluation['step']}"
    )


def _check_writable(workdir: Path) -> None:
    """Check that `workdir` is a directory that can be written to, or can become one."""
    there = next(
        path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists()
    )
    if not there.is_dir():
        raise UserError(f"--workdir={workdir}: {there} is a file: name a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"--workdir={workdir}: {there} cannot be written to: name another directory"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv))

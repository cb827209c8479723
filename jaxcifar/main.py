"""Train image classifiers, and evaluate them.

jaxcifar train --config=NAME [--workdir=DIR] [--config.key=value ...]
jaxcifar train --workdir=DIR
jaxcifar evaluate --workdir=DIR [--step=N] [--config.key=value ...]

`python -m jaxcifar.main` is `jaxcifar train`, and with --mode=evaluate `jaxcifar evaluate`. `jaxcifar list
fields` names the keys of a config, and `jaxcifar list` what they choose between.
"""

import errno
import gc
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from jaxcifar.errors import UserError, first_line
from jaxcifar.host import output, terminal, waiting
from jaxcifar.host.files import existing
from jaxcifar.host.laps import Laps
from jaxcifar.host.signals import Stopped, Stopping


def main(argv: list[str]) -> int:
    """Run the program and return its exit code."""
    laps = Laps()
    stopping = Stopping()
    from jaxcifar.config.command_line import define_flags, parse  # takes a while
    from jaxcifar.config.flag_help import help_of

    # Before the other flags are parsed, whose errors are printed in this format too.
    output.choose("json" if "--log_format=json" in argv else "text")
    try:
        values = parse(argv)
        if values.help:
            leave_out = ("extend", "mode", "profile") if values.mode == "evaluate" else ("step",)
            print(f"{__doc__}{help_of(define_flags(), leave_out)}", end="")
            return 0
        output.choose(values.log_format)
        workdir = Path(values.workdir)
        _check_writable(workdir)
        if values.mode == "report":
            _report(workdir)
            return 0
        waiting.show("" if values.distributed else "importing JAX")
        if evaluated := _run(values, workdir, laps, stopping):
            waiting.show("")
            _print(*evaluated, trained=values.mode == "train")
            laps.end("evaluation", "writing the report")
            _report(workdir, laps if values.mode == "train" else None)
    except UserError as error:
        return _end("error", str(error), 2)
    except OSError as error:
        if error.errno not in _NO_FAULT_OF_THE_PROGRAM:
            raise
        again = "mend that, and the same command goes on from the newest checkpoint"
        return _end("error", f"a file of the run cannot be written or read ({error}): {again}", 2)
    except Stopped as stopped:
        return _end("stopped", str(stopped), stopped.exit_code)
    finally:
        waiting.show("")
    return 0


_NO_FAULT_OF_THE_PROGRAM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE),
)
"""Errors of a disk that is full, not writable or gone."""


def _run(values: Any, workdir: Path, laps: Laps, stopping: Stopping) -> tuple[Path, dict] | None:
    import jax

    from jaxcifar.config.command_line import overridden
    from jaxcifar.config.reader import read_config
    from jaxcifar.config.unused_flags import without_effect
    from jaxcifar.devices import processes
    from jaxcifar.evaluation import run_evaluation
    from jaxcifar.host import compat
    from jaxcifar.training import run

    gc.freeze()  # later garbage collections skip what was imported
    compat.say_nothing_after_a_failed_save()
    training = values.mode == "train"
    if values.distributed:
        where = (values.coordinator_address, values.num_processes, values.process_id)
        processes.connect(*where, training=training)
        if training:
            stopping.leave_to_jax()
    try:
        # Not earlier, since this imports the user's modules, which may start JAX.
        settings = read_config(values.config)
        with waiting.hidden():
            for line in without_effect(overridden(values), values.config):
                output.say(line)
        if training:
            return run.train(
                settings,
                workdir,
                extend=values.extend,
                profile=values.profile,
                laps=laps,
                stopping=stopping,
                meanwhile=_import_report,
            )
        waiting.show("" if values.distributed else "evaluating")
        return run_evaluation.evaluate(settings, workdir, values.step)
    except Stopped:
        if values.distributed and training:
            jax.distributed.shutdown()  # all stop together; else the others take the first for lost
        raise
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise UserError(
                f"the devices have too little memory for this run ({first_line(error)}): "
                "lower --config.batch_size, the widths of the model or, if the images do not fit, "
                "--config.data.image_size or the part of the split that is read"
            ) from error
        if not values.distributed:
            raise
        raise UserError(
            f"another process of this run has ended or cannot be reached ({first_line(error)}): "
            "start all of them again with the same commands, and they go on from the newest checkpoint"
        ) from error


def _end(kind: str, line: str, exit_code: int) -> int:
    waiting.show("")
    output.complain(kind, " ".join(line.split()))
    return exit_code


def _import_report() -> None:
    from jaxcifar.report import run_report  # noqa: F401, takes a while


def _report(workdir: Path, laps: Laps | None = None) -> None:
    from jaxcifar.report import run_report

    page = run_report.write_report(workdir)
    waiting.show("")
    if laps:
        laps.end("report")
        laps.report_end(output.say)
    output.say(f"report: {page}")


def _print(folder: Path, evaluation: dict, *, trained: bool) -> None:
    from jaxcifar.evaluation import result_lines
    from jaxcifar.host.progress import warn

    if output.is_json():
        output.emit("evaluation", result_lines.summary(evaluation))
    else:
        output.say("\n".join(result_lines.scores(evaluation)))
    if fault := result_lines.fault(evaluation, trained=trained):
        warn(fault)
    output.say(f"evaluation: {folder / 'evaluation.json'}")


def _check_writable(workdir: Path) -> None:
    """Check that `workdir` is a writable directory, or can be made as one."""
    there = existing(workdir)
    if not there.is_dir():
        raise UserError(f"--workdir={workdir}: {there} is a file: name a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"--workdir={workdir}: {there} cannot be written to: name another directory, or copy a run to "
            "where you may write"
        )


if __name__ == "__main__":
    terminal.prepare()
    terminal.drop_what_cannot_be_written("stdout", "stderr")
    try:
        code = main(sys.argv)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    gc.freeze()  # else the interpreter searches half a million objects at its exit
    if code:
        # Exit at once, without waiting for background compilation, for other processes of the run, or for
        # output that cannot be written.
        sys.stderr.flush()
        os._exit(code)

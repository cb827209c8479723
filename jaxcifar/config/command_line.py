"""The command line: its flags, the config they name, and what can be wrong with either."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxcifar.config import config_file, saved_config
from jaxcifar.config.fields import check_overrides, fields
from jaxcifar.config.flag_help import definers, explain_error
from jaxcifar.errors import UserError, did_you_mean
from jaxcifar.host import compat, output
from jaxcifar.host.files import expanded, near_runs

_MODES = ["train", "evaluate", "report"]
_WHAT_MODES_DO = (
    "train: from images to an evaluated checkpoint, going on from where the workdir stands; evaluate: a "
    "checkpoint in the workdir, under its config if none is given; report: make the report again from "
    "what lies in the workdir, be it of a run that still goes on"
)


def define_flags() -> flags.FlagValues:
    """Return the flags of this program, not yet parsed."""
    values = flags.FlagValues()
    config_file.define_flag(values)
    text, number, switch = definers(values)
    text("workdir", None, "directory of the run; by default runs/ and the config's name")
    flags.DEFINE_enum("mode", "train", _MODES, _WHAT_MODES_DO, flag_values=values)
    formats = "on standard output: lines for a person, or a JSON object a line"
    flags.DEFINE_enum("log_format", "text", output.FORMATS, formats, flag_values=values)
    number("step", None, "evaluate the checkpoint of this step; by default the newest")
    switch(
        "extend",
        False,
        "go on with a run under a larger --config.num_epochs, and so under another schedule",
    )
    profiled = "profile the whole dispatches that cover this many steps after the first dispatch"
    number("profile", None, profiled, lower_bound=1)
    switch(
        "distributed",
        False,
        "this process is one of several that train or evaluate together; JAX finds the others where "
        "Slurm, Kubernetes, Open MPI or Cloud TPU say who they are, else the next three flags do",
    )
    address = (
        "with --distributed: host and port of process 0, e.g. 10.0.0.1:1234; on a Cloud TPU whose firewall "
        "closes JAX's default port, worker 0's internal address and :8476, without the next two"
    )
    text("coordinator_address", None, address)
    number("num_processes", None, "with --distributed: how many there are", lower_bound=1)
    number("process_id", None, "with --distributed: which one this is, from 0", lower_bound=0)
    switch("help", False, "show this", short_name="h")
    return values


def parse(argv: list[str]) -> flags.FlagValues:
    """Parse the command line.

    Returns:
      The flags' values, `workdir` among them always, and the config unless help is asked for.

    Raises:
      UserError: something on the command line is wrong.
    """
    given = flags.FlagValues()
    text, _, switch = definers(given)
    for name in ("config", "workdir", "mode"):
        text(name, None, "")
    switch("help", False, "", short_name="h")
    config = ConfigDict()
    try:
        rest = given(argv, known_only=True)[1:]
        if given.help:
            return given
        for before, word in zip(["", *rest], rest):
            is_value = before.startswith("-") and "=" not in before
            if word in _MODES and not is_value:
                raise UserError(f"{word!r} is a mode: write --mode={word}")
        file, workdir = given.config, given.workdir and str(expanded(given.workdir))
        if file is not None:
            workdir = workdir or f"runs/{Path(file).stem}"
            config_name, file = file, config_file.find(file)
            argv = list(_with_config(argv, file))
        else:
            _check_holds_run(workdir, given.mode)
            file, config_name = f"{saved_config.__file__}:{workdir}", f"{workdir}/config.json"
            argv = [argv[0], f"--config={file}", *argv[1:]]
        config = config_file.load(file, config_name)
        check_overrides(argv, config, config_name)
        values = define_flags()
        compat.let_config_flags_see(argv)
        with config_file.configs_found(Path(file)):  # the file is run again
            stray = values(argv)[1:]
    except flags.Error as error:
        raise explain_error(error, define_flags(), config) from error
    if stray:
        hint = did_you_mean(stray[0], ("train", "evaluate", "predict", "report", "list"))
        raise UserError(f"{stray[0]!r} belongs to no flag: {hint}flags are written --name=value")
    if values.step is not None and values.mode != "evaluate":
        raise UserError(f"--step={values.step} names a checkpoint to evaluate: add --mode=evaluate")
    if values.extend and values.mode != "train":
        raise UserError(f"--extend goes on with a run: leave --mode={values.mode} out, or --extend")
    if values.profile is not None and values.mode != "train":
        line = f"--profile={values.profile} is for training"
        raise UserError(f"{line}: leave --mode={values.mode} out, or --profile")
    _check_distributed(values)
    _read_preset(values, of_a_run=given.config is None)
    if given.config is None:
        _drop_options_of_another_dataset(values.config, config)
    elif values.mode != "report":
        from jaxcifar.config.reader import check_what_is_not_chosen  # takes a while

        check_what_is_not_chosen(values.config)
    values.workdir = workdir
    return values


def overridden(values: flags.FlagValues) -> dict[str, Any]:
    """Return the fields of the config that flags set, by dotted path."""
    return config_flags.get_override_values(values["config"])


def _with_config(argv: list[str], file: str) -> Iterator[str]:
    """Yield the command line with `file` for the value of `--config`."""
    words = iter(argv)
    for word in words:
        if word in ("--config", "-config"):
            next(words)
            yield f"--config={file}"
        else:
            yield f"--config={file}" if word.startswith(("--config=", "-config=")) else word


def _read_preset(values: flags.FlagValues, *, of_a_run: bool) -> None:
    """Check flags against the preset that the config names; set it in the config of an earlier run."""
    overrides = overridden(values)
    if any(name.startswith("model.") for name in overrides):
        from jaxcifar.config import presets  # takes a while

        presets.check_flags(str(values.config.model.get("name")), overrides)
        if of_a_run:
            presets.take_preset(values.config, overrides)


def _drop_options_of_another_dataset(config: Any, saved: ConfigDict) -> None:
    """Drop `data.options`, which are for the dataset of `saved`, if flags name another dataset."""
    now, before = dict(fields(config)), dict(fields(saved))
    if "data.options" in now and now["data.name"] != before["data.name"]:
        with config.unlocked():
            del config.data.options


def _check_distributed(values: flags.FlagValues) -> None:
    names = ("coordinator_address", "num_processes", "process_id")
    given = {name: values[name].value for name in names if values[name].value is not None}
    if values.distributed and values.mode == "report":
        raise UserError("--mode=report needs no other process: leave --distributed out")
    if given and not values.distributed:
        name, value = next(iter(given.items()))
        raise UserError(f"--{name}={value} is for one of several processes: add --distributed")
    if not given:
        return
    missing = [f"--{name}" for name in names if name not in given]
    # The address alone says where JAX listens when it finds the other processes itself.
    if missing and given.keys() != {"coordinator_address"}:
        raise UserError(
            f"{' and '.join(missing)} must be given too where --{next(iter(given))} is; where JAX can find "
            "them out, none of the three, or the address alone"
        )
    host, _, port = values.coordinator_address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(
            f"--coordinator_address={values.coordinator_address}: it must be a host and a port from 1 "
            "to 65535, as 10.0.0.1:1234"
        )
    if not missing and values.process_id >= values.num_processes:
        raise UserError(
            f"--process_id={values.process_id}: it must be below --num_processes="
            f"{values.num_processes}"
        )


def _check_holds_run(workdir: str | None, mode: str | None) -> None:
    """Check that there is a run to go on with, to evaluate or to report on, where no config is named."""
    holds_run = workdir is not None and (Path(workdir) / "config.json").is_file()
    if mode not in ("evaluate", "report"):
        if not holds_run:
            there = (
                "" if workdir is None else f", and --workdir={workdir} holds no run to go on with"
            )
            raise UserError(
                f"--config is missing, the file that says what to train{there}: "
                "--config=default for CIFAR-10, --config=folder for images of your own, or --config=quick to "
                "try things out without a dataset"
            )
        return
    if workdir is None:
        raise UserError(f"--workdir=DIR is missing, the directory of a run to {mode}")
    if not holds_run:
        raise UserError(
            f"--workdir={workdir} holds no run to {mode}: {near_runs(Path(workdir))}train with --config=NAME "
            f"--workdir={workdir}, or name the directory of a run"
        )

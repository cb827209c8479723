"""A training run from its start to its end: set up, restore, loop, evaluate."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from jaxcifar.config import checks, components
from jaxcifar.config.schema import Config
from jaxcifar.data.datasets import Dataset, was_read_otherwise
from jaxcifar.data.facts import DataFacts
from jaxcifar.evaluation.evaluation_files import write_evaluation
from jaxcifar.evaluation.inside import looker
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.evaluation.threshold import decision
from jaxcifar.experiment import agreement
from jaxcifar.experiment.build import class_weights
from jaxcifar.experiment.saved_run import SavedRun
from jaxcifar.experiment.setup import Setup, load_split, set_up, start_layout
from jaxcifar.host import waiting
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import sole_writer, write_arrays, write_json
from jaxcifar.host.laps import Laps
from jaxcifar.host.metrics_log import Logger, MetricsLog
from jaxcifar.host.output import counted
from jaxcifar.host.progress import Progress, Silent
from jaxcifar.host.signals import Stopping
from jaxcifar.training import data_overview, overview
from jaxcifar.training.background import Background, draw_augmented
from jaxcifar.training.loop import Loop
from jaxcifar.training.profile import Profiler
from jaxcifar.training.recorder import Interval, Recorder
from jaxcifar.training.saver import Saver
from jaxcifar.training.stepper import Stepper


def train(  # noqa: PLR0913, what main knows
    config: Config,
    workdir: Path,
    *,
    extend: bool,
    profile: int | None,
    laps: Laps,
    stopping: Stopping,
    meanwhile: Callable[[], None],
) -> tuple[Path, dict] | None:
    """Train to the end, from the newest whole checkpoint in `workdir` if there is one.

    Args:
      config: of the run.
      workdir: where everything is written; until all checks have passed, only a lock is.
      extend: whether `config.num_epochs` may exceed the epochs of the run in `workdir`.
      profile: how many steps are profiled, see `Profiler`.
      laps: the clock that was started with the program.
      stopping: tells when to stop.
      meanwhile: called in another thread while the run trains.

    Returns:
      `workdir`, and the contents of its `evaluation.json`, see `evaluation_files.write_evaluation`; None in
      all processes but the first, which alone writes.

    Raises:
      UserError: the config, the data, the devices and the workdir do not go together, the loss is
        not finite, or a checkpoint cannot be written.
      Stopped: by a signal; what was computed is saved.
    """
    loggers = components.loggers(config.logging.loggers)
    laps.end("imports", "starting the devices")
    layout = start_layout(config)
    if not layout.leads:
        waiting.silence()
    checks.check_devices(config, len(layout.devices))
    with contextlib.ExitStack() as stack:
        if layout.leads:
            stack.enter_context(sole_writer(workdir))
        checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
        stack.enter_context(contextlib.closing(checkpoints))
        saved = SavedRun.find(checkpoints, workdir)
        agreement.check_same_config(config, saved, workdir, extend=extend)
        if layout.leads:
            agreement.warn_of_changed_modules(config, saved.description)
        laps.end("devices", "reading the data")

        def check(train: Dataset, facts: DataFacts) -> None:
            of_tfds = not config.data.component
            read_otherwise = lambda: of_tfds and was_read_otherwise(train, config.data.data_dir)
            agreement.check_same_data(facts, saved, workdir, read_otherwise)

        setup, dataset = set_up(config, layout, check)
        laps.end("data", "tracing the training step")
        dispatch = saved.steps_per_dispatch(config.logging.every_steps)
        stepper = Stepper(setup, dataset, dispatch, saved.step)
        laps.end("training program", "reading the held-out data")
        held_out = load_held_out(config, dataset)
        laps.end("held-out data", "making the parameters")

        agreement.check_processes_agree(config, setup.experiment.facts, saved, profile)
        if saved.step:
            checkpoints.tidy(saved.damaged, saved.description["config"]["checkpoint"]["keep"])
        restored = setup.restored_state(checkpoints, saved.step) if saved.step else None
        stepper.begin(restored)
        laps.end("state", "summing up the data")
        evaluators = {name: Evaluator(setup, split) for name, split in held_out.items()}
        augmented = evaluators["test"].augmented()
        progress, recorder = _start_recording(setup, stepper, saved, workdir, laps, loggers)
        if layout.leads:
            _describe_data(setup, {"train": dataset} | held_out, workdir, progress.say)
        saver = Saver(checkpoints, layout, progress.say, saved.step)
        laps.end("overview", "compiling")

        if layout.rows_per_dispatch > 1:  # to compile and import nothing between two steps
            for evaluator in (*evaluators.values(), *augmented.values()):
                evaluator.prepare(stepper.state)()
            saver.prepare(stepper.state)
            laps.end("other programs", "compiling the training step")
        background = stack.enter_context(contextlib.closing(Background()))
        if jax.process_count() == 1:
            background.submit(checkpoints.prepare)
        drawn = background.submit(draw_augmented, setup, dataset)
        background.submit(meanwhile)
        stepper.wait_until_compiled()
        laps.end("compilation", "training the first steps")
        if profile is not None:  # so that it shows only the steps
            background.finish()
        profiler = Profiler(profile, workdir, layout, progress.say)
        loop = Loop(setup, stepper, recorder, evaluators, saver, profiler, stopping, background)
        evaluated = loop.run(workdir)
        laps.end("training", "evaluating")

        state = stepper.state
        answers = evaluated["test"] if evaluated else evaluators["test"](state)
        chosen = decision(
            setup.experiment.facts.class_counts,
            held_out.get("validation"),
            lambda _: evaluated.get("validation") or evaluators["validation"](state),
        )
        answers_to_views = {name: views(state) for name, views in augmented.items()}
        if not layout.leads:
            return None
        write_arrays(workdir / "augmentation.npz", **drawn.result())
        step, test = int(state.step), held_out["test"]
        look = looker(setup, state)
        return workdir, write_evaluation(
            workdir, test, answers, answers_to_views, step, look=look, **chosen
        )


def _start_recording(
    setup: Setup,
    stepper: Stepper,
    saved: SavedRun,
    workdir: Path,
    laps: Laps,
    loggers: Sequence[Logger],
) -> tuple[Progress | Silent, Recorder]:
    """Write and print a summary of the run and its progress; return the progress display and the recorder."""
    config, experiment = setup.config, setup.experiment
    rates = overview.learning_rates(setup)
    summary = overview.summarise(setup, stepper.state, rates)
    log, progress = Silent(), Silent()
    if setup.layout.leads:
        trains = saved.step < experiment.total_steps
        started = [overview.this_start(saved.step)] if trains else []
        summary["starts"] = [*saved.starts, *started]
        write_json(workdir / "config.json", config.whole)
        write_json(workdir / "run.json", summary)
        log = MetricsLog(workdir, last_step=saved.step, loggers=loggers)
        progress = Progress(
            epochs=config.num_epochs,
            images_per_epoch=experiment.steps_per_epoch * config.batch_size,
            images_done=saved.step * config.batch_size,
        )
    interval = Interval(**saved.description["interval"] if saved.unrecorded else {})
    recorder = Recorder(rates, experiment.steps_per_epoch, log, progress, laps, interval)
    if not saved.step:
        progress.say(overview.table_of_parameters(stepper.state))
    progress.say(overview.describe(summary))
    if config.schedule.warmup_epochs >= config.num_epochs:
        progress.say(
            f"the warm-up takes the whole run ({counted(config.num_epochs, 'epoch')}), so that the learning "
            "rate never falls: --config.schedule.warmup_epochs=0.2 begins sooner"
        )
    if saved.step == experiment.total_steps:
        progress.say(f"{workdir} is finished: all {saved.step} steps are done")
    elif saved.step:
        progress.say(f"going on from step {saved.step} of {experiment.total_steps} in {workdir}")
    elif saved.records:
        progress.say(f"{workdir} holds no checkpoint: its run begins anew")
    return progress, recorder


def _describe_data(
    setup: Setup, splits: Mapping[str, Dataset], workdir: Path, say: Callable[[str], None]
) -> None:
    """Write and print a summary of the run's data, and warn of faults in the data."""
    config, train = setup.config, splits["train"]
    summary = data_overview.summarise(setup.experiment.facts, splits)
    write_json(workdir / "data.json", summary)
    write_arrays(workdir / "data.npz", **data_overview.examples(train))
    unused = data_overview.describe_unused(config, len(train), len(setup.layout.devices))
    weights = class_weights(config, setup.experiment.facts)
    balance = data_overview.describe_balance(config.sampling, train, weights)
    for lines in filter(None, (data_overview.describe(summary), balance, unused)):
        say(lines)
    data_overview.warn_of_faults(summary)


def load_held_out(config: Config, train: Dataset) -> dict[str, Dataset]:
    """Load `test`, and `validation` if the config has one.

    Raises:
      UserError: a split cannot be loaded, or overlaps another.
    """
    held_out = {
        name: load_split(config, f"{name}_split")
        for name in ("validation", "test")
        if getattr(config.data, f"{name}_split")
    }
    parts = {f"{name}_split": split.parts for name, split in held_out.items()}
    checks.check_disjoint(config, {"train_split": train.parts} | parts)
    return held_out

"""The recipe: build, restore, loop, evaluate, save."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxcifar.augment.augmentations import Examples
from jaxcifar.config import checks
from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.parallel import Layout, OverRows
from jaxcifar.evaluation.checkpoint_evaluation import evaluate_augmented
from jaxcifar.evaluation.evaluator import Evaluator, write_evaluation
from jaxcifar.experiment import build as experiments
from jaxcifar.experiment import restore
from jaxcifar.experiment.build import Experiment
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import read_records, sole_writer, write_arrays, write_json
from jaxcifar.host.laps import Laps
from jaxcifar.host.progress import MetricsLog, Progress, Silent
from jaxcifar.host.signals import Stopping
from jaxcifar.step.order import Interval, epoch_order
from jaxcifar.step.steps import on_rows
from jaxcifar.training import overview
from jaxcifar.training.loop import Trainer


def train(
    config: ConfigDict, workdir: Path, *, extend: bool, laps: Laps, stopping: Stopping
) -> dict | None:
    """Train to the end, from the newest whole checkpoint in `workdir` if there is one.

    Args:
      config: whole.
      workdir: where everything is written; nothing is, until all that can be checked has been.
      extend: whether `config.num_epochs` may be larger than that of the run in `workdir`.
      laps: the clock that was started with the program.
      stopping: has taken the signals.

    Returns:
      What it wrote to `evaluation.json`, see `evaluate.write_evaluation`; None in the processes that
      write nothing, all but the first of several.

    Raises:
      UserError: the config, the data, the devices and the workdir do not go together, the loss is
        not finite, or a checkpoint cannot be written.
      Stopped: by a signal; what was computed is saved.
    """
    laps.end("imports")
    experiments.check(config)
    layout = experiments.start_layout(config)
    checks.check_devices(config, len(layout.devices))
    with contextlib.ExitStack() as stack:
        if layout.leads:
            stack.enter_context(sole_writer(workdir))
        checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
        stack.enter_context(contextlib.closing(checkpoints))
        return _train(config, workdir, layout, checkpoints, extend, laps, stopping)


def _train(
    config: ConfigDict,
    workdir: Path,
    layout: Layout,
    checkpoints: Checkpoints,
    extend: bool,
    laps: Laps,
    stopping: Stopping,
) -> dict | None:
    step, damaged = restore.newest_whole(checkpoints, workdir)
    saved = checkpoints.description(step) if step else None
    if saved:
        restore.check_same_run(config, saved["config"], workdir, extend=extend)
    laps.end("devices")

    dataset = experiments.load_split(config, "train_split")
    facts = experiments.facts_of(config, dataset)
    if saved:
        restore.check_same_data(facts, saved["facts"], workdir)
    laps.end("data")

    experiment = experiments.build(config, facts, layout)
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    beginning = (init_key, dataset.images[:1000])
    init = layout.traced(experiment.init_state, *beginning)
    program = OverRows(on_rows(experiment.train_step), layout, updates_state=True)
    background = ThreadPoolExecutor(1)
    compilation = background.submit(
        program.compile,
        init.out_info,
        (dataset.images, dataset.labels),
        epoch_order(config.seed, 0, len(dataset), config.batch_size),
        train_key,
    )
    background.shutdown(wait=False)
    held_out = load_held_out(config, dataset)
    laps.end("held-out data")

    records = read_records(workdir / "metrics.jsonl")
    recorded = any(record["step"] == step for record in records)
    restore.check_processes_agree(config, facts, step, recorded)
    if damaged:
        checkpoints.set_aside(damaged)
    if saved:
        state = restore.restore_state(checkpoints, step, experiment, layout)
    else:
        state = init.lower().compile()(*beginning)
    train_key, data = layout.place((train_key, (dataset.images, dataset.labels)))
    all_steps = np.arange(experiment.total_steps)
    summary = overview.summarise(experiment, state, layout)
    log, progress = Silent(), Silent()
    if layout.leads:
        write_json(workdir / "config.json", restore.as_json(config))
        write_json(workdir / "run.json", summary)
        log = MetricsLog(workdir, last_step=step)
        progress = Progress(
            epochs=config.num_epochs,
            images_per_epoch=experiment.steps_per_epoch * config.batch_size,
            images_done=step * config.batch_size,
        )
    learning_rates = np.asarray(layout.run_once(jax.vmap(experiment.schedule), all_steps))
    evaluators = {
        name: Evaluator(experiment.evaluation_step, split, layout, config.evaluation.batch_size)
        for name, split in held_out.items()
    }
    progress.say(overview.describe(summary, state))
    if step == experiment.total_steps:
        progress.say(f"{workdir} is finished: all {step} steps are done")
    elif step:
        progress.say(f"going on from step {step} of {experiment.total_steps} in {workdir}")
    elif records:
        progress.say(f"{workdir} holds no checkpoint: its run begins anew")
    laps.end("set-up")
    compilation.result()

    trainer = Trainer(
        config=config,
        workdir=workdir,
        experiment=experiment,
        layout=layout,
        program=program,
        data=data,
        key=train_key,
        learning_rates=learning_rates,
        evaluators=evaluators,
        state=state,
        step=step,
        interval=Interval(**saved["interval"]) if saved and not recorded else Interval(),
        checkpoints=checkpoints,
        log=log,
        progress=progress,
        laps=laps,
        stopping=stopping,
    )
    evaluated = trainer.run()

    state, test = trainer.state, held_out["test"]
    augmentation = draw_augmented(config, experiment, dataset, layout)
    answers = evaluated["test"] if evaluated else trainer.evaluators["test"](state)
    augmented = evaluate_augmented(config, experiment, state, test, layout)
    if not layout.leads:
        return None
    write_arrays(workdir / "augmentation.npz", **augmentation)
    return write_evaluation(
        workdir,
        answers,
        dataset=test,
        augmented=augmented,
        name=config.data.name,
        split=config.data.test_split,
        step=trainer.step,
    )


def load_held_out(config: ConfigDict, train: Dataset) -> dict[str, Dataset]:
    """Load `test`, and `validation` if the config has one.

    Raises:
      UserError: a split cannot be loaded, or overlaps another.
    """
    held_out = {
        name: experiments.load_split(config, f"{name}_split")
        for name in ("validation", "test")
        if config.data[f"{name}_split"]
    }
    parts = {f"{name}_split": split.parts for name, split in held_out.items()}
    checks.check_disjoint(config, {"train_split": train.parts} | parts)
    return held_out


def draw_augmented(
    config: ConfigDict, experiment: Experiment, dataset: Dataset, layout: Layout
) -> dict[str, np.ndarray]:
    """Return eight training images and four draws of their augmentation, for the report.

    Returns:
      `images: [8, height, width, channel] uint8` and `augmented: [4, 8, height, width, channel]`.
    """
    images = dataset.images[:8]

    def draw(key, epoch):
        examples = Examples(
            images=images / jnp.float32(255),
            targets=jax.nn.one_hot(dataset.labels[:8], len(dataset.class_names)),
            index=jnp.arange(len(images)),
            epoch=epoch,
        )
        drawn = experiment.augment(key, jnp.arange(len(images)), examples).images
        return jnp.round(jnp.clip(drawn, 0, 1) * 255).astype(jnp.uint8)

    keys = jax.random.split(jax.random.key(config.seed), 4)
    augmented = layout.run_once(jax.vmap(draw), keys, np.arange(4))
    return {"images": images, "augmented": np.asarray(augmented)}

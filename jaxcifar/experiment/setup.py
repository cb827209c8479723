"""The one set-up of training, evaluation and prediction, from a config or a workdir."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcifar.config.schema import FIELDS, Config
from jaxcifar.data import datasets, facts
from jaxcifar.data.datasets import Dataset
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices import backend
from jaxcifar.devices.kept_programs import KeptPrograms
from jaxcifar.devices.layout import Layout
from jaxcifar.devices.mapping import OverRows
from jaxcifar.devices.rows import Resident, Streamed
from jaxcifar.errors import UserError
from jaxcifar.experiment import agreement, saved_run
from jaxcifar.experiment.build import Experiment, build
from jaxcifar.experiment.fingerprint import kept_programs
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.step.batch import Step, map_step
from jaxcifar.step.state import TrainState


@dataclasses.dataclass(frozen=True)
class Setup:
    """Hold a config, and what it describes, ready to compute."""

    config: Config
    layout: Layout
    experiment: Experiment
    kept: KeptPrograms | None = None
    """The cache for the run's traced programs, if there is one."""

    @classmethod
    def build(cls, config: Config, layout: Layout, measured: DataFacts) -> "Setup":
        """Build the experiment that `config` describes, for data with these facts; raises as `build` does."""
        experiment = build(config, measured)
        kept = kept_programs(config, measured, experiment.compute, layout)
        return cls(config, layout, experiment, kept)

    def mapped(
        self, step: Step, part: str, sums: Any, *, updates_state: bool, streamed: bool = False
    ) -> OverRows:
        """Map a step of the experiment as `map_step` does; its programs are cached under `part`."""
        return map_step(
            step,
            self.layout,
            updates_state=updates_state,
            streamed=streamed,
            sums=sums,
            kept=self.kept and self.kept.of(f"{part}, streamed" if streamed else part),
        )

    def source(self, dataset: Dataset, batch_size: int) -> Resident | Streamed:
        """Return where the rows of a split come from: the devices if they can hold it, else the host."""
        arrays = (dataset.images, dataset.labels)
        most = self.config.data.resident_bytes or self.layout.room_for_data()
        if dataset.images.nbytes <= most:
            return Resident(self.layout, arrays)
        return Streamed(self.layout, arrays, batch_size)

    def remembered(self, name: str, compute: Callable[[], Any]) -> np.ndarray:
        """Return the array that `compute()` returns, computed now or at an earlier start of the same run."""
        return self.kept.array(name, compute) if self.kept else np.asarray(compute())

    def new_state(self, train: Dataset, key: jax.Array) -> TrainState:
        """Return the initial state of a run on the training split `train`, on all devices."""
        return self.layout.run_once(self.experiment.init_state, *beginning(train, key))

    def restored_state(self, checkpoints: Checkpoints, step: int) -> TrainState:
        """Restore a state to the devices, whatever devices it was saved from."""
        image = jax.ShapeDtypeStruct((1, *self.experiment.facts.image_shape), np.uint8)
        like = jax.eval_shape(self.experiment.init_state, jax.random.key(0), image)
        return checkpoints.restore(step, like, self.layout.everywhere)


def beginning(train: Dataset, key: jax.Array) -> tuple[jax.Array, np.ndarray]:
    """Return the arguments of `Experiment.init_state` in a run that begins."""
    return key, train.images[:1000]


def set_up(
    config: Config,
    layout: Layout,
    check: Callable[[Dataset, DataFacts], None] = lambda train, facts: None,
) -> tuple[Setup, Dataset]:
    """Read the training split, and build the experiment on it.

    Args:
      config: of the run.
      layout: what `start_layout` returned.
      check: called with the training split and its facts before anything is built on them; may raise.

    Returns:
      The set-up, and the training split.

    Raises:
      UserError: the data are unavailable, or do not fit the config.
    """
    train = load_split(config, "train_split")
    measured = facts.measure(train, config.data.normalisation)
    check(train, measured)
    return Setup.build(config, layout, measured), train


def set_up_from_workdir(
    workdir: Path,
    step: int | None = None,
    config: Config | None = None,
    convolutions: str | None = None,
) -> tuple[Setup, TrainState]:
    """Restore a run for inference; the optimiser's state is dropped.

    Args:
      workdir: of the run.
      step: of the checkpoint; None for the newest that is whole.
      config: to restore the run under; None for the one that the checkpoint was saved with.
      convolutions: `auto`, `onednn` or `xla` in place of the config's.

    Returns:
      The set-up and the state.

    Raises:
      UserError: there is no such checkpoint, this machine cannot run it, or it does not fit the config.
    """
    backend.start()  # before Orbax asks JAX for its devices
    with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        step = saved_run.chosen_step(checkpoints, workdir, step)
        saved = checkpoints.description(step)
        own = agreement.saved_config(saved["config"], workdir)
        config = config or own
        agreement.check_same_model(config, own, workdir)
        if convolutions is not None:
            taken = FIELDS["convolutions"].read(convolutions, "--convolutions")
            config = dataclasses.replace(config, convolutions=taken)
        layout, measured = start_layout(config), DataFacts.from_json(saved["facts"])
        setup = Setup.build(config, layout, measured)
        if layout.leads:
            agreement.warn_of_changed_modules(config, saved)
        state = dataclasses.replace(setup.restored_state(checkpoints, step), opt_state=None)
    return setup, state


def start_layout(config: Config) -> Layout:
    """Start JAX, and lay the run out over all available devices.

    Raises:
      UserError: there is no such platform, or JAX is not set up for the config's precision.
    """
    devices = backend.start()
    if config.precision == "float64" and jnp.zeros(0).dtype != jnp.float64:
        raise UserError(
            "--config.precision=float64 needs JAX's 64-bit mode: set JAX_ENABLE_X64=1 in the "
            "environment"
        )
    return Layout(devices, backend.compiler_options(deterministic=config.deterministic))


def load_split(config: Config, field: str) -> Dataset:
    """Load the split that `config.data` names in `field`, such as `train_split`.

    Raises:
      UserError: there is no such dataset or split, or it is unavailable here.
    """
    data, split = config.data, getattr(config.data, field)
    try:
        if data.component:
            reading = {"reading": data.reading} if data.component.takes("reading") else {}
            dataset = data.component(split, **reading)
        else:
            dataset = datasets.tfds(
                split,
                name=data.name,
                data_dir=data.data_dir,
                reading=data.reading,
                features=datasets.Features(data.image_feature, data.label_feature),
            )
    except datasets.SplitError as error:
        hint = "; --config.data.validation_split= (empty) goes without one"
        hint = hint if field == "validation_split" else ""
        raise UserError(f"--config.data.{field}={split}: {error}{hint}") from error
    if fault := _fault(dataset):
        raise UserError(
            f"--config.data.name={data.name} returned {fault} for split {split!r}: a dataset returns a "
            "jaxcifar.data.datasets.Dataset"
        )
    names = tuple(map(str, dataset.class_names))
    return dataclasses.replace(dataset, name=data.name, split=split, class_names=names)


def _fault(dataset: Any) -> str:
    """Return what is wrong with the result of a dataset's function, which may be the user's own."""
    if not isinstance(dataset, Dataset):
        return f"a {type(dataset).__name__}"
    images, labels, classes = dataset.images, dataset.labels, len(dataset.class_names)
    if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):
        return f"a {type(images).__name__} and a {type(labels).__name__}, not two arrays of NumPy,"
    if images.dtype != np.uint8 or images.ndim != 4:
        return f"images {list(images.shape)} {images.dtype}, not [n, height, width, channel] uint8,"
    if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
        return f"labels {list(labels.shape)} {labels.dtype}, not [{len(images)}] int32,"
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        return f"no examples, or labels beyond the {classes} names of classes,"
    return ""

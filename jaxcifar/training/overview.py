"""What a run is made of: data, devices, parameters, cost."""

import shlex
import sys

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview

from jaxcifar.config import components
from jaxcifar.config.presets import preset_of
from jaxcifar.devices import cpu_facts
from jaxcifar.experiment.setup import Setup
from jaxcifar.host import informative
from jaxcifar.host.informative import known
from jaxcifar.host.output import counted
from jaxcifar.step.state import TrainState
from jaxcifar.training.flops import count_flops


def forward_flops(setup: Setup, state: TrainState) -> int:
    """Return the floating-point operations of one image's forward pass, see `count_flops`.

    Neither augmentation nor gradients are counted.
    """
    image = jax.ShapeDtypeStruct((1, *setup.experiment.facts.image_shape), jnp.float32)

    def forward(params, batch_stats, images):
        variables = {"params": params, "batch_stats": batch_stats}
        return setup.experiment.model.apply(variables, images, train=False)

    count = lambda: count_flops(forward, state.params, state.batch_stats, image)
    return int(setup.remembered("forward FLOPs", count))


def learning_rates(setup: Setup) -> np.ndarray:
    """Return the learning rates of all steps of the run: [steps]."""
    steps = np.arange(setup.experiment.total_steps)
    rates = lambda: setup.layout.run_aside(jax.vmap(setup.experiment.schedule), steps)
    return setup.remembered("learning rates", rates)


def summarise(setup: Setup, state: TrainState, rates: np.ndarray) -> dict:
    """Return a summary of a run, for `run.json`; unknown entries are None.

    Args:
      setup: of the run.
      state: any state of the run.
      rates: the result of `learning_rates`; at most a thousand of them are kept for the report.
    """
    experiment, devices = setup.experiment, setup.layout.devices
    model = setup.config.model.component
    return {
        "config": setup.config.effective(),
        "preset": preset_of(model.name, model.options),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "forward_flops": known(forward_flops, setup, state),
        "precision": jnp.dtype(experiment.compute.dtype).name,
        "convolutions": experiment.compute.convolutions,
        "image_shape": experiment.facts.image_shape,
        "classes": len(experiment.facts.class_names),
        "train_examples": experiment.facts.train_examples,
        "epochs": experiment.num_epochs,
        "steps_per_epoch": experiment.steps_per_epoch,
        "schedule": _sampled(rates, experiment.steps_per_epoch),
        "devices": f"{len(devices)} × {devices[0].device_kind}",
        "processor": known(cpu_facts.describe),
        "modules": components.hashes(setup.config.components),
        "versions": known(informative.versions),
    }


def this_start(step: int) -> dict:
    """Return what trains from `step` on: the code, the command and the versions, for `run.json`."""
    return {
        "step": step,
        "code": known(informative.code),
        "command": shlex.join(sys.orig_argv),
        "versions": known(informative.versions),
    }


def _sampled(rates: np.ndarray, steps_per_epoch: int) -> dict[str, list[float]]:
    steps = np.unique(np.linspace(0, len(rates) - 1, 1000).round().astype(int))
    return {
        "epoch": ((steps + 1) / steps_per_epoch).tolist(),
        "learning_rate": rates[steps].tolist(),
    }


def table_of_parameters(state: TrainState) -> str:
    """Return the names, shapes and sizes of the parameters."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state.params)
    table = known(lambda: parameter_overview.get_parameter_overview(shapes, include_stats=False))
    return table or "table of parameters not known"


def describe(summary: dict) -> str:
    """Return the summary in words."""
    height, width, channels = summary["image_shape"]
    flops, epochs, steps = (summary[key] for key in ("forward_flops", "epochs", "steps_per_epoch"))
    cost = "FLOPs not known" if flops is None else f"{flops / 1e6:,.1f} MFLOP an image (forward)"
    return "\n".join(
        [
            f"{summary['parameters']:,} parameters, {cost}, {summary['precision']}",
            f"{summary['train_examples']:,} images of {height}×{width}×{channels} in "
            f"{summary['classes']} classes, {counted(epochs, 'epoch')} of {counted(steps, 'step')} on "
            f"{summary['devices']}",
        ]
    )

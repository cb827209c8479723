"""What a run is about to do, in words: data, devices, parameters, cost."""

import jax
import jax.numpy as jnp
from clu import parameter_overview

from jaxcifar.experiment import Experiment
from jaxcifar.parallel import Layout
from jaxcifar.state import TrainState


def forward_flops(experiment: Experiment, state: TrainState) -> float:
    """Return the floating-point operations of one image's way through the model, as XLA counts them.

    A multiplication and an addition are two; no augmentation, no gradient.
    """
    image = jax.ShapeDtypeStruct((1, *experiment.facts.image_shape), jnp.float32)

    def forward(params, batch_stats, images):
        variables = {"params": params, "batch_stats": batch_stats}
        return experiment.model.apply(variables, images, train=False)

    lowered = jax.jit(forward).lower(state.params, state.batch_stats, image)
    return lowered.cost_analysis()["flops"]


def describe(experiment: Experiment, state: TrainState, layout: Layout) -> str:
    """Return the table of parameters, and beneath it what the run is made of."""
    facts = experiment.facts
    height, width, channels = facts.image_shape
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state.params)
    return "\n".join(
        [
            parameter_overview.get_parameter_overview(shapes, include_stats=False),
            f"{parameters:,} parameters, {forward_flops(experiment, state) / 1e6:,.1f} MFLOP an image "
            f"(forward), {jnp.dtype(experiment.model.dtype).name}",
            f"{facts.train_examples:,} images of {height}×{width}×{channels} in "
            f"{len(facts.class_names)} classes, {experiment.num_epochs} "
            f"{'epoch' if experiment.num_epochs == 1 else 'epochs'} of "
            f"{experiment.steps_per_epoch} steps on {len(layout.devices)} × "
            f"{layout.devices[0].device_kind}",
        ]
    )

"""Optimisers, from Optax."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxcifar.devices import platform
from jaxcifar.optim.orthogonal import orthogonalise
from jaxcifar.optim.parameters import is_decayed, kinds
from jaxcifar.options import POSITIVE, SHARE_BELOW_ONE, at_least, between

Momentum = Annotated[float, SHARE_BELOW_ONE, "share of the old average that a step keeps"]
Epsilon = Annotated[float, POSITIVE, "added to the root of the second moment"]
WeightDecay = Annotated[float, at_least(0), "a step takes learning rate times this away"]
Multiplier = Annotated[float, POSITIVE, "times the learning rate"]


def adam(
    schedule: optax.Schedule, *, beta1: Momentum, beta2: Momentum, epsilon: Epsilon
) -> optax.GradientTransformation:
    """Build Adam (Kingma and Ba 2014)."""
    return optax.adam(schedule, beta1, beta2, epsilon)


def adamw(
    schedule: optax.Schedule,
    *,
    beta1: Momentum,
    beta2: Momentum,
    epsilon: Epsilon,
    weight_decay: WeightDecay,
) -> optax.GradientTransformation:
    """Build Adam with decoupled weight decay (Loshchilov and Hutter 2017).

    A step shrinks each decayed weight by the share `learning_rate * weight_decay`.
    """
    return optax.adamw(schedule, beta1, beta2, epsilon, weight_decay=weight_decay, mask=is_decayed)


def sgd(
    schedule: optax.Schedule,
    *,
    momentum: Momentum,
    nesterov: Annotated[bool, "look a step ahead along the momentum"],
    weight_decay: WeightDecay,
) -> optax.GradientTransformation:
    """Build stochastic gradient descent with momentum and decoupled weight decay.

    A step shrinks each decayed weight by the share `learning_rate * weight_decay`. For the decay of
    PyTorch's SGD, which goes through the momentum, use the L2 penalty.
    """
    return optax.chain(
        optax.trace(momentum, nesterov),
        optax.add_decayed_weights(weight_decay, is_decayed),
        optax.scale_by_learning_rate(schedule),
    )


def muon(  # noqa: PLR0913, its options
    schedule: optax.Schedule,
    *,
    momentum: Momentum,
    newton_schulz_steps: Annotated[int, between(1, 20), "iterations that orthogonalise an update"],
    sgd_momentum: Momentum,
    bias_multiplier: Multiplier,
    head_multiplier: Multiplier,
    weight_decay: WeightDecay,
) -> optax.GradientTransformation:
    """Build Muon (Jordan et al. 2024) for kernels, and Nesterov SGD for all other parameters.

    `parameters.kinds` tells which parameters are kernels. A kernel is a matrix with a column for each
    output channel. Its update is its Nesterov momentum with all singular values moved near one; the kernel
    itself is first scaled to the norm √(output channels). Biases and heads learn at `bias_multiplier` and
    `head_multiplier` times the learning rate, embeddings at the learning rate. A step shrinks biases and
    heads by the share `learning_rate * weight_decay`. This follows cifar10-airbench's `airbench94_muon`,
    except that the decay does not pass through the momentum here.

    On a CPU kernels are orthogonalised one by one; elsewhere together and, as in airbench, in bfloat16,
    unless products need full precision.
    """

    def whole(kernels):
        numbers = optax.contrib.MuonDimensionNumbers
        return jax.tree.map(
            lambda leaf: numbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), kernels
        )

    def renormalise(updates, params):
        return jax.tree.map(
            lambda update, kernel: (
                update + (kernel.shape[-1] ** 0.5 / jnp.linalg.norm(kernel) - 1) * kernel
            ),
            updates,
            params,
        )

    def sgd(multiplier, decay=weight_decay):
        return optax.chain(
            optax.trace(sgd_momentum, nesterov=True),
            optax.scale(multiplier),
            optax.add_decayed_weights(decay),
            optax.scale_by_learning_rate(schedule),
        )

    by_kernel = optax.contrib.scale_by_muon(
        ns_steps=newton_schulz_steps,
        beta=0,  # the momentum is applied below, without bias correction
        nesterov=False,
        weight_dimension_numbers=whole,
    )

    def update(updates, state, params=None):
        if platform.current() == "cpu":
            return by_kernel.update(updates, state, params)
        kernels, structure = jax.tree.flatten(updates)
        # Set by `with_full_products`, where the config's precision is not bfloat16.
        full = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
        dtype = None if full else jnp.bfloat16
        result = orthogonalise(kernels, state.ns_coeffs, newton_schulz_steps, dtype)
        state = state._replace(count=optax.safe_increment(state.count), mu=updates)
        return jax.tree.unflatten(structure, result), state

    kernel = optax.chain(
        optax.trace(momentum, nesterov=True),
        optax.GradientTransformation(by_kernel.init, update),
        optax.scale_by_learning_rate(schedule),
        optax.stateless(renormalise),
    )
    by_kind = {
        "kernel": kernel,
        "bias": sgd(bias_multiplier),
        "head": sgd(head_multiplier),
        "embedding": sgd(1, decay=0),
    }

    def parted(params):
        """Return these parameters' transformation; without embeddings its state has no entry for them."""
        kept: dict[Any, Any] = dict(by_kind)
        if "embedding" not in jax.tree.leaves(kinds(params)):
            del kept["embedding"]
        return optax.partition(kept, kinds)

    return optax.GradientTransformation(
        lambda params: parted(params).init(params),
        lambda updates, state, params=None: parted(updates).update(updates, state, params),
    )


def with_penalty_and_clipping(
    optimizer: optax.GradientTransformation, *, l2_penalty: float, clip_norm: float
) -> optax.GradientTransformation:
    """Add the gradient of `l2_penalty / 2 * ||weights||²`, clip to a norm, then apply `optimizer`.

    `l2_penalty = 0` adds nothing and `clip_norm = 0` clips nothing. Clipping limits the norm of the
    gradient of the whole objective, penalty included.
    """
    before = []
    if l2_penalty:
        before.append(optax.add_decayed_weights(l2_penalty, is_decayed))
    if clip_norm:
        before.append(optax.clip_by_global_norm(clip_norm))
    return optax.chain(*before, optimizer)

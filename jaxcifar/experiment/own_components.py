"""Checks what components of the user's own return, by tracing them on shapes.

Components of ours are skipped: these checks take no time in a run without own components.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import ShapeDtypeStruct

from jaxcifar.augment.augmentations import Examples
from jaxcifar.config.schema import Component
from jaxcifar.data.facts import DataFacts
from jaxcifar.errors import UserError
from jaxcifar.models.compute import Compute


def check_network(
    component: Component, model: nn.Module, facts: DataFacts, compute: Compute
) -> None:
    """Check that the network that `component` has built returns logits as our networks do.

    Raises:
      UserError: it does not.
    """
    if not component.module:
        return
    init = lambda key, images: model.init_with_output(key, images, train=False)[0]
    found = jax.eval_shape(init, jax.random.key(0), _examples(facts, compute).images)
    wanted = _examples(facts, compute).targets
    if not _same(found, wanted):
        logits = f"logits {wanted}: [batch, class] of the type compute.wide"
        raise _fault(component, f"{found} for two images", logits)


def check_augmentation(component: Component, facts: DataFacts, compute: Compute) -> None:
    """Check that an augmentation returns examples of the shapes and types that it takes.

    Raises:
      UserError: it does not.
    """
    if not component.module:
        return
    examples = _examples(facts, compute)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    found = jax.eval_shape(component, keys, examples)
    if not _same(found, examples):
        raise _fault(component, f"{found} for two examples", f"{examples}")


def check_schedule(component: Component, schedule: Any) -> None:
    """Check that what `component` has built is a function from a step to its rate.

    Raises:
      UserError: it is not.
    """
    if not component.module:
        return
    wanted = "a function from the step [] to its rate []"
    if not callable(schedule):
        raise _fault(component, f"a {type(schedule).__name__}", wanted)
    found = jax.eval_shape(schedule, ShapeDtypeStruct((), jnp.int32))
    if getattr(found, "shape", None) != ():
        raise _fault(component, f"a function to {found}", wanted)


def check_optimizer(
    component: Component, optimizer: Any, model: nn.Module, facts: DataFacts, compute: Compute
) -> None:
    """Check that what `component` has built updates parameters and keeps the form of its state.

    Raises:
      UserError: it does not.
    """
    if not component.module:
        return
    wanted = "an optax.GradientTransformation"
    if not isinstance(optimizer, optax.GradientTransformation):
        raise _fault(component, f"a {type(optimizer).__name__}", wanted)
    init = lambda key, images: model.init(key, images, train=False)["params"]
    params = jax.eval_shape(init, jax.random.key(0), _examples(facts, compute).images)
    state = jax.eval_shape(optimizer.init, params)
    updates, next_state = jax.eval_shape(optimizer.update, params, state, params)
    for what, found, before in (("updates", updates, params), ("a state", next_state, state)):
        if not _same(found, before):
            raise _fault(component, f"{wanted} that returns {what} {found}", f"{what} {before}")


def check_views(component: Component, facts: DataFacts, compute: Compute) -> None:
    """Check that a test-time augmentation returns weighted views of images.

    Raises:
      UserError: it does not.
    """
    if not component.module:
        return
    images = _examples(facts, compute).images
    seen = []
    found = jax.eval_shape(lambda images: seen.append(component(images)) or seen[0], images)
    try:
        weights, views = zip(*seen[0], strict=True)
        kinds = {(view.ndim, view.shape[0], view.dtype) for view in views}
        traced = any(isinstance(weight, jax.Array) for weight in weights)
        one = traced or math.isclose(sum(weights), 1, abs_tol=1e-6)
        good = one and kinds == {(images.ndim, images.shape[0], images.dtype)}
    except (TypeError, ValueError, AttributeError):
        good = False
    if not good:
        raise _fault(
            component,
            f"{found} for two images",
            "a list of (weight, images) with weights that sum to 1",
        )


def _examples(facts: DataFacts, compute: Compute) -> Any:
    """Return the shapes and types of two examples, as a step has them."""
    images = ShapeDtypeStruct((2, *facts.image_shape), compute.wide)
    targets = ShapeDtypeStruct((2, len(facts.class_names)), compute.wide)
    index, epoch = (ShapeDtypeStruct(shape, jnp.int32) for shape in ((2,), ()))
    parts: Any = (images, targets, index, epoch)
    return Examples(*parts)


def _same(found: Any, wanted: Any) -> bool:
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        return False
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)


def _fault(component: Component, found: str, wanted: str) -> UserError:
    return UserError(f"{component.field}={component.name} returns {found}, not {wanted}")

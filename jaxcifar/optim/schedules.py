"""Learning-rate schedules, from Optax."""

import collections
from typing import Annotated

import jax.numpy as jnp
import optax

from jaxcifar.options import POSITIVE, SHARE, Limit

FinalFraction = Annotated[float, SHARE, "of the peak"]
RISING_SHARES = Limit(
    lambda shares: all(0 < share < 1 for share in shares) and list(shares) == sorted(set(shares)),
    "shares between 0 and 1, each larger than the one before",
)


def epochs_to_steps(epochs: float, steps_per_epoch: int) -> int:
    """Return the nearest whole number of steps."""
    return round(epochs * steps_per_epoch)


def cosine(peak: float, steps: int, *, final_fraction: FinalFraction) -> optax.Schedule:
    """Fall along half a cosine from `peak` to `final_fraction` of it (Loshchilov and Hutter 2016)."""
    return optax.cosine_decay_schedule(peak, max(steps, 1), alpha=final_fraction)


def linear(peak: float, steps: int, *, final_fraction: FinalFraction) -> optax.Schedule:
    """Fall along a line from `peak` to `final_fraction` of it."""
    return optax.linear_schedule(peak, final_fraction * peak, max(steps, 1))


def step_decay(
    peak: float,
    steps: int,
    *,
    boundaries: Annotated[tuple[float, ...], RISING_SHARES, "of the steps after the warm-up"],
    factor: Annotated[float, POSITIVE, "by which the rate is multiplied at each boundary"],
) -> optax.Schedule:
    """Multiply by `factor` at each of `boundaries`, given as fractions of `steps`."""
    falls = collections.Counter(round(at * steps) for at in boundaries)
    scales = {step: factor**times for step, times in falls.items()}
    return optax.piecewise_constant_schedule(peak, scales)


def constant(peak: float, steps: int) -> optax.Schedule:
    """Stay at `peak`."""
    del steps
    return optax.constant_schedule(peak)


def exact(schedule: optax.Schedule) -> optax.Schedule:
    """Return the schedule in float64 where JAX computes in float64.

    Optax counts steps in int32, and quotients of int32 are float32 even there.
    """
    return lambda step: schedule(jnp.asarray(step, int))


def with_warmup(schedule: optax.Schedule, peak: float, warmup_steps: int) -> optax.Schedule:
    """Rise along a line to `peak` over `warmup_steps`, the first above zero; then follow `schedule`."""
    if warmup_steps == 0:
        return schedule
    rise = optax.linear_schedule(peak / warmup_steps, peak, max(warmup_steps - 1, 1))
    return optax.join_schedules([rise, schedule], [warmup_steps])

"""Which platform's paths the program takes; `tests/test_rehearsal.py` replaces the answer on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax


def current() -> str:
    """Return the platform whose paths the program takes: `cpu`, `gpu` or `tpu`.

    On a CPU a dispatch is one step, oneDNN convolves, and the precision depends on the processor.
    Elsewhere a dispatch is many steps, XLA convolves, and bfloat16 is the default.
    """
    return jax.default_backend()


def by_platform(*arrays: jax.Array, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """Return `cpu(*arrays)` in programs for a CPU and `default(*arrays)` in others.

    A program that is traced on a CPU may be lowered for another platform.
    """
    if current() != "cpu":
        return default(*arrays)
    return lax.platform_dependent(*arrays, cpu=cpu, default=default)

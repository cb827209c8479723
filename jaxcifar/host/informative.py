"""What only informs: no run may stop for want of it."""

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def known(tell: Callable, *args: Any) -> Any:
    """Return `tell(*args)`, or None where it fails.

    For versions, costs and the like.
    """
    try:
        return tell(*args)
    except Exception:
        return None


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, of the packages that compute, and of `more`, by name."""
    found = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "optax", "onednn-cpu-gomp", *more):
        try:
            found[name] = version(name) or "not known"
        except PackageNotFoundError:
            found[name] = "none"
    return found

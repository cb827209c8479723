"""What only informs: no run may stop for want of it."""

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

T = TypeVar("T")


def known(tell: Callable[..., T], *args: Any) -> T | None:
    """Return `tell(*args)`, or None where it fails.

    For what only informs, such as versions and costs: no run may stop for want of it.
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

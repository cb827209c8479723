"""Facts that only inform: no run may stop for lack of them."""

import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jaxcifar

_PACKAGE = Path(__file__).parent.parent


def known(tell: Callable, *args: Any) -> Any:
    """Return `tell(*args)`, or None where it fails.

    For versions, costs and the like.
    """
    try:
        return tell(*args)
    except Exception:
        return None


def code() -> str:
    """Return the version of the package, and in a clone its commit, `changed` if files differ."""
    found = jaxcifar.__version__
    clone = _PACKAGE.parent
    if not (clone / ".git").exists():
        return found
    # The clone may be another user's.
    git = ["git", "-c", "safe.directory=*", "-C", str(clone), "status"]
    asked = ["--porcelain=v2", "--branch", "--", _PACKAGE.name, "configs"]
    try:
        told = subprocess.check_output(
            [*git, *asked], text=True, timeout=2, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return f"{found}, commit not known"
    head, *others = told.splitlines()
    changed = any(not line.startswith("#") for line in others)
    return f"{found}, commit {head.split()[-1][:10]}{', changed' if changed else ''}"


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, of the packages that compute, and of `more`, by name."""
    found = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "optax", "onednn-cpu-gomp", *more):
        try:
            found[name] = version(name) or "not known"
        except PackageNotFoundError:
            found[name] = "none"
    return found

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
    if not (_PACKAGE.parent / ".git").exists():
        return found

    def git(*arguments: str) -> str:
        # The checkout may be another user's.
        command = ["git", "-c", "safe.directory=*", "-C", str(_PACKAGE.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", _PACKAGE.name, "configs")
        return f"{found}, commit {git('describe', '--always')}{', changed' if changed else ''}"
    except (OSError, subprocess.SubprocessError):
        return f"{found}, commit not known"


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, of the packages that compute, and of `more`, by name."""
    found = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "optax", "onednn-cpu-gomp", *more):
        try:
            found[name] = version(name) or "not known"
        except PackageNotFoundError:
            found[name] = "none"
    return found

"""A benchmark's requirements, memory and machine, for the line beneath its table."""

import importlib.util
import re
import subprocess
from pathlib import Path

from jaxcifar.devices import cpu_facts
from jaxcifar.host.informative import versions


def describe() -> dict:
    """Return the machine in words, and the versions of what was timed."""
    return {"machine": ", ".join([cpu_facts.describe(), *_gpus()]), "versions": versions("torch")}


def require_torch() -> None:
    """End this program with a line that says what to install, if PyTorch is not there."""
    if not importlib.util.find_spec("torch"):
        raise SystemExit("PyTorch is not installed: pip install -e '.[bench]'")


def peak_bytes() -> int:
    """Return the most memory that this program has held: its peak resident set, on Linux.

    `getrusage` would count what the process held before this program was started in it as well.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def _gpus() -> list[str]:
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        return []

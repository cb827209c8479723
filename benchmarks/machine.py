"""What a benchmark ran on, for the line beneath its table, and what it holds."""

import re
import subprocess
from pathlib import Path

from jaxcifar.machine import processor, versions


def describe() -> dict:
    """Return the machine in words, and the versions of what was timed."""
    return {"machine": ", ".join([processor(), *_gpus()]), "versions": versions("torch")}


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

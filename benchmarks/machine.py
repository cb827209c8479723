"""What a benchmark ran on, for the line beneath its table, and what it holds."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe() -> dict:
    """Return the machine in words, and the versions of what was timed."""
    versions = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "optax", "torch"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    parts = [_processor(), f"{len(os.sched_getaffinity(0))} cores", *_gpus()]
    return {"machine": ", ".join(parts), "versions": versions}


def peak_bytes() -> int:
    """Return the most memory that this program has held: its peak resident set, on Linux.

    `getrusage` would count what the process held before this program was started in it as well.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    widest = "AVX-512" if any("avx512f" in line for line in lines) else "AVX2 or less"
    return f"{names[0] if names else platform.machine()} ({widest})"


def _gpus() -> list[str]:
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        return []

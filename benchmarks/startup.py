"""Breaks the time from launch to the first training step into its parts.

python -m benchmarks.startup --config=configs/fast.py [--starts=5] [--out=FILE.json]

Starts the program as a user does, in a workdir of its own each time, and ends it after its first step.
The first start has an empty compilation cache and, where the dataset is one of TFDS in a folder that
cannot be written to, an empty cache of decoded images; the others find both. Times are the program's
own, but for the whole, which includes the interpreter's start.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments

config_flags.DEFINE_config_file("config", "configs/fast.py", lock_config=True)
_STARTS = flags.DEFINE_integer("starts", 5, "how many warm starts", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


def start(arguments: list[str], cache: str) -> dict[str, float]:
    """Start once and return the seconds of each part."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "jaxcifar.main", *arguments]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            env=os.environ | {"XDG_CACHE_HOME": cache, "JAX_COMPILATION_CACHE_DIR": f"{cache}/xla"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        printed = []
        for line in process.stdout:
            printed.append(line)
            if found := re.search(r"first step after .*?\((.*)\)", line):
                break
        else:
            raise SystemExit(
                f"{' '.join(command)} ended without a first step:\n{''.join(printed[-20:])}"
            )
        seconds = time.perf_counter() - began
        process.kill()
        process.wait()
    parts = dict(part.rsplit(" ", 1) for part in found[1].split(", "))
    return {name: float(value) for name, value in parts.items()} | {"whole": seconds}


def command_seconds(*arguments: str) -> float:
    """Return how long `python -m jaxcifar.main` with these arguments takes."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "jaxcifar.main", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def main(argv):
    del argv
    arguments = config_arguments()
    with tempfile.TemporaryDirectory() as cache:
        first = start(arguments, cache)
        warm = [start(arguments, cache) for _ in range(_STARTS.value)]
    helps = [command_seconds("--help") for _ in range(_STARTS.value)]
    print(f"{' '.join(arguments)}: seconds from launch to the first training step")
    print(f"{'':28} {'first':>7} {'warm':>7}   median of {len(warm)}, and all")
    for name in first:
        times = [run[name] for run in warm]
        listed = " ".join(f"{value:.1f}" for value in times)
        print(f"{name:28} {first[name]:7.1f} {statistics.median(times):7.1f}   {listed}")
    print(f"{'--help':28} {'':7} {statistics.median(helps):7.2f}")
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")
    if _OUT.value:
        result = {"arguments": arguments, "first": first, "warm": warm, "help": helps} | described
        Path(_OUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

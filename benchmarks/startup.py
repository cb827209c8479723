"""Breaks the time of a run from launch to exit into its parts.

python -m benchmarks.startup --config=configs/fast.py [--starts=5] [--out=FILE.json]

Starts the program as a user does, in a workdir of its own each time. The first start has empty caches of
compiled and of traced programs, and of decoded images; later starts find all caches full. The program itself
names the parts; the start and the end of the interpreter are the rest of the whole time. Name a short run: on
a CPU, --config.num_epochs=1.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments, laps

config_flags.DEFINE_config_file("config", "configs/fast.py", lock_config=True)
_STARTS = flags.DEFINE_integer("starts", 5, "how many warm starts", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")


def start(arguments: list[str], cache: str) -> dict[str, float]:
    """Start once and return the seconds of each part."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "jaxcifar.main", *arguments, f"--workdir={workdir}"]
        environment = os.environ | {
            "XDG_CACHE_HOME": cache,
            "JAX_COMPILATION_CACHE_DIR": f"{cache}/xla",
        }
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        whole = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    parts = laps(done.stdout)
    rest = {"interpreter, start and end": whole - sum(parts.values())}
    return parts | rest | {"whole": whole}


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
    print(f"{' '.join(arguments)}: seconds from launch to exit")
    print(f"{'':28} {'first':>7} {'warm':>7}   median of {len(warm)}, and all")
    for name in first:
        times = [run[name] for run in warm]
        listed = " ".join(f"{value:.2f}" for value in times)
        print(f"{name:28} {first[name]:7.2f} {statistics.median(times):7.2f}   {listed}")
    print(f"{'--help':28} {'':7} {statistics.median(helps):7.2f}")
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")
    if _OUT.value:
        result = {"arguments": arguments, "first": first, "warm": warm, "help": helps} | described
        Path(_OUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

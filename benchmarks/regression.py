"""Times this checkout beside another of the same project, in turn.

python -m benchmarks.regression --config=configs/default.py --against=DIR [--rounds=8]
    [--stretches=8] [--seconds=1] [--work=train,infer]

Both run `benchmarks.throughput --side=jaxcifar` in processes of their own. Prints the ratio of images a
second, this checkout's to the other's, of each round, and the median of these.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments

config_flags.DEFINE_config_file("config", "configs/default.py", lock_config=True)
_AGAINST = flags.DEFINE_string("against", None, "folder of the other checkout", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 8, "how often both are timed", lower_bound=1)
_STRETCHES = flags.DEFINE_integer("stretches", 8, "of each in a round, in turn", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 1, "about how long a stretch is", lower_bound=0.1)
_WORK = flags.DEFINE_list("work", ["train", "infer"], "what is timed")


def start(checkout: Path, work: str) -> subprocess.Popen:
    """Start a process that times `work`, and wait until it has compiled."""
    command = [sys.executable, "-m", "benchmarks.throughput", *config_arguments()]
    process = subprocess.Popen(
        [*command, "--side=jaxcifar", f"--work={work}", "--verbosity=-1"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if not process.stdout.readline():
        raise SystemExit(f"{checkout} has ended, for the reason above")
    return process


def rate(process: subprocess.Popen) -> float:
    """Return the images a second of one stretch."""
    process.stdin.write(f"{_SECONDS.value}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())["images_per_second"]


def main(argv):
    del argv
    checkouts = (Path(__file__).parent.parent.absolute(), Path(_AGAINST.value).absolute())
    for work in _WORK.value:
        ratios = []
        for turn in range(_ROUNDS.value):
            # Its memory layout, a matter of chance, makes a process faster or slower for good. So each round
            # has new processes, in alternating order.
            order = checkouts if turn % 2 == 0 else checkouts[::-1]
            processes = {checkout: start(checkout, work) for checkout in order}
            rates = {checkout: [] for checkout in order}
            for _ in range(_STRETCHES.value):  # the machine's own rate drifts by the second
                for checkout, process in processes.items():
                    rates[checkout].append(rate(process))
            for process in processes.values():
                process.stdin.close()
                process.wait()
            this, other = (statistics.median(rates[checkout]) for checkout in checkouts)
            ratios.append(this / other)
            print(f"{work}: {this:,.0f} to {other:,.0f} images/s, {ratios[-1]:.3f}", flush=True)
        print(f"{work}: median of {len(ratios)} ratios {statistics.median(ratios):.3f}", flush=True)
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")


if __name__ == "__main__":
    app.run(main)

"""Times training on images that stay on the host, and measures its memory as their number grows.

python -m benchmarks.streaming --config=configs/default.py [--seconds=5] [--gigabytes=0.25,1,4] [--size=64]
    [--rounds=5]

The images are noise of `--size` pixels a side in a file that is mapped into memory, as decoded images of a
folder are. Each point is a process of its own. Prints the memory of a process that streams, anonymous and
mapped, for each number of images. For the first number it also prints the ratio of images a second, streamed
to resident, timed in turn in one process.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments

_CONFIG = config_flags.DEFINE_config_file("config", "configs/default.py", lock_config=True)
_SECONDS = flags.DEFINE_float("seconds", 5, "about how long each is timed", lower_bound=0.1)
_GIGABYTES = flags.DEFINE_list("gigabytes", ["0.25", "1", "4"], "of images, at each point")
_SIZE = flags.DEFINE_integer("size", 64, "height and width, pixels", lower_bound=8)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "how often both are timed, in turn", lower_bound=0)
_FILE = flags.DEFINE_string("file", None, "of the images; set by the process above")


def write_noise(file: Path, count: int, size: int) -> None:
    """Write images of noise as an array [count, size, size, 3] uint8."""
    rng = np.random.default_rng(0)
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (count, size, size, 3))
    for start in range(0, count, 1000):
        part = images[start : start + 1000]
        part[...] = rng.integers(0, 256, part.shape, np.uint8)


def memory() -> dict[str, int]:
    """Return the bytes of this process that are its own, and those that are mapped from files."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    found = {line[0]: int(line[1]) * 1024 for line in lines if line[0].startswith("Rss")}
    return {"anonymous": found["RssAnon:"], "mapped": found["RssFile:"]}


def point(config) -> dict:
    """Train on the file's images for a while, streamed; then, if asked to, in turn with resident ones."""
    from jaxcifar.config.reader import read_config
    from jaxcifar.data import facts
    from jaxcifar.data.datasets import Dataset
    from jaxcifar.experiment.setup import Setup, start_layout
    from jaxcifar.training.stepper import Stepper

    images = np.load(_FILE.value, mmap_mode="r")
    labels = np.arange(len(images), dtype=np.int32) % 10
    dataset = Dataset(images, labels, tuple("0123456789"))
    layout = start_layout(read_config(config))
    config.num_epochs = 100
    config.schedule.warmup_epochs = 0.0

    def begun(resident_bytes):
        config.data.resident_bytes = resident_bytes
        read = read_config(config)
        setup = Setup.build(read, layout, facts.measure(dataset, config.data.normalisation))
        stepper = Stepper(setup, dataset, config.logging.every_steps, 0)
        stepper.begin(None)
        return stepper

    def rate(stepper):
        first, counts, began = stepper.step, None, time.perf_counter()
        while time.perf_counter() < began + _SECONDS.value:
            epoch = stepper.step // stepper.steps_per_epoch
            out_of_time = lambda: time.perf_counter() > began + _SECONDS.value
            for sent in stepper.rest_of_epoch(epoch, out_of_time):
                if counts is not None:
                    counts.seen.block_until_ready()
                counts = sent.counts
        counts.seen.block_until_ready()
        images = (stepper.step - first) * config.batch_size
        return images / (time.perf_counter() - began)

    streamed = begun(1)
    rate(streamed)
    found: dict = {"images": len(images), "bytes": images.nbytes, "memory": memory()}
    if _ROUNDS.value:
        resident = begun(2**50)
        rate(resident)
        found["rates"] = [[rate(streamed), rate(resident)] for _ in range(_ROUNDS.value)]
    return found


def main(argv):
    del argv
    if _FILE.value:
        print(json.dumps(point(_CONFIG.value)))
        return
    for place, gigabytes in enumerate(map(float, _GIGABYTES.value)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "noise.npy"
            write_noise(file, int(gigabytes * 1e9 / (3 * _SIZE.value**2)), _SIZE.value)
            command = [sys.executable, "-m", "benchmarks.streaming", *config_arguments()]
            command += [f"--file={file}", f"--seconds={_SECONDS.value}", "--verbosity=-1"]
            command += [f"--rounds={0 if place else _ROUNDS.value}"]
            output = subprocess.check_output(command, text=True)
        found = json.loads(output.splitlines()[-1])
        megabytes = ", ".join(
            f"{value / 1e6:,.0f} MB {name}" for name, value in found["memory"].items()
        )
        print(f"{found['images']:,} images, {gigabytes} GB: {megabytes}", flush=True)
        if "rates" in found:
            ratios = [streamed / resident for streamed, resident in found["rates"]]
            streamed, resident = (statistics.median(column) for column in zip(*found["rates"]))
            print(
                f"streamed {streamed:,.0f} images/s, resident {resident:,.0f}; ratio "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")


if __name__ == "__main__":
    app.run(main)

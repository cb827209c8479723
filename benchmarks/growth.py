"""Plots how rate and memory of training grow with batch, width, dataset and devices.

python -m benchmarks.growth --config=configs/default.py [--seconds=5] [--out=DIR]

Every point is a process of its own, on the built-in images. The predictions precede the measurements: the
rate follows from the first point's rate by the FLOPs of an image alone. The memory is what XLA plans for the
program, including the dataset, on top of what the process held before. Virtual devices share one CPU, so
their number should not change the rate; each has a plan of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.machine import peak_bytes

_CONFIG = config_flags.DEFINE_config_file("config", "configs/default.py", lock_config=True)
_SECONDS = flags.DEFINE_float("seconds", 5, "about how long a point is timed", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", "growth", "folder for growth.json and the plots")
_POINT = flags.DEFINE_bool("point", False, "measure this config; set by the process above")

POINTS = {
    "batch size": (64, 128, 256, 512, 1024),
    "width": (0.5, 1.0, 1.5, 2.0),
    "dataset size": (2_000, 10_000, 50_000, 100_000),
    "devices": (1, 2, 4, 8),
}


def point(config) -> dict:
    """Measure the training step of one config in this process."""
    from benchmarks.timing import training_rate
    from jaxcifar.config.reader import read_config
    from jaxcifar.experiment.setup import start_layout

    layout = start_layout(read_config(config))
    config.data.name = "shapes"
    before = peak_bytes()
    measured = training_rate(config, layout, _SECONDS.value)
    return measured | {"peak_bytes": peak_bytes() - before}


def changes(name, value, config) -> list[str]:
    """Return the flags that set `name` to `value`."""
    widths = config.model[config.model.name].widths
    scaled = ",".join(str(round(width * value)) for width in widths) if name == "width" else ""
    return {
        "batch size": [
            f"--config.batch_size={value}",
            f"--config.data.shapes.train_examples={4 * value}",
        ],
        "width": [f"--config.model.{config.model.name}.widths={scaled}"],
        "dataset size": [f"--config.data.shapes.train_examples={value}"],
        "devices": [],
    }[name]


def plot(name, results, folder: Path) -> None:
    """Draw rate and memory against `name`, measured and predicted."""
    from matplotlib import pyplot

    values = [result["value"] for result in results]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axes, quantity, scale, label in (
        (left, "images_per_second", 1, "images a second"),
        (right, "peak_bytes", 1e6, "peak memory, MB"),
    ):
        for kind, style in (("predicted", "--"), ("measured", "o-")):
            axes.plot(values, [r[kind][quantity] / scale for r in results], style, label=kind)
        highest = max(r[kind][quantity] for r in results for kind in ("predicted", "measured"))
        axes.set(xlabel=name, ylabel=label, ylim=(0, 1.1 * highest / scale))
        axes.legend()
    figure.savefig(folder / f"{name.replace(' ', '_')}.png", dpi=120)
    pyplot.close(figure)


def main(argv):
    del argv
    config = _CONFIG.value
    if _POINT.value:
        print(json.dumps(point(config)))
        return
    folder = Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for name, values in POINTS.items():
        results = []
        for value in values:
            environment = dict(os.environ)
            if name == "devices":
                flag = f"--xla_force_host_platform_device_count={value}"
                environment["XLA_FLAGS"] = flag
            command = [sys.executable, "-m", "benchmarks.growth", *sys.argv[1:], "--point"]
            command += ["--verbosity=-1"]  # without JAX's line that there is no TPU
            output = subprocess.check_output(
                [*command, *changes(name, value, config)], env=environment, text=True
            )
            measured = json.loads(output.splitlines()[-1])
            if name == "devices":
                measured["planned_bytes"] *= value  # of one device; they share the memory
            first = results[0]["measured"] if results else measured
            predicted = {
                "images_per_second": first["images_per_second"]
                * first["flops"]
                / measured["flops"],
                "peak_bytes": first["peak_bytes"]
                + measured["planned_bytes"]
                - first["planned_bytes"],
            }
            results.append({"value": value, "measured": measured, "predicted": predicted})
            print(
                f"{name:13} {value:>8} images/s {measured['images_per_second']:9,.0f} "
                f"(predicted {predicted['images_per_second']:9,.0f})  MB "
                f"{measured['peak_bytes'] / 1e6:7,.0f} (predicted {predicted['peak_bytes'] / 1e6:7,.0f})",
                flush=True,
            )
        figures[name] = results
        plot(name, results, folder)
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")
    (folder / "growth.json").write_text(json.dumps(figures | described, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

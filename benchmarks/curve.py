"""Draws the accuracy of a run by epoch; needs the extra `bench`.

python -m benchmarks.curve WORKDIR FILE.png
"""

import json
import sys
from pathlib import Path

from matplotlib import pyplot


def main(workdir: str, file: str) -> None:
    """Plot what `metrics.jsonl` holds."""
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    for name, style in (("train/accuracy", "-"), ("test/accuracy", "o-")):
        points = [(record["epoch"], 100 * record[name]) for record in records if name in record]
        label = name.replace("/", " ")
        if name == "test/accuracy":
            label += f", {points[-1][1]:.2f}% in the end"
        axes.plot(*zip(*points, strict=True), style, label=label)
    axes.set(xlabel="epoch", ylabel="accuracy, %", ylim=(None, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])

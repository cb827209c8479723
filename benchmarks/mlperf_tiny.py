"""Prints a run's accuracy on CIFAR-10's test images, and on the 200 of them that MLPerf Tiny uses.

python -m benchmarks.mlperf_tiny --workdir=DIR [--data_dir=DIR]

The benchmark draws twenty images of each class, by `numpy.random.default_rng(8108)` from the class's images
in their order in the original files. TFDS has another order. The data directory must hold a CIFAR-10 whose
ids tell class and rank, such as `test_frog_0037`; those that TFDS itself prepares do not.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags

from jaxcifar.data.tfds_prepare import prepared_builder
from jaxcifar.data.tfds_reader import class_names
from jaxcifar.evaluation.analysis import wilson_interval

_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "of TFDS; empty: TFDS_DATA_DIR, else its default")


def chosen_ids(classes) -> set[str]:
    """Return the ids of the benchmark's images."""
    rng = np.random.default_rng(8108)
    ranks = {name: rng.choice(np.arange(1000), size=20, replace=False) for name in classes}
    return {f"test_{name}_{rank:04}" for name in classes for rank in ranks[name]}


def main(argv):
    del argv
    workdir = Path(_WORKDIR.value)
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    if (evaluation["dataset"], evaluation["split"]) != ("cifar10", "test"):
        raise SystemExit(f"{workdir} was not evaluated on the split test of cifar10")
    builder = prepared_builder("cifar10", _DATA_DIR.value)
    ids = np.array([example["id"].decode() for example in builder.as_data_source("test")])
    chosen = np.isin(ids, list(chosen_ids(class_names(builder))))
    if chosen.sum() != 200:
        raise SystemExit(f"no class and rank in the ids, such as {ids[0]}")
    predictions = np.load(workdir / "predictions.npz")
    correct = predictions["predictions"] == predictions["labels"]
    for name, part in (("all images", correct), ("MLPerf Tiny's", correct[chosen])):
        low, high = wilson_interval(int(part.sum()), len(part))
        print(f"{name}: {part.mean():.2%} of {len(part):,}, 95% interval {low:.2%} to {high:.2%}")


if __name__ == "__main__":
    app.run(main)

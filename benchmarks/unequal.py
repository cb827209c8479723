"""Trains on 100 cats and 4,900 dogs of CIFAR-10, as they are, with class weights and with balanced sampling.

python -m benchmarks.unequal [--seeds=0,1,2,3,4] [--out=DIR]

The images are written as files, and a CSV file names them: 100 and 4,900 for training, 100 and 500 of the
test split for each of validation and test. Every run is a process of its own, of a small network. Prints
mean and standard deviation over the seeds.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

from benchmarks import machine

_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "of the runs")
_OUT = flags.DEFINE_string("out", None, "folder of images and workdirs; by default a temporary one")

WAYS = {
    "as they are": [],
    "class weights": ["--config.loss.class_weights=balanced"],
    "balanced sampling": ["--config.sampling=balanced"],
    "focal loss, γ = 2": ["--config.loss.focal_gamma=2"],
}
COUNTS = {"train": {"cat": 100, "dog": 4900}, "test": {"cat": 200, "dog": 1000}}
NETWORK = [
    "--config=configs/folder.py",
    "--config.num_epochs=15",
    "--config.batch_size=128",
    "--config.data.image_size=0",
    "--config.model.cnn.widths=(16,32,64)",
    "--config.model.cnn.convs_per_block=(1,1,1)",
    "--config.augmentation.crop.padding=3",
    "--config.augmentation.cutout.size=8",
    "--config.evaluation.every_epochs=15",
    "--config.precision=float32",
]
SCORES = {
    "recall of the cats": lambda found: found["per_class"][0]["recall"],
    "their precision": lambda found: found["per_class"][0]["precision"],
    "balanced accuracy": lambda found: found["balanced_accuracy"],
    "accuracy": lambda found: found["accuracy"],
    "area under the ROC curve": lambda found: found["two_classes"]["roc_area"],
    "balanced accuracy at the threshold": lambda found: found["two_classes"]["at_threshold"][
        "balanced_accuracy"
    ],
}


def write_images(folder: Path) -> Path:
    """Write the images and the CSV file; return the CSV file."""
    from PIL import Image

    from jaxcifar.data import datasets
    from jaxcifar.data.reading import Reading

    rows = []
    for split, counts in COUNTS.items():
        dataset = datasets.tfds(split, name="cifar10", data_dir="", reading=Reading())
        for name, count in counts.items():
            label = dataset.class_names.index(name)
            chosen = [i for i, each in enumerate(dataset.labels) if each == label][:count]
            for place, i in enumerate(chosen):
                path = folder / f"{split}-{name}-{place}.png"
                Image.fromarray(dataset.images[i]).save(path)
                held_out = ("test", "validation")[place % 2]
                rows.append((path.name, name, "train" if split == "train" else held_out))
    with (folder / "unequal.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return folder / "unequal.csv"


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(_OUT.value or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        images = write_images(folder)
        for way, changes in WAYS.items():
            found = []
            for seed in _SEEDS.value:
                workdir = folder / f"{way}, {seed}"
                command = [sys.executable, "-m", "jaxcifar.main", *NETWORK, *changes]
                command += [f"--config.data.folder.path={images}", f"--config.seed={seed}"]
                subprocess.run([*command, f"--workdir={workdir}"], check=True, capture_output=True)
                found.append(json.loads((workdir / "evaluation.json").read_text()))
            for name, score in SCORES.items():
                values = [100 * score(each) for each in found]
                deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
                print(
                    f"{way:20} {name:35} {statistics.mean(values):5.1f} ± {deviation:4.1f}",
                    flush=True,
                )
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")


if __name__ == "__main__":
    app.run(main)

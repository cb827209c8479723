"""Trains each preset for 200 steps on CIFAR-10, and prints by how much the loss has fallen.

python -m benchmarks.first_steps --config=configs/default.py [--presets=resnet20,vit_tiny]

64 images a step, without label smoothing, warm-up or augmentations that mix or hide. The learning rate is
1e-3, and 1e-2 for networks of depthwise convolutions, which learn slowly at 1e-3. The loss of the last 20
steps must be below 0.8 of that of the first 20. By default the presets with less than 400 million
multiplications an image are trained.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments
from jaxcifar.models import PRESETS

LARGE = ("resnet18", "resnet34", "resnet50", "wrn_28_10", "densenet121")
DEPTHWISE = ("mobilenet_v2", "shufflenet_v2")

config_flags.DEFINE_config_file("config", "configs/default.py", lock_config=True)
_PRESETS = flags.DEFINE_list("presets", [name for name in PRESETS if name not in LARGE], "to train")

FLAGS = {
    "num_epochs": 1,
    "batch_size": 64,
    "data.train_split": "train[:12800]",
    "label_smoothing": 0.0,
    "augmentation.cutout.enabled": False,
    "schedule.warmup_epochs": 0,
    "logging.every_steps": 20,
}


def main(argv):
    del argv
    failed = []
    for name in _PRESETS.value:
        with tempfile.TemporaryDirectory() as workdir:
            config, *own = config_arguments()
            rate = 1e-2 if PRESETS[name][0] in DEPTHWISE else 1e-3
            changes = FLAGS | {"optimizer.learning_rate": rate, "model.name": name}
            set_flags = [f"--config.{path}={value}" for path, value in changes.items()]
            command = [sys.executable, "-m", "jaxcifar.main", config, *set_flags, *own]
            command += [f"--workdir={workdir}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            records = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").open()]
        first, last = (records[i]["train/loss"] for i in (0, -1))
        failed += [] if last < 0.8 * first else [name]
        seconds = records[-1]["time"] - records[0]["time"]
        print(
            f"{name}: loss {first:.3f} at first, {last:.3f} at last, {last / first:.2f} of it; "
            f"steps {records[0]['step']} to {records[-1]['step']} in {seconds:.0f} s; "
            f"test accuracy {records[-1]['test/accuracy']:.1%}",
            flush=True,
        )
    described = machine.describe()
    print(f"{described['machine']}; {described['versions']}")
    if failed:
        raise SystemExit(f"not below 0.8 of the first loss: {', '.join(failed)}")


if __name__ == "__main__":
    app.run(main)

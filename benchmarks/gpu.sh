#!/bin/sh
# All that is measured on a GPU, in one go: benchmarks/gpu.sh [FOLDER]
# Needs the extras `cuda` and `bench`, and CIFAR-10 where TFDS_DATA_DIR says.
set -eu
nvidia-smi > /dev/null || { echo "error: no GPU here" >&2; exit 2; }
out=${1:-gpu}
mkdir -p "$out"
for config in fast default; do
    python -m benchmarks.throughput --config=configs/$config.py --out="$out/throughput-$config.json"
done
python -m benchmarks.throughput --config=configs/default.py --config.model.name=resnet --out="$out/throughput-resnet.json"
python -m benchmarks.startup --config=configs/fast.py --out="$out/startup.json"
python -m benchmarks.time_to_accuracy --config=configs/fast.py --peer=torch --out="$out/time-to-accuracy.json"
python -m benchmarks.device_use --config=configs/fast.py --out="$out/device-use.json"

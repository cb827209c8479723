#!/bin/sh
# All that is measured on a GPU, in one go, the most important first: benchmarks/gpu.sh [FOLDER]
# About five minutes on one H100 are expected; what takes longer than its share is cut off, ten minutes in
# all, and the rest goes on.
# Needs the extras `cuda` and `bench`, and CIFAR-10 where TFDS_DATA_DIR says.
set -u
nvidia-smi > /dev/null || { echo "error: no GPU here" >&2; exit 2; }
out=${1:-gpu}
mkdir -p "$out"

measure() {  # SECONDS NAME MODULE [FLAG ...]
    seconds=$1 name=$2 module=$3
    shift 3
    echo "== $name"
    timeout "$seconds" python -m "benchmarks.$module" "$@" --out="$out/$name.json" ||
        echo "$name: not measured within $seconds seconds"
}

measure 75 fast-device-use device_use --config=configs/fast.py --seconds=3
measure 90 fast-beside-airbench time_to_accuracy --config=configs/fast.py --peer=torch --seeds=0
measure 75 default-device-use device_use --config=configs/default.py --seconds=3
measure 60 fast-startup startup --config=configs/fast.py --starts=2
rate() {  # NAME FLAG ...
    name=$1
    shift
    measure 60 "$name-throughput" throughput "$@" --works=train --pairs=3 --seconds=1 --ready_within=40 \
        --sides=jaxcifar --sides="torch compiled" --sides="torch reduce-overhead"
}

rate fast --config=configs/fast.py
rate default --config=configs/default.py
rate resnet --config=configs/default.py --config.model.name=resnet --config.batch_size=512
# Compiles for a minute or more, and so comes last.
measure 120 fast-max-autotune throughput --config=configs/fast.py --works=train --pairs=3 --seconds=1 \
    --ready_within=100 --sides=jaxcifar --sides="torch max-autotune"

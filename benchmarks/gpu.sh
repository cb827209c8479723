#!/bin/sh
# Measures on a GPU, the most important first:
#   benchmarks/gpu.sh recipes [FOLDER]    configs/fast.py and default.py beside PyTorch, about ten minutes
#   benchmarks/gpu.sh networks [FOLDER]   rates of four networks, a run of ResNet-18, at most 15 minutes
# A measurement that exceeds its share is cut off, and the rest goes on. Figures go to FOLDER, else gpu/.
# Needs the extras `cuda` and `bench`, and CIFAR-10 where TFDS_DATA_DIR says.
set -u
nvidia-smi > /dev/null || { echo "error: no GPU here" >&2; exit 2; }
out=${2:-gpu}
mkdir -p "$out"

measure() {  # SECONDS NAME MODULE [FLAG ...]
    seconds=$1 name=$2 module=$3
    shift 3
    echo "== $name"
    timeout "$seconds" python -m "benchmarks.$module" "$@" --out="$out/$name.json" ||
        echo "$name: not measured within $seconds seconds"
}

rate() {  # SECONDS NAME FLAG ...
    seconds=$1 name=$2
    shift 2
    measure "$seconds" "$name-throughput" throughput "$@" --works=train --pairs=3 --seconds=1 \
        --sides=jaxcifar --sides="torch compiled"
}

network() {  # NAME BATCH
    rate 90 "$1" --config=configs/default.py --config.model.name="$1" --config.batch_size="$2" --ready_within=70
}

case ${1:-} in
recipes)
    measure 75 fast-device-use device_use --config=configs/fast.py --seconds=3
    measure 90 fast-beside-airbench time_to_accuracy --config=configs/fast.py --peer=torch --seeds=0
    measure 75 default-device-use device_use --config=configs/default.py --seconds=3
    measure 60 fast-startup startup --config=configs/fast.py --starts=2
    graphs=--sides="torch reduce-overhead"
    rate 60 fast --config=configs/fast.py --ready_within=40 "$graphs"
    rate 60 default --config=configs/default.py --ready_within=40 "$graphs"
    rate 60 resnet --config=configs/default.py --config.model.name=resnet --config.batch_size=512 \
        --ready_within=40 "$graphs"
    # Compiles for a minute or more, and so comes last.
    measure 120 fast-max-autotune throughput --config=configs/fast.py --works=train --pairs=3 --seconds=1 \
        --ready_within=100 --sides=jaxcifar --sides="torch max-autotune"
    ;;
networks)
    network resnet18 512
    network wrn_28_10 256
    network densenet_bc_100_12 256
    network mobilenet_v2_x1_0 512
    measure 480 resnet18-accuracy time_to_accuracy --config=configs/resnet18.py --seeds=0
    ;;
*)
    echo "error: name what to measure: recipes or networks" >&2
    exit 2
    ;;
esac

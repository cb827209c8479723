#!/bin/sh
# Set up .venv from the lock, then train or test:
#   ./run.sh                                  train configs/quick.py on the built-in images
#   ./run.sh --config=configs/default.py ...  train that config; flags as for python -m jaxcifar.main
#   ./run.sh --workdir=DIR                    go on with the run in DIR, under its own config
#   ./run.sh COMMAND ...                      train, evaluate, predict, report or list: see --help
#   ./run.sh test [pytest arguments]          run the tests
#   ./run.sh lint                             check style and types
# PYTHON names the interpreter (3.11 to 3.13); JAXCIFAR_JAX=cpu|cuda|tpu the JAX to install, which is
# otherwise chosen by what the machine has, or lowest for the lowest versions that the project admits.
set -eu

fail() {
    echo "error: $1" >&2
    exit 2
}

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$root/.venv

find_python() {
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
        [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13: name one that is"
    done
    fail "no Python 3.11, 3.12 or 3.13 found: install one, or name it with PYTHON=/path/to/python3"
}

find_jax() {
    case "${JAXCIFAR_JAX:-}" in
    cpu | cuda | tpu | lowest) echo "$JAXCIFAR_JAX" && return ;;
    '') ;;
    *) fail "JAXCIFAR_JAX=$JAXCIFAR_JAX is unknown: it takes cpu, cuda or tpu" ;;
    esac
    case ",${JAX_PLATFORMS:-}," in
    *,cuda,* | *,gpu,*)
        nvidia-smi -L 2>/dev/null | grep -q GPU ||
            fail "JAX_PLATFORMS=$JAX_PLATFORMS, but nvidia-smi lists no GPU: unset it, or install JAX for CUDA all the same with JAXCIFAR_JAX=cuda"
        echo cuda
        ;;
    *,tpu,*) echo tpu ;;
    ,cpu,) echo cpu ;;
    *)
        if nvidia-smi -L 2>/dev/null | grep -q GPU; then
            echo cuda
        elif [ -e /dev/accel0 ]; then
            echo tpu
        else
            echo cpu
        fi
        ;;
    esac
}

ready() {
    cmp -s "$2" "$1/made-by-run.sh" && [ -x "$1/bin/python" ]
}

# On a terminal, until it is killed or run.sh ends.
count_seconds() {
    seconds=0
    while printf '\r%s: %d s' "$1" "$seconds" >&2 && sleep 1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 1))
    done
}

set_up() {
    python=$(find_python)
    [ ! -e "$1" ] || [ -e "$1/made-by-run.sh" ] || fail "$1 is not of run.sh's making: move it away or remove it"
    if [ -e "$1" ]; then
        echo "$1 is unfinished, or not made from $2: it is made anew" >&2
        # A run holds on to the environment that it computes in.
        if command -v flock >/dev/null && ! flock -n "$1/made-by-run.sh" true; then
            fail "$1 is to be set up anew for $3, and a run is using it: wait for its end"
        fi
        rm -rf "$1.old"
        mv "$1" "$1.old" # at once, so that nothing half removed is taken for whole
    fi
    words="setting up $1 for $3 (once)"
    if [ -t 2 ]; then count_seconds "$words" 9>&- & else echo "$words" >&2; fi
    ticker=${!:-}
    rm -rf "$1.old"
    mkdir "$1"
    echo unfinished >"$1/made-by-run.sh"
    "$python" -m venv "$1" || fail "$python has no venv: install it (on Debian: apt-get install python3-venv)"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$2" ||
        fail "the packages in $2 could not be installed: see pip's words above"
    cp "$2" "$1/made-by-run.sh"
    [ -z "$ticker" ] || { kill "$ticker" && echo >&2; }
}

package() {
    echo "$root"
    cat "$root/pyproject.toml"
}

has_package() {
    package | cmp -s - "$1/package-by-run.sh"
}

# The package is found from every directory then. What says where it is, and how it is installed, is kept.
install_package() {
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
        --editable "$root" || fail "the package could not be installed: see pip's words above"
    package >"$1/package-by-run.sh"
}

# once CHECK MAKE FOLDER ...: unless CHECK FOLDER ... says that it is there, MAKE FOLDER ...
once() {
    check=$1 make=$2
    shift 2
    if ! "$check" "$@"; then
        # Of several that start at once, as the processes of one run, one makes it and the others wait.
        if command -v flock >/dev/null; then
            [ -w "$root" ] || [ -w "$1.lock" ] ||
                fail "$1 is not set up for this version, and $root cannot be written to: its owner must start run.sh once"
            exec 9>"$1.lock"
            flock -n 9 || { echo "waiting for another run.sh, which sets up $1" >&2 && flock 9; }
        fi
        "$check" "$@" || "$make" "$@"
        exec 9>&-
    fi
}

jax=$(find_jax)
lock=$root/requirements/$jax.lock
# JAX for a GPU or a TPU runs on a CPU too, if it is told to.
if [ "$jax" = cpu ] && [ "${JAX_PLATFORMS:-}" = cpu ] && [ -z "${JAXCIFAR_JAX:-}" ]; then
    for other in cuda tpu; do
        if ready "$venv" "$root/requirements/$other.lock"; then lock=$root/requirements/$other.lock; fi
    done
fi
once ready set_up "$venv" "$lock" "JAX on $jax"
once has_package install_package "$venv"
if command -v flock >/dev/null; then
    exec 8<"$venv/made-by-run.sh" # until the program ends
    flock -s -n 8 || true
fi

# Large pages for large arrays, which on a CPU XLA asks for anew at each step; few arenas, so that what
# threads leave in them does not hold on to those pages.
GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2}
export GLIBC_TUNABLES
if [ "${1:-}" = lint ]; then
    cd "$root"
    once ready set_up "$root/.venv-lint" requirements/lint.lock "ruff and basedpyright"
    .venv-lint/bin/ruff check
    .venv-lint/bin/ruff format --check
    exec .venv-lint/bin/basedpyright --pythonpath "$venv/bin/python"
fi
if [ "${1:-}" = test ]; then
    shift
    cd "$root"
    exec "$venv/bin/python" -m pytest "$@"
fi
case ${1:-} in
evaluate | predict | report | list | --version | --help | -h)
    exec "$venv/bin/jaxcifar" "$@"
    ;;
train) shift ;;
esac
# Without a config, a run that the workdir holds goes on; where there is none, quick.py is trained.
config="--config=$root/configs/quick.py" previous='' workdir=''
for argument; do
    case $previous in -workdir | --workdir) argument=--workdir=$argument ;; esac
    previous=$argument
    case $argument in
    -config | --config | -config=* | --config=* | --mode=evaluate | --mode=report | evaluate | report) config= ;;
    -workdir=* | --workdir=*)
        workdir=${argument#*=}
        case $workdir in "~/"*) workdir=$HOME/${workdir#"~/"} ;; esac
        [ ! -f "$workdir/config.json" ] || config=
        ;;
    esac
done
[ -z "$config" ] || [ -z "$workdir" ] || echo "no run in $workdir: training configs/quick.py" >&2
exec "$venv/bin/python" -m jaxcifar.main ${config:+"$config"} "$@"

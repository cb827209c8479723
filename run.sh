#!/bin/sh
# Set up .venv from the lock, then train or test:
#   ./run.sh                                  train configs/quick.py on the built-in images
#   ./run.sh --config=configs/default.py ...  train that config; flags as for python -m jaxcifar.main
#   ./run.sh predict --workdir=DIR IMAGE ...  say what is on images, as python -m jaxcifar.predict
#   ./run.sh report DIR DIR ...               put runs side by side, as python -m jaxcifar.report
#   ./run.sh test [pytest arguments]          run the tests
# PYTHON names the interpreter (3.11 to 3.13); JAXCIFAR_JAX=cpu|cuda|tpu the JAX to install, which is
# otherwise chosen by what the machine has.
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
    cpu | cuda | tpu) echo "$JAXCIFAR_JAX" && return ;;
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

jax=$(find_jax)
lock=$root/requirements/$jax.lock
mark=$venv/made-by-run.sh
# JAX for a GPU or a TPU runs on a CPU too, if it is told to.
if [ "$jax" = cpu ] && [ "${JAX_PLATFORMS:-}" = cpu ] && [ -z "${JAXCIFAR_JAX:-}" ]; then
    for other in cuda tpu; do
        if cmp -s "$root/requirements/$other.lock" "$mark"; then lock=$root/requirements/$other.lock; fi
    done
fi
ready() {
    cmp -s "$lock" "$mark" && [ -x "$venv/bin/python" ]
}

set_up() {
    python=$(find_python)
    [ ! -e "$venv" ] || [ -e "$mark" ] || fail "$venv is not of run.sh's making: move it away or remove it"
    echo "setting up $venv for JAX on $jax (once)" >&2
    rm -rf "$venv"
    mkdir "$venv"
    echo unfinished >"$mark"
    "$python" -m venv "$venv" || fail "$python has no venv: install it (on Debian: apt-get install python3-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" ||
        fail "the packages in $lock could not be installed: see pip's words above"
    cp "$lock" "$mark"
}

if ! ready; then
    # Of several that start at once, as the processes of one run, one sets up and the others wait.
    if command -v flock >/dev/null; then
        exec 9>"$venv.lock"
        flock 9
    fi
    ready || set_up
    exec 9>&-
fi

PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# Large pages for large arrays, which on a CPU XLA asks for anew at each step; few arenas, so that what
# threads leave in them does not hold on to those pages.
GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2}
export PYTHONPATH GLIBC_TUNABLES
if [ "${1:-}" = test ]; then
    shift
    cd "$root"
    exec "$venv/bin/python" -m pytest "$@"
fi
case ${1:-} in
predict | report)
    program=$1
    shift
    exec "$venv/bin/python" -m "jaxcifar.$program" "$@"
    ;;
esac
for argument; do
    case $argument in
    --config | --config=* | --mode=evaluate | --mode=report | evaluate | report | --help | -h) exec "$venv/bin/python" -m jaxcifar.main "$@" ;;
    esac
done
exec "$venv/bin/python" -m jaxcifar.main --config="$root/configs/quick.py" "$@"

#!/bin/sh
# Make the locks anew from pyproject.toml. Needs uv.
#   cpu, cuda, tpu   what run.sh installs
#   lint             ruff and basedpyright
#   lowest           the lowest versions that pyproject.toml admits, for Python 3.11 on a CPU
set -eu
cd "$(dirname "$0")/.."

lock() {
    name=$1
    shift
    uv pip compile "$@" --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        --no-annotate --quiet --output-file "requirements/$name.lock"
}

lock cpu pyproject.toml --extra test --group build --universal
for jax in cuda tpu; do
    lock $jax pyproject.toml --extra test --group build --extra $jax --constraint requirements/cpu.lock --universal
done
lock lint --group lint --universal
rm -f requirements/lowest.lock  # or uv would keep what it holds
lock lowest pyproject.toml --extra test --group build --resolution lowest-direct

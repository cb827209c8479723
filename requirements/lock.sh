#!/bin/sh
# Make the locks anew from pyproject.toml. Needs uv.
set -eu
cd "$(dirname "$0")/.."
for jax in cpu cuda tpu; do
    extras="--extra test"
    [ "$jax" = cpu ] || extras="$extras --extra $jax --constraint requirements/cpu.lock"
    # shellcheck disable=SC2086
    uv pip compile pyproject.toml $extras --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --no-annotate --quiet --output-file "requirements/$jax.lock"
done

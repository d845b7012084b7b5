#!/usr/bin/env bash
# Resolves the dependencies of pyproject.toml with uv, without torch: scripts/resolve.sh UV OUTPUT [OPTIONS_OF_UV...]
# What OUTPUT has already is kept where it fits, unless --upgrade is among the options.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="$1" output="$2"
shift 2
"$uv" pip compile pyproject.toml --quiet --overrides requirements/without_torch.txt --no-emit-package torch \
    --generate-hashes --custom-compile-command "make lock" --output-file "$output" "$@"

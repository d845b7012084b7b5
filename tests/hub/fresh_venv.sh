#!/usr/bin/env bash
# Runs the test of loading without the package in a fresh environment that has only torch, transformers, diffusers and
# accelerate: tests/hub/fresh_venv.sh DIRECTORY [PYTHON_THAT_RUNS_PYTEST]
set -euo pipefail
venv="$1"
test -x "$venv/bin/python" || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet "${TORCH:-torch==2.13.0}" transformers diffusers accelerate
if "$venv/bin/python" -c "import lumos_hf" 2> /dev/null; then
    echo "lumos_hf is installed in $venv." >&2
    exit 1
fi
cd "$(dirname "$0")/../.."
LUMOS_PLAIN_PYTHON="$venv/bin/python" "${2:-.venv/bin/python}" -m pytest -n 0 tests/hub -k needs_no_package

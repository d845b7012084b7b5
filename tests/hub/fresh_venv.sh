#!/usr/bin/env bash
# Runs the test of loading without the package in a fresh environment that has only torch, transformers, diffusers and
# accelerate: tests/hub/fresh_venv.sh DIRECTORY [PYTHON_THAT_RUNS_PYTEST]
set -euo pipefail
venv="$(realpath --canonicalize-missing "$1")"
test -x "$venv/bin/python" || python3 -m venv "$venv"
cd "$(dirname "$0")/../.."
# shellcheck disable=SC2086  # TORCH may bring options of pip
"$venv/bin/pip" install --quiet ${TORCH:---requirement requirements/torch.txt} transformers diffusers accelerate
if "$venv/bin/python" -c "import lumos_hf" 2> /dev/null; then
    echo "lumos_hf is installed in $venv." >&2
    exit 1
fi
LUMOS_PLAIN_PYTHON="$venv/bin/python" "${2:-.venv/bin/python}" -m pytest -n 0 tests/hub -k needs_no_package

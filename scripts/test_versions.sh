#!/usr/bin/env bash
# Runs the test suite in a virtual environment of its own, with the lowest versions that pyproject.toml allows or with
# the newest: scripts/test_versions.sh UV lowest|newest TORCH [ARGUMENTS_OF_PYTEST...]
set -euo pipefail
cd "$(dirname "$0")/.."
uv="$1" which="$2" torch="$3"
shift 3
case "$which" in
    lowest) resolution=lowest-direct ;;
    newest) resolution=highest ;;
    *) echo "lowest or newest, not '$which'" >&2 && exit 2 ;;
esac
directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

"${PYTHON:-python3}" -m venv "$directory/venv"
scripts/resolve.sh "$uv" "$directory/$which.txt" --extra dev --resolution "$resolution" --python "$directory/venv/bin/python"
# shellcheck disable=SC2086  # TORCH may bring options of pip
"$directory/venv/bin/pip" install --quiet $torch
"$directory/venv/bin/pip" install --quiet --no-deps --requirement "$directory/$which.txt"
"$directory/venv/bin/pip" install --quiet --no-deps --editable .
"$directory/venv/bin/pip" check
echo "== $which versions =="
"$directory/venv/bin/pip" list --format=freeze
"$directory/venv/bin/python" -m pytest -n "${WORKERS:-auto}" "$@"

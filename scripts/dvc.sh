#!/usr/bin/env bash
# Puts the pinned DVC into a local environment (.venv) and prints the path of its program.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=3.67.1
dvc="$PWD/.venv/bin/dvc"
if [ "$("$dvc" --version 2>/dev/null)" != "$wanted" ]; then
  echo "installing DVC $wanted into .venv" >&2
  python3 -m venv .venv >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "dvc==$wanted" >&2
fi
echo "$dvc"

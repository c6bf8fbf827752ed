#!/usr/bin/env bash
# Installs the pinned DVC into a local environment (.venv) and prints the path of its program. Every
# package must match a hash in requirements-dvc.txt, so exactly the tested packages are installed.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=$(sed -n 's/^dvc==\([0-9.]*\).*/\1/p' scripts/requirements-dvc.txt)
dvc="$PWD/.venv/bin/dvc"
if [ "$("$dvc" --version 2>/dev/null)" != "$wanted" ]; then
  echo "installing DVC $wanted into .venv" >&2
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "Python 3.10 or newer is needed, found $(python3 --version)" >&2
    exit 1
  fi
  python3 -m venv .venv >&2
  install=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:)
  "${install[@]}" --requirement scripts/requirements-build.txt >&2
  # One package has no wheel. It is built with the tools above; pip would fetch others without a hash.
  "${install[@]}" --no-binary antlr4-python3-runtime --no-build-isolation --requirement scripts/requirements-dvc.txt >&2
fi
echo "$dvc"

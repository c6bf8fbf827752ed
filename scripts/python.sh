#!/usr/bin/env bash
# Installs the pinned ONNX Runtime, NumPy, pandas and safetensors into a local environment
# (.venv-python) and prints the path of its Python. Every package must match a hash in
# requirements-python.txt, so exactly the tested packages are installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python="$PWD/.venv-python/bin/python"
wanted=scripts/requirements-python.txt
installed=.venv-python/requirements.txt
if ! cmp --silent "$wanted" "$installed"; then
  echo "installing ONNX Runtime, NumPy, pandas and safetensors into .venv-python" >&2
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed, found $(python3 --version)" >&2
    exit 1
  fi
  python3 -m venv --clear .venv-python >&2
  "$python" -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes --only-binary :all: --requirement "$wanted" >&2
  cp "$wanted" "$installed"
fi
echo "$python"

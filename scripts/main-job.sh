#!/usr/bin/env bash
# Runs the main job on a fresh machine: installs DVC into .venv, builds, partitions the images
# (cifar10_dataset/ if it exists, else a download of CIFAR-10, else the built-in synthetic dataset),
# tracks the partitions, and runs `dvc repro`. Arguments go to `partition`, such as --source
# /data/cifar10 or --offline.
set -euo pipefail
cd "$(dirname "$0")/.."
dvc=$(scripts/dvc.sh)
cargo build --locked --release -p cifar-cli
# Partition if a source is named, if a partition is missing, or if they are synthetic and real images
# have been added since.
stale=$#
for partition in v1 v2 v3; do
  manifest=dataset_partitions/$partition/manifest.csv
  if [ ! -f "$manifest" ] || { [ -d cifar10_dataset ] && sed -n 2p "$manifest" | grep -q SYNTHETIC; }; then
    stale=1
  fi
done
if [ "$stale" -gt 0 ]; then
  cargo run --locked --release --quiet -p cifar-cli -- partition "$@"
fi
partitions=(dataset_partitions/v*/)
"$dvc" add --quiet "${partitions[@]%/}"
"$dvc" repro
bin/cifar-cli check
echo
echo "hard images:  evaluation/hard_images/index.html (open it in a browser)"
echo "predictions:  evaluation/test, with plots and metrics.json"
echo "model:        models/final/model.safetensors"

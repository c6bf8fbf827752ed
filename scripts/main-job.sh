#!/usr/bin/env bash
# The main job on a fresh machine: DVC into .venv, build, partition (cifar10_dataset/ if it is there, else a download of
# CIFAR-10, else, without a network, the built-in synthetic set), track the partitions, `dvc repro`. Arguments go to
# `partition`, e.g. --source /data/cifar10 or --offline.
set -euo pipefail
cd "$(dirname "$0")/.."
dvc=$(scripts/dvc.sh)
cargo build --locked --release -p cifar-cli
# Partitions are cut if a source is named, if one is missing, or if they are drawn and real images have come since.
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
"$dvc" add --quiet dataset_partitions/v1 dataset_partitions/v2 dataset_partitions/v3
"$dvc" repro
"$dvc" metrics show
echo "results: models/final, evaluation/test, evaluation/hard_images (open its index.html in a browser)"

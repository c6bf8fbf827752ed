#!/usr/bin/env bash
# The main job on a fresh machine: DVC into .venv, build, partition (cifar10_dataset/ if it is there, else the built-in
# synthetic set), track the partitions, `dvc repro`. Arguments go to `partition`, e.g. --source /data/cifar10.
set -euo pipefail
cd "$(dirname "$0")/.."
dvc=$(scripts/dvc.sh)
cargo build --locked --release -p cifar-cli
if [ $# -gt 0 ] || [ ! -d dataset_partitions/v1 ] || [ ! -d dataset_partitions/v2 ] || [ ! -d dataset_partitions/v3 ]; then
  cargo run --locked --release --quiet -p cifar-cli -- partition "$@"
fi
"$dvc" add --quiet dataset_partitions/v1 dataset_partitions/v2 dataset_partitions/v3
"$dvc" repro
"$dvc" metrics show
echo "results: models/final, evaluation/test, evaluation/hard_images"

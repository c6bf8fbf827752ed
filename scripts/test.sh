#!/usr/bin/env bash
# Checks everything that must hold before a change lands: format, lints, documentation, unit and
# property tests, the README's example, and the end-to-end tests with the real program, DVC,
# Chromium and Slurm. All in the dev profile: it compiles soonest, checks for overflow, and trains
# as fast as a release, with the same bits. The GitHub workflow tests the release profile.
#
# `scripts/test.sh --quick` checks format, lints, unit and property tests and one small end-to-end
# run. It needs only cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$#" -gt 1 ] || { [ "$#" = 1 ] && [ "$1" != --quick ]; }; then
  echo "usage: scripts/test.sh [--quick]" >&2
  exit 2
fi
if ! git diff --quiet HEAD -- params.yaml; then
  echo "warning: params.yaml is not the committed one, whose values many tests start from: some may fail" >&2
fi

# Dependencies have the same features in every cargo call below, so they are compiled once.
if [ "$#" = 1 ]; then
  cargo fmt --all --check
  cargo clippy --locked --workspace --all-targets -- -D warnings
  cargo build --locked -p cifar-cli
  # The examples train networks, which takes a minute.
  cargo test --locked --workspace --exclude cifar-e2e --tests -- --skip examples::
  cargo test --locked --workspace --test e2e -- journey::every_result_exists_and_is_marked_synthetic
  exit
fi

# The tools for the end-to-end tests are installed while cargo compiles.
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
scripts/dvc.sh >"$logs/dvc" 2>&1 &
dvc=$!
scripts/python.sh >"$logs/python" 2>&1 &
python=$!
(scripts/browser.sh && scripts/slurm.sh) >"$logs/apt" 2>&1 &
apt=$!

cargo fmt --all --check
cargo build --locked -p cifar-cli
cargo clippy --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
cargo test --locked --workspace --exclude cifar-e2e --tests
cargo test --locked --workspace --doc
# With the workspace's profiles, so that dependencies are shared. Its own crates are compiled for this
# test alone, so most of them are hardly optimised.
fast=()
for crate in data eval model train; do fast+=(--config "profile.dev.package.cifar-$crate.opt-level=1"); done
cargo test --locked --config Cargo.toml "${fast[@]}" --manifest-path tests/consumer/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}"

wait "$dvc" || { cat "$logs/dvc" >&2; exit 1; }
wait "$python" || { cat "$logs/python" >&2; exit 1; }
wait "$apt" || { cat "$logs/apt" >&2; exit 1; }
CIFAR_DVC=$(scripts/dvc.sh)
export CIFAR_DVC
e2e=(--locked --workspace --test e2e)
cargo test "${e2e[@]}" --no-run
# DVC and Slurm tests mostly wait, so they run in parallel with the others.
cargo test "${e2e[@]}" -- dvc:: slurm:: >"$logs/beside" 2>&1 &
beside=$!
failed=0
cargo test "${e2e[@]}" -- --skip dvc:: --skip slurm:: || failed=1
wait "$beside" || failed=1
cat "$logs/beside"
exit "$failed"

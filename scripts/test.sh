#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, documentation, unit and property tests, the README's
# example, and the end-to-end tests with the real program, the real DVC, a real Chromium and a real Slurm. All in the release
# profile: the tests train networks, and what is compiled serves the program too.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! git diff --quiet HEAD -- params.yaml; then
  echo "warning: params.yaml is not the committed one, whose values many tests start from: some may fail" >&2
fi
CIFAR_DVC=$(scripts/dvc.sh)
export CIFAR_DVC
scripts/browser.sh
scripts/slurm.sh
cargo fmt --all --check
cargo build --locked --release -p cifar-cli
cargo clippy --locked --release --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --locked --release --workspace --no-deps --document-private-items
cargo test --locked --release --workspace --exclude cifar-e2e
cargo test --locked --release --manifest-path tests/consumer/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}"
cargo test --locked --release -p cifar-e2e

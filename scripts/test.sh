#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, unit and property tests, documentation, the library
# example, and the end-to-end tests with the real binary and the real DVC.
set -euo pipefail
cd "$(dirname "$0")/.."
CIFAR_DVC=$(scripts/dvc.sh)
export CIFAR_DVC
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
cargo test --locked --workspace --exclude cifar-e2e
cargo test --locked --manifest-path tests/consumer/Cargo.toml --target-dir target/consumer
# The program as users have it.
cargo build --locked --release -p cifar-cli
cargo test --locked -p cifar-e2e

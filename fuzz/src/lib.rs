//! What the targets share: a file in a folder of its own, read as a source of images.
//!
//! `cargo +nightly fuzz run parquet crates/cifar-data/tests/fixtures/cifar-10-parquet` from the repository's root, with any
//! of the targets and a folder of files to begin with. A target fails by a panic, by memory (`-rss_limit_mb=1024`) or by time.

use std::path::Path;

use cifar_data::sources::{self, Labels, ReadOptions};
use cifar_data::{Fit, Resize, Silent};

/// Writes `bytes` as `file` into a new folder and calls `read` with the folder.
pub fn with_file(file: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(file);
    std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
    std::fs::write(path, bytes).expect("room for a file");
    read(folder.path());
}

/// Reads what lies at `path` in every way; whether it can be read does not matter.
pub fn read_source(path: &Path) {
    for labels in [Labels::Fine, Labels::Coarse] {
        for skip_broken in [false, true] {
            for resize in [None, Resize::square(32, Fit::Pad).ok()] {
                let _ = sources::read(path, &ReadOptions { skip_broken, labels, resize }, &Silent);
            }
        }
    }
}

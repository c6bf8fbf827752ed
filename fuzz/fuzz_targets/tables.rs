//! Tables and records: those of the user, and those that stages leave for each other.
#![no_main]

use cifar_data::labels::{read_overrides, read_review};
use cifar_data::prepare::{PreparedReport, read_pairs, read_partitions};
use cifar_data::pull::Raw;

/// Lists the file as the stage itself would: what the hash would refuse is to reach the reader behind it.
fn list(folder: &std::path::Path, made_by: &str, file: &str) {
    cifar_data::provenance::write(folder, made_by, &[], &[file]).expect("room for a file");
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let classes = ["cat".to_string(), "dog".to_string()];
    cifar_fuzz::with_file("overrides.csv", bytes, |folder| {
        let _ = read_overrides(&folder.join("overrides.csv"), &classes);
    });
    cifar_fuzz::with_file("review.csv", bytes, |folder| {
        let _ = read_review(&folder.join("review.csv"), &classes);
    });
    cifar_fuzz::with_file("report.json", bytes, |folder| {
        list(folder, "prepare", "report.json");
        let _ = PreparedReport::read(folder);
    });
    cifar_fuzz::with_file("near_duplicates.csv", bytes, |folder| {
        list(folder, "prepare", "near_duplicates.csv");
        let _ = read_pairs(folder);
    });
    cifar_fuzz::with_file("split.csv", bytes, |folder| {
        list(folder, "prepare", "split.csv");
        let _ = read_partitions(folder);
    });
    cifar_fuzz::with_file("pull.json", bytes, |folder| {
        list(folder, "pull", "pull.json");
        let _ = Raw::read(folder);
    });
    cifar_fuzz::with_file("index.csv", bytes, |folder| {
        std::fs::create_dir(folder.join("cat")).expect("a folder");
        std::fs::write(folder.join("cat/x.png"), b"").expect("room for a file");
        cifar_fuzz::read_source(folder);
    });
});

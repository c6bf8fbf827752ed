//! Parquet files as Hugging Face publishes CIFAR: the same images as from the archives, and files
//! that are refused.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use cifar_data::sources::{self, Labels, ReadOptions};
use cifar_data::{Dataset, Published, Result, Silent, SourceKind, store};
use common::{Warned, check_refused, get, put, shown, temporary};
use proptest::prelude::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read_labels(path: &Path, labels: Labels) -> Result<Dataset> {
    sources::read(path, &ReadOptions { labels, ..ReadOptions::default() }, &Silent).map(|images| images.dataset)
}

fn read(path: &Path) -> Result<Dataset> {
    read_labels(path, Labels::Fine)
}

/// A folder with copies of the files of a fixture.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = temporary();
    for entry in fs::read_dir(fixture(name)).expect("a fixture") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    folder
}

#[track_caller]
fn check_same(parquet: &Dataset, archive: &Dataset) {
    assert_eq!((parquet.classes(), parquet.size()), (archive.classes(), archive.size()));
    assert!(parquet.pixels() == archive.pixels(), "pixels differ");
    let facts = |set: &Dataset| set.samples().iter().map(|s| (s.id, s.label, s.published)).collect::<Vec<_>>();
    assert_eq!(facts(parquet), facts(archive));
    assert_eq!(store::fingerprint(parquet), store::fingerprint(archive));
}

#[test]
fn the_same_images_as_from_the_archives() {
    let set = read(&fixture("cifar-10-parquet")).expect("it is whole");
    check_same(&set, &read(&fixture("cifar-10-binary.tar.gz")).expect("it is whole"));
    assert_eq!(set.header().source.kind, SourceKind::Parquet);
    assert_eq!(set.header().source.description, "parquet, 7 images");
    assert_eq!(set.samples()[4].file, "train-00001-of-00002.parquet/00000");
    for labels in [Labels::Fine, Labels::Coarse] {
        let parquet = read_labels(&fixture("cifar-100-parquet"), labels).expect("it is whole");
        for form in ["binary", "python"] {
            let archive = read_labels(&fixture(&format!("cifar-100-{form}.tar.gz")), labels).expect("it is whole");
            check_same(&parquet, &archive);
            let coarse = archive.classes() == ["fish", "fruit_and_vegetables"];
            assert_eq!(coarse, labels == Labels::Coarse);
            assert_eq!(archive.header().source.description.ends_with(", coarse labels"), coarse);
        }
    }
}

#[test]
fn only_cifar_100_has_coarse_labels() {
    for name in ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"] {
        check_refused(read_labels(&fixture(name), Labels::Coarse), &[name, "no coarse labels; CIFAR-100 has"]);
    }
    let parts = ["img.bytes, img.path, label", "expected img or image", "and coarse_label"];
    check_refused(read_labels(&fixture("cifar-10-parquet"), Labels::Coarse), &parts);
    let folder = temporary();
    put(&folder.path().join("cat/1.png"), &common::noisy_png(0, common::SIZE));
    check_refused(read_labels(folder.path(), Labels::Coarse), &["has no coarse labels"]);
}

#[test]
fn files_are_found_in_every_layout() {
    let expected = read(&fixture("cifar-10-parquet")).expect("it is whole");
    let root = temporary();
    let inner = root.path().join("plain_text");
    fs::create_dir(&inner).expect("a folder");
    for entry in fs::read_dir(fixture("cifar-10-parquet")).expect("a fixture") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, inner.join(path.file_name().expect("a name"))).expect("a copy");
    }
    put(&root.path().join("README.md"), b"x");
    check_same(&read(root.path()).expect("one set is there"), &expected);
    // A single file has no published split.
    let file = inner.join("test-00000-of-00001.parquet");
    let single = read(&file).expect("a file");
    assert!(single.samples().iter().all(|s| s.published == Published::None));
    put(&root.path().join("cat/1.png"), &common::noisy_png(0, common::SIZE));
    check_refused(read(root.path()), &["holds class folders and plain_text, and either could be meant"]);
}

#[test]
fn missing_files_are_named() {
    let folder = copy("cifar-10-parquet");
    let at = |name: &str| folder.path().join(name);
    fs::remove_file(at("train-00001-of-00002.parquet")).expect("it is there");
    check_refused(read(folder.path()), &["holds train-00000-of-00002.parquet, but not train-00001-of-00002.parquet"]);
    fs::rename(at("train-00000-of-00002.parquet"), at("other.parquet")).expect("it is there");
    check_refused(read(folder.path()), &["holds other.parquet, test-00000-of-00001.parquet; expected train*.parquet"]);
    fs::remove_file(at("other.parquet")).expect("it is there");
    check_refused(
        read(folder.path()),
        &["holds test-00000-of-00001.parquet; expected train*.parquet and test*.parquet"],
    );
    let both = copy("cifar-10-parquet");
    fs::copy(fixture("cifar-100-parquet/test-00000-of-00001.parquet"), both.path().join("test-00000-of-00001.parquet"))
        .expect("a copy");
    check_refused(
        read(both.path()),
        &["test-00000-of-00001.parquet: has other class names than train-00000-of-00002.parquet"],
    );
}

#[test]
fn other_files_are_refused() {
    let folder = temporary();
    let path = folder.path().join("x.parquet");
    let check = |bytes: &[u8], parts: &[&str]| {
        put(&path, bytes);
        check_refused(read(&path), &[&[shown(&path).as_str()], parts].concat());
    };
    check(b"", &["is not a parquet file"]);
    check(b"PK\x03\x04", &["is not a parquet file"]);
    check(b"PAR1", &["is cut short"]);
    check(b"PAR1\xff\xff\xff\xffPAR1", &["has 4294967295 bytes of metadata"]);
    check(&get(&fixture("gzip.parquet")), &["is packed with GZIP", "allowed are SNAPPY, ZSTD and none"]);
    let good = get(&fixture("cifar-10-parquet/train-00000-of-00002.parquet"));
    for length in [10, 100, good.len() / 2, good.len() - 9, good.len() - 1] {
        check(&good[..length], &["is cut short"]);
    }
    for (name, parts) in [
        ("label", ["row 0 has label 10; there are 10 classes, 0 to 9"]),
        ("columns", ["has the columns picture.bytes, picture.path, label; expected img or image, with bytes and path"]),
        ("null", ["row 0 has no image bytes"]),
    ] {
        check_refused(read(&fixture(&format!("{name}.parquet"))), &parts);
    }
    // A page that claims two gigabytes: type 0, its sizes in zigzag.
    let at = good.windows(4).position(|w| w[..3] == [0x15, 0x04, 0x15]).expect("a dictionary page comes first");
    let mut bomb = good.clone();
    bomb.splice(at + 3..at + 5, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
    check(&bomb, &["bytes at byte"]);
}

#[test]
fn classes_without_names_get_numbers_and_a_warning() {
    let warned = Warned::default();
    let set = sources::read(&fixture("bare.parquet"), &ReadOptions::default(), &warned).expect("it is whole").dataset;
    let named = read(&fixture("cifar-10-parquet/test-00000-of-00001.parquet")).expect("it is whole");
    assert_eq!(set.labels(), named.labels());
    let most = usize::from(set.labels().into_iter().max().expect("there are some"));
    assert_eq!(set.classes(), (0..=most).map(|label| label.to_string()).collect::<Vec<_>>());
    let warnings = warned.0.into_inner().expect("nobody panicked");
    assert!(warnings.len() == 1 && warnings[0].contains("has no class names"), "{warnings:?}");
}

proptest! {
    /// Reading any damaged file ends with a set or a message.
    #[test]
    fn damaged_files_never_panic(
        name in prop::sample::select(vec![
            "cifar-10-parquet/train-00000-of-00002.parquet",
            "cifar-10-parquet/train-00001-of-00002.parquet",
            "cifar-10-parquet/test-00000-of-00001.parquet",
            "bare.parquet",
        ]),
        mutation in common::mutation(),
        at_the_end in any::<bool>(),
    ) {
        let mut bytes = get(&fixture(name));
        // The file's metadata are in its last kilobytes: most failures are there.
        let from = if at_the_end { bytes.len().saturating_sub(2048) } else { 0 };
        mutation.apply(&mut bytes, from);
        let folder = temporary();
        let path = folder.path().join("x.parquet");
        put(&path, &bytes);
        if let Err(error) = read(&path) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}

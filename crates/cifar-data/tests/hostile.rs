//! Randomly damaged files: reading one ends with data or with a one-line message. Archives, pickles
//! and parquet files have their own tests for this.

use crate::common;

use std::path::{Path, PathBuf};

use cifar_data::ImageIndex;
use cifar_data::image_file::read_resized;
use cifar_data::labels::{migrate, read_overrides, read_review};
use cifar_data::prepare::{PreparedReport, TrainingData, read_pairs, read_partitions};
use cifar_data::pull::Raw;
use cifar_data::sources::{self, ReadOptions};
use cifar_data::splits::SplitParams;
use cifar_data::{Fit, ImageSize, Silent, store};
use common::flow::{Flow, list_again};
use common::{get, jpeg, mutation, noise, noisy_png, put, synthetic, temporary};
use image::ExtendedColorType;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// This many cases, scaled by `PROPTEST_CASES` relative to its default of 256.
fn config(cases: u32) -> Config {
    let usual = Config::default();
    Config { cases: (cases * usual.cases).div_ceil(256), failure_persistence: None, ..usual }
}

/// For files with hashes: `read` refuses a damaged file or returns the same value.
fn check_noticed<T: PartialEq>(file: &Path, cases: u32, read: impl Fn() -> cifar_data::Result<T>) {
    let whole = read().expect("the file is whole");
    check_damaged(file, cases, || match read() {
        Ok(found) if found != whole => panic!("{}: damage changed what is read from it", file.display()),
        other => other,
    });
}

/// Damages `file` this many times and calls `read`. The file is intact again afterwards.
fn check_damaged<T, E: std::fmt::Display>(file: &Path, cases: u32, read: impl Fn() -> Result<T, E>) {
    let good = get(file);
    let refused = std::cell::Cell::new(0);
    let result = TestRunner::new(config(cases)).run(&mutation(), |mutation| {
        let mut bad = good.clone();
        mutation.apply(&mut bad, 0);
        put(file, &bad);
        if let Err(error) = read() {
            refused.set(refused.get() + 1);
            let message = error.to_string();
            if message.is_empty() || message.contains('\n') {
                return Err(TestCaseError::fail(format!("not one line: {message:?}")));
            }
        }
        Ok(())
    });
    put(file, &good);
    if let Err(failure) = result {
        panic!("{}: {failure}", file.display());
    }
    assert!(refused.get() > 0, "{}: no damage was noticed", file.display());
    assert!(read().is_ok(), "{}: the whole file is refused", file.display());
}

#[test]
fn stored_sets() {
    let folder = temporary();
    store::write(&synthetic(30), folder.path()).expect("the folder is free");
    let read = || store::read(folder.path());
    check_noticed(&folder.path().join(store::MANIFEST), 400, read);
    check_noticed(&folder.path().join(store::IMAGES), 200, read);
    // Its header is the interesting part.
    let images = folder.path().join(store::IMAGES);
    let good = get(&images);
    let header = 8 + u64::from_le_bytes(good[..8].try_into().expect("eight bytes")) as usize;
    let result = TestRunner::new(config(400)).run(&mutation(), |mutation| {
        let mut bad = good[..header].to_vec();
        mutation.apply(&mut bad, 0);
        put(&images, &[&bad, &good[header..]].concat());
        let _ = store::read(folder.path());
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn results_of_stages() {
    let flow = Flow::of(synthetic(300));
    flow.both("v1+v2", &SplitParams::default());
    let raw = flow.path("raw");
    for file in ["pull.json", "membership.csv", "near_duplicates.csv", "manifest.csv", "provenance.json"] {
        check_noticed(&raw.join(file), 100, || Raw::read(&raw));
    }
    let prepared = flow.path("prepared");
    check_noticed(&prepared.join("report.json"), 200, || PreparedReport::read(&prepared));
    check_noticed(&prepared.join("near_duplicates.csv"), 200, || read_pairs(&prepared));
    check_noticed(&prepared.join("split.csv"), 200, || read_partitions(&prepared));
    check_noticed(&prepared.join("train/manifest.csv"), 60, || TrainingData::open(&prepared));
    // Also without the hash checks, the parsers end with data or with one line.
    for (file, read) in [
        ("membership.csv", &(|| Raw::read(&raw).map(drop)) as &dyn Fn() -> cifar_data::Result<()>),
        ("near_duplicates.csv", &|| Raw::read(&raw).map(drop)),
    ] {
        check_damaged(&raw.join(file), 60, || {
            list_again(&raw, "pull");
            read()
        });
        list_again(&raw, "pull");
    }
}

#[test]
fn tables_of_the_user() {
    let folder = temporary();
    let overrides = folder.path().join("overrides.csv");
    put(&overrides, b"id,label\n3,cat\n17,\"dog, wet\"\n20,cat\n");
    let classes = ["cat".to_string(), "dog, wet".to_string()];
    check_damaged(&overrides, 400, || read_overrides(&overrides, &classes));
    let review = folder.path().join("review.csv");
    put(&review, b"id,content,file,decision,label,note\n3,b3:0123456789abcdef,'=a.png,relabel,cat,\"two\nlines\"\n");
    check_damaged(&review, 400, || read_review(&review, &classes));
    let nothing = ImageIndex::of([]);
    check_damaged(&review, 100, || migrate(&review, &nothing, true));

    let root = temporary();
    let mut index = String::from("id,file\n");
    for id in 0..6 {
        let file = format!("{}/{id}.png", ["cat", "dog"][id % 2]);
        put(&root.path().join(&file), &noisy_png(id as u64, common::SIZE));
        index.push_str(&[id.to_string(), ",".into(), file, "\n".into()].concat());
    }
    put(&root.path().join("index.csv"), index.as_bytes());
    check_damaged(&root.path().join("index.csv"), 400, || sources::read(root.path(), &ReadOptions::default(), &Silent));
}

#[test]
fn image_files() {
    const SIDE: ImageSize = ImageSize { height: 16, width: 16 };
    let root = temporary();
    let pixels = noise(3, SIDE.bytes());
    let mut files = vec![("a.png", noisy_png(1, SIDE)), ("b.jpg", jpeg(SIDE, &pixels, ExtendedColorType::Rgb8))];
    files.extend(["bmp", "gif", "tiff", "webp"].map(|name| (name, common::encoded(name, SIDE, &pixels))));
    for (name, bytes) in &files {
        put(&root.path().join("cat").join(name), bytes);
    }
    for (name, _) in &files {
        let path: PathBuf = root.path().join("cat").join(name);
        let cases = if matches!(*name, "a.png" | "b.jpg") { 500 } else { 150 };
        check_damaged(&path, cases, || sources::read(root.path(), &ReadOptions::default(), &Silent));
        check_damaged(&path, cases, || read_resized(&path, SIDE, Fit::Crop));
    }
    let skip = ReadOptions { skip_broken: true, ..ReadOptions::default() };
    put(&root.path().join("cat/a.png"), b"\x89PNG\r\n\x1a\n");
    let images = sources::read(root.path(), &skip, &Silent).expect("five are left");
    assert_eq!((images.dataset.len(), images.skipped.len()), (5, 1));
}

/// A small file that claims to be an image of a billion pixels, or that contains a large run of
/// zeros.
#[test]
fn bombs_are_refused() {
    let root = temporary();
    let path = root.path().join("cat/bomb.png");
    let zlib = |n: usize| {
        use std::io::Write;
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..n.div_ceil(1 << 20) {
            out.write_all(&vec![0; 1 << 20]).expect("memory takes it");
        }
        out.finish().expect("memory takes it")
    };
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
    };
    let png = |width: u32, height: u32, more: &[u8], data: &[u8]| {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
        [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], more, &chunk(b"IDAT", data), &chunk(b"IEND", b"")].concat()
    };
    let read = || sources::read(root.path(), &ReadOptions::default(), &Silent);
    let check = |bytes: &[u8], problem: &str| {
        put(&path, bytes);
        common::check_refused(read(), &["bomb.png", problem]);
    };
    let large = zlib(256 << 20);
    assert!(large.len() < 1 << 19);
    check(&png(30_000, 30_000, b"", &large), "has 30000×30000 pixels; allowed are 1 to 1024 a side");
    // Image data, text and colour profile that decompress to 256 MB, for an image of 8×8 pixels.
    let text = chunk(b"zTXt", &[b"Comment\0\0", &large[..]].concat());
    let profile = chunk(b"iCCP", &[b"p\0\0", &large[..]].concat());
    let small = zlib(8 * 25);
    let before = peak();
    for bytes in [png(8, 8, b"", &large), png(8, 8, &text, &small), png(8, 8, &profile, &small)] {
        put(&path, &bytes);
        // The decoder decides whether extra data are an error; the limit on memory is ours.
        let _ = read();
        let _ = read_resized(&path, ImageSize { height: 8, width: 8 }, Fit::Crop);
    }
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after - before < 64, "{} MB", after - before);
    }
}

/// Peak memory of this process in MB, where the system has it.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<usize>().ok()? / 1024)
}

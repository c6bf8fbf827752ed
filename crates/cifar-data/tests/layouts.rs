//! Layouts of datasets on disk: every supported layout is read, and others give advice.

use crate::common;

use std::fs;
use std::path::{Path, PathBuf};

use cifar_data::sources::{self, ReadOptions};
use cifar_data::{Dataset, Published, Result, Silent, SourceKind, store};
use common::archives::{batches, binary, gz, packed, python, tar, unpack};
use common::{SIZE, Warned, check_refused, get, noisy_png, put, shown, temporary};

fn read(path: &Path) -> Result<Dataset> {
    sources::read(path, &ReadOptions::default(), &Silent).map(|images| images.dataset)
}

fn read_warned(path: &Path) -> (Dataset, Vec<String>) {
    let warned = Warned::default();
    let read = sources::read(path, &ReadOptions::default(), &warned).expect("these images are fine");
    (read.dataset, warned.0.into_inner().expect("nobody panicked"))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Checks that images, labels, published splits and ids are equal.
#[track_caller]
fn check_same(a: &Dataset, b: &Dataset) {
    let facts = |set: &Dataset| set.samples().iter().map(|s| (s.id, s.label, s.published)).collect::<Vec<_>>();
    assert_eq!(facts(a), facts(b));
    assert_eq!(store::fingerprint(a), store::fingerprint(b));
}

/// Creates class folders with an image each, in train/ and test/.
fn put_class_folders(folder: &Path) {
    for (seed, file) in ["train/cat/a.png", "train/dog/a.png", "test/cat/b.png", "test/dog/b.png"].iter().enumerate() {
        put(&folder.join(file), &noisy_png(seed as u64, SIZE));
    }
}

/// The Hub's converted files are called `train/0000.parquet` in a folder with the name of a
/// configuration.
#[test]
fn parquet_files_in_train_and_test_folders_are_read_together() {
    let expected = read(&fixture("cifar-10-parquet")).expect("it is whole");
    let root = temporary();
    let at = |name: &str| root.path().join(name);
    for (from, to) in [
        ("train-00000-of-00002", "plain_text/train/0000"),
        ("train-00001-of-00002", "plain_text/train/0001"),
        ("test-00000-of-00001", "plain_text/test/0000"),
    ] {
        put(&at(&format!("{to}.parquet")), &get(&fixture(&format!("cifar-10-parquet/{from}.parquet"))));
    }
    put(&at("README.md"), b"x");
    for path in [root.path().to_path_buf(), at("plain_text")] {
        let set = read(&path).expect("one set is there");
        check_same(&set, &expected);
        assert_eq!(set.samples()[0].file, "train/0000.parquet/00000");
    }
    let (part, warned) = read_warned(&at("plain_text/train"));
    assert!(part.samples().iter().all(|s| s.published == Published::None));
    let problem = "is read without test/, which is beside it; name the folder above to read both";
    assert_eq!(warned, [format!("{}: {problem}", shown(&at("plain_text/train")))]);
    put(&at("plain_text/validation/0000.parquet"), b"x");
    let (set, warned) = read_warned(root.path());
    check_same(&set, &expected);
    assert!(warned.len() == 1 && warned[0].contains("left out validation"), "{warned:?}");
    fs::remove_file(at("plain_text/train/0000.parquet")).expect("it is there");
    put(&at("plain_text/train/0002.parquet"), b"x");
    put(&at("plain_text/train/0004.parquet"), b"x");
    check_refused(read(root.path()), &["train: holds 0002.parquet, but not 0003.parquet"]);
}

#[test]
fn parquet_files_with_a_hash_are_complete_and_in_order() {
    let expected = read(&fixture("cifar-10-parquet")).expect("it is whole");
    let root = temporary();
    let copy = |from: &str, to: &str| {
        put(&root.path().join(to), &get(&fixture(&format!("cifar-10-parquet/{from}.parquet"))));
    };
    copy("train-00000-of-00002", "train-00000-of-00002-ffff.parquet");
    copy("test-00000-of-00001", "test-00000-of-00001-0123.parquet");
    check_refused(
        read(root.path()),
        &["holds train-00000-of-00002-ffff.parquet, but not train-00001-of-00002-….parquet"],
    );
    copy("train-00001-of-00002", "train-00001-of-00002-0000.parquet");
    check_same(&read(root.path()).expect("it is whole"), &expected);
    put(&root.path().join("validation-00000-of-00001-ab.parquet"), b"x");
    let (set, warned) = read_warned(root.path());
    check_same(&set, &expected);
    assert!(warned[0].contains("left out validation-00000-of-00001-ab.parquet"), "{warned:?}");

    let root = temporary();
    for (number, name) in [(0, "train-00000-of-00002"), (1, "train-00001-of-00002"), (2, "test-00000-of-00001")] {
        let name = fixture(&format!("cifar-10-parquet/{name}.parquet"));
        put(
            &root.path().join(["cifar10_train_9.parquet", "cifar10_train_10.parquet", "cifar10_test.parquet"][number]),
            &get(&name),
        );
    }
    check_refused(read(root.path()), &["holds cifar10_train_9.parquet, but not cifar10_train_8.parquet"]);
    for number in [9, 10] {
        let at = |number| root.path().join(format!("cifar10_train_{number}.parquet"));
        fs::rename(at(number), at(number - 8)).expect("it is there");
    }
    check_same(&read(root.path()).expect("it is whole"), &expected);
}

#[test]
fn a_set_is_found_from_the_folders_above_it() {
    let root = temporary();
    put_class_folders(root.path());
    let expected = read(root.path()).expect("class folders");
    let root = temporary();
    let at = |name: &str| root.path().join(name);
    put_class_folders(&at("data/cifar10"));
    put(&at("data/cifar10/labels.txt"), b"cat\ndog\n");
    put(&at("data/README.md"), b"x");
    put(&at("__MACOSX/data/._x"), b"x");
    for path in ["", "data", "data/cifar10"] {
        let (set, warned) = read_warned(&at(path));
        check_same(&set, &expected);
        assert_eq!(warned, Vec::<String>::new());
    }
    put_class_folders(&at("data/other"));
    check_refused(read(&at("data")), &["holds cifar10 and other, and either could be meant; name the one to read"]);
    // Only class folders, one folder down.
    let root = temporary();
    put(&root.path().join("animals/cat/a.png"), &noisy_png(0, SIZE));
    put(&root.path().join("animals/dog/a.png"), &noisy_png(1, SIZE));
    assert_eq!(read(root.path()).expect("class folders").classes(), ["cat", "dog"]);
}

/// Skipped files are named relative to the folder that the user gave.
#[test]
fn skipped_files_are_named_relative_to_the_given_folder() {
    let root = temporary();
    put_class_folders(&root.path().join("cifar10"));
    put(&root.path().join("cifar10/test/cat/c.png"), b"x");
    let options = ReadOptions { skip_broken: true, ..ReadOptions::default() };
    let read = sources::read(root.path(), &options, &Silent).expect("the others are fine");
    assert_eq!(read.skipped[0].file, "cifar10/test/cat/c.png");
}

#[test]
fn archives_are_found_under_other_names() {
    let batches = batches([1; 6]);
    let root = temporary();
    let at = |name: &str| root.path().join(name);
    put(&at("expected.tar.gz"), &packed("x", &binary(&batches)));
    let expected = read(&at("expected.tar.gz")).expect("an archive");
    // A second download, one that a browser has decompressed, and one that `wget` has numbered.
    let members: Vec<(String, Vec<u8>)> =
        python(&batches).into_iter().map(|(name, bytes)| (format!("x/{name}"), bytes)).collect();
    let members: Vec<_> =
        members.iter().map(|(name, bytes)| (::tar::EntryType::Regular, name.as_str(), &bytes[..])).collect();
    let unpacked = tar(&members);
    for (number, (name, bytes)) in [
        ("cifar-10-python (1).tar.gz", packed("x", &python(&batches))),
        ("cifar-10-python.tar", unpacked.clone()),
        ("cifar-10-python.tar.gz.1", gz(&unpacked)),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = at(&number.to_string());
        put(&folder.join(name), &bytes);
        check_same(&read(&folder).expect("one archive is there"), &expected);
        check_same(&read(&folder.join(name)).expect("an archive"), &expected);
        put(&folder.join("cifar-10-copy.tar.gz"), &bytes);
        check_refused(read(&folder), &["and either could be meant"]);
    }
    // Keras unpacks into a separate folder; other tools rename the folder.
    unpack(&at("keras/cifar-10-batches-py-target/cifar-10-batches-py"), &python(&batches));
    unpack(&at("renamed/cifar"), &python(&batches));
    for folder in ["keras", "renamed"] {
        check_same(&read(&at(folder)).expect("one set is there"), &expected);
    }
}

#[test]
fn archives_of_several_gzip_members_are_read() {
    let batches = batches([1; 6]);
    let root = temporary();
    let path = root.path().join("x.tar.gz");
    let whole = packed("x", &binary(&batches));
    put(&path, &whole);
    let expected = read(&path).expect("an archive");
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&whole[..]), &mut unpacked).expect("it is whole");
    let (first, second) = unpacked.split_at(unpacked.len() / 3);
    let (middle, last) = second.split_at(700);
    let members = [gz(first), gz(b""), gz(middle), gz(last)].concat();
    // `gzip` ignores bytes after the last member.
    for more in [&b""[..], &[0; 600], b"garbage"] {
        put(&path, &[&members, more].concat());
        check_same(&read(&path).expect("an archive"), &expected);
    }
    put(&path, &members[..members.len() - 9]);
    check_refused(read(&path), &["is cut short"]);
    put(&path, &[gz(first), gz(middle)].concat());
    check_refused(read(&path), &["x.tar.gz: is "]);
}

#[test]
fn the_kind_of_a_file_that_is_not_a_data_set_is_named() {
    let root = temporary();
    let at = |name: &str| root.path().join(name);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    for name in ["x.tar.gz", "x.parquet", "a/cifar-10-python.tar.gz"] {
        put(&at(name), pointer);
        check_refused(read(&at(name)), &["a Git LFS pointer, not the data; run `git lfs pull`"]);
    }
    check_refused(read(&at("a")), &["a Git LFS pointer"]);
    put(&at("x.zip"), b"PK\x03\x04");
    check_refused(read(&at("x.zip")), &["is not a .tar.gz file", "this is a ZIP archive; unpack it"]);
    put(&at("x.png"), &noisy_png(0, SIZE));
    check_refused(read(&at("x.png")), &["x.png: is not a .tar.gz file", "this is a PNG image"]);
    put(&at("b/cat/a.png"), pointer);
    check_refused(read(&at("b")), &["but a Git LFS pointer, not the data; run `git lfs pull`"]);
}

/// Earlier versions opened named pipes and waited forever.
#[cfg(unix)]
#[test]
fn only_regular_files_are_opened() {
    let root = temporary();
    let at = |name: &str| root.path().join(name);
    for name in [
        "pipe",
        "p.parquet",
        "x.tar.gz",
        "a/cat/x.jpg",
        "b/data_batch_1.bin",
        "c/train.parquet",
        "d/cifar-10-python.tar.gz",
    ] {
        fs::create_dir_all(at(name).parent().expect("a folder")).expect("folders can be made");
        common::make_pipe(&at(name));
    }
    let wanted = "is a named pipe; expected a regular file";
    for name in ["pipe", "p.parquet", "x.tar.gz", "b", "d"] {
        check_refused(read(&at(name)), &[&shown(&at(name)), wanted]);
    }
    check_refused(read(&at("a")), &["cat/x.jpg", wanted]);
    put(&at("c/test.parquet"), &get(&fixture("cifar-10-parquet/test-00000-of-00001.parquet")));
    check_refused(read(&at("c")), &["c/train.parquet", wanted]);
    check_refused(read(Path::new("/dev/null")), &["/dev/null: is a device; expected a regular file"]);
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("sockets can be made");
    check_refused(read(&at("socket")), &["is a socket; expected a regular file"]);
    drop(socket);
}

#[cfg(unix)]
#[test]
fn dangling_links_are_named() {
    use std::os::unix::fs::symlink;
    let root = temporary();
    let at = |name: &str| root.path().join(name);
    symlink("/not/mounted", at("link")).expect("links can be made");
    let wanted = "cannot follow the link to /not/mounted: No such file or directory";
    check_refused(read(&at("link")), &[&shown(&at("link")), wanted]);
    put(&at("a/cat/a.png"), &noisy_png(0, SIZE));
    symlink("/not/mounted", at("a/dog")).expect("links can be made");
    check_refused(read(&at("a")), &[&shown(&at("a/dog")), wanted]);
    // A link to a folder works like the folder.
    put_class_folders(&at("real"));
    symlink(at("real"), at("linked")).expect("links can be made");
    assert_eq!(read(&at("linked")).expect("class folders").header().source.kind, SourceKind::ClassFolders);
}

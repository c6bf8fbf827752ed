//! The official archives: all forms give the same images, and invalid files are refused.

use crate::common;

use std::fs;
use std::path::{Path, PathBuf};

use cifar_data::sources::{self, Labels, ReadOptions, archives};
use cifar_data::{Dataset, ImageSize, Published, Silent, SourceKind, store};
use common::archives::{
    BATCHES, CLASSES, File, IMAGE, PLANE, batches, binary, gz, packed, pickled, python, tar, unpack,
};
use common::{check_refused, noisy_png, put, shown, temporary};
use proptest::prelude::*;
use tar::EntryType::{Regular, XHeader};

const SIZES: [usize; 6] = [2, 1, 3, 1, 1, 2];

fn read(path: &Path) -> cifar_data::Result<Dataset> {
    archives::read(path, Labels::Fine, &Silent)
}

/// Reads a path with `sources::read`.
fn find(path: &Path) -> cifar_data::Result<Dataset> {
    sources::read(path, &ReadOptions::default(), &Silent).map(|images| images.dataset)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Checks that two sets are equal except for the description of their sources.
#[track_caller]
fn check_same(a: &Dataset, b: &Dataset) {
    assert_eq!((a.classes(), a.size(), a.samples()), (b.classes(), b.size(), b.samples()));
    assert!(a.pixels() == b.pixels(), "pixels differ");
    assert_eq!(store::fingerprint(a), store::fingerprint(b));
}

/// Writes `bytes` as an archive and reads it.
fn read_bytes(bytes: &[u8]) -> cifar_data::Result<Dataset> {
    let root = temporary();
    let path = root.path().join("x.tar.gz");
    put(&path, bytes);
    read(&path)
}

/// Checks that the files are refused with these words, packed and unpacked.
#[track_caller]
fn check_files_refused(files: &[File], parts: &[&str]) {
    let root = temporary();
    check_refused(read(&unpack(&root.path().join("folder"), files)), parts);
    let path = root.path().join("x.tar.gz");
    put(&path, &packed("folder", files));
    check_refused(read(&path), &[parts, &[&shown(&path)]].concat());
}

/// Returns the files with one of them changed or removed.
fn changed(files: &[File], name: &str, change: impl FnOnce(&mut Vec<u8>) -> bool) -> Vec<File> {
    let mut files = files.to_vec();
    let place = files.iter().position(|(file, _)| file == name).expect("it is one of them");
    if !change(&mut files[place].1) {
        files.remove(place);
    }
    files
}

#[test]
fn all_forms_of_the_same_images_give_the_same_dataset() {
    let batches = batches(SIZES);
    let root = temporary();
    let mut sets = Vec::new();
    for (name, files) in [("binary", binary(&batches)), ("python", python(&batches))] {
        let archive = root.path().join(format!("{name}.tar.gz"));
        put(&archive, &packed("any/folder", &files));
        let reversed: Vec<File> = files.iter().rev().cloned().collect();
        let other = root.path().join(format!("{name}_reversed.tar.gz"));
        put(&other, &packed(".", &reversed));
        for path in [archive, other, unpack(&root.path().join(name), &files)] {
            let set = read(&path).expect("it is whole");
            assert_eq!(set.header().source.kind, SourceKind::Archive);
            assert_eq!(set.header().source.description, format!("{name} version of CIFAR-10, 10 images"));
            sets.push(set);
        }
    }
    let set = &sets[0];
    for other in &sets {
        check_same(set, other);
    }
    assert_eq!(
        (set.len(), set.size(), set.classes()),
        (10, ImageSize { height: 32, width: 32 }, &CLASSES.map(String::from)[..])
    );
    let mut id = 0;
    for (name, batch) in BATCHES.iter().zip(&batches) {
        for (place, (label, planes)) in batch.labels.iter().zip(batch.planes.chunks(IMAGE)).enumerate() {
            let sample = &set.samples()[id];
            assert_eq!((sample.id.0 as usize, &sample.file), (id, &format!("{name}/{place:05}")));
            assert_eq!((sample.label, sample.original_label), (u16::from(*label), u16::from(*label)));
            assert_eq!(sample.published, if *name == "test_batch" { Published::Test } else { Published::Train });
            for pixel in 0..PLANE {
                let rgb = [planes[pixel], planes[PLANE + pixel], planes[2 * PLANE + pixel]];
                assert_eq!(set.image(id)[3 * pixel..3 * pixel + 3], rgb);
            }
            id += 1;
        }
    }
}

#[test]
fn archives_made_by_python_are_read() {
    let expected = String::from_utf8(common::get(&fixture("expected.csv"))).expect("text");
    for archive in ["cifar-10-binary", "cifar-10-python", "cifar-10-python3", "cifar-100-binary", "cifar-100-python"] {
        let set = read(&fixture(&format!("{archive}.tar.gz"))).expect("it is whole");
        let name = if archive.starts_with("cifar-100") { "cifar-100" } else { "cifar-10" };
        let rows: Vec<&str> = expected.lines().filter(|line| line.starts_with(&format!("{name},"))).collect();
        assert_eq!(set.len(), rows.len());
        for (index, (sample, row)) in set.samples().iter().zip(rows).enumerate() {
            let mut crc = flate2::Crc::new();
            crc.update(set.image(index));
            let found =
                format!("{name},{},{},{},{},{}", sample.id, sample.file, sample.label, sample.published, crc.sum());
            assert_eq!(found, row, "{archive}");
        }
        let classes = if name == "cifar-10" { CLASSES.to_vec() } else { vec!["apple", "aquarium_fish", "baby"] };
        assert_eq!(set.classes(), classes);
    }
}

#[test]
fn missing_and_unexpected_files_are_named() {
    let batches = batches(SIZES);
    for files in [binary(&batches), python(&batches)] {
        for (name, _) in files.clone() {
            let rest = changed(&files, &name, |_| false);
            check_files_refused(&rest, &[&format!("has no {name}; the "), "test_batch"]);
        }
        let (name, bytes) = &files[1];
        let extra = name.replace('1', "6");
        let more = [&files[..], &[(extra.clone(), bytes.clone())]].concat();
        check_files_refused(&more, &[&format!("holds {extra}, which CIFAR-10 does not have")]);
    }
    let both = [binary(&batches), python(&batches)].concat();
    check_files_refused(&both, &["the binary version of CIFAR-10", "of the python version of CIFAR-10; keep one"]);
    check_files_refused(&[("readme.html".into(), vec![])], &["holds no file of CIFAR-10 or CIFAR-100"]);
    let files = binary(&batches);
    let twice = [&files[..], &files[1..2]].concat();
    check_refused(read_bytes(&packed("x", &twice)), &["x/data_batch_1.bin: appears in the archive twice"]);
}

#[test]
fn invalid_records_are_described() {
    let files = binary(&batches(SIZES));
    let label = changed(&files, "data_batch_3.bin", |bytes| {
        bytes[2 * 3073] = 10;
        true
    });
    check_files_refused(&label, &["data_batch_3.bin: image 2 has label 10; batches.meta.txt names 10 classes, 0 to 9"]);
    for length in [0, 1, 3072, 3074] {
        let short = changed(&files, "test_batch.bin", |bytes| {
            bytes.resize(length, 0);
            true
        });
        check_files_refused(
            &short,
            &[&format!("test_batch.bin: has {length} bytes; expected a whole number of records")],
        );
    }
    let meta = |text: &str| {
        changed(&files, "batches.meta.txt", |bytes| {
            *bytes = text.as_bytes().to_vec();
            true
        })
    };
    check_files_refused(&meta("\n"), &["batches.meta.txt: names no classes"]);
    check_files_refused(&meta("cat\ncat\n"), &["batches.meta.txt: names the class \"cat\" twice"]);
    // Class names become file names.
    for name in ["../../cat", "/etc/cat", "a\\b", ".cat", "c\u{7}t"] {
        check_files_refused(&meta(name), &[&format!("batches.meta.txt: {name:?} is not a valid class name")]);
    }
}

#[test]
fn invalid_pickles_are_described() {
    let good = batches(SIZES);
    let files = python(&good);
    let check = |problem: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let files = changed(&files, "data_batch_2", |bytes| {
            change(bytes);
            true
        });
        check_files_refused(&files, &["data_batch_2: ", problem]);
    };
    let replace = |from: &'static [u8], to: &'static [u8]| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
            bytes.splice(at..at + from.len(), to.iter().copied());
        }
    };
    check("is empty", &Vec::clear);
    check("is cut short", &|bytes| bytes.truncate(bytes.len() / 2));
    check("at byte 10", &replace(b"numpy.core.multiarray\n_reconstruct", b"os\nsystem"));
    check("has the opcode 0x6f (OBJ), but only", &replace(b"tbU\x06", b"oU\x06"));
    check("has no entry `labels`", &replace(b"labels", b"Labels"));
    check("has no entry `data`", &replace(b"data", b"date"));
    check("its labels are not a list", &replace(b"](K\x02eu", b"}u"));
    check("has 2 labels for 1 images", &replace(b"](K\x02", b"](K\x02K\x02"));
    check("the label of image 0 is not a whole number from 0", &replace(b"](K\x02", b"](N"));
    check("the label of image 0 is not a whole number from 0", &replace(b"](K\x02", b"](J\xff\xff\xff\xff"));
    check("image 0 has label 200; batches.meta names 10", &replace(b"](K\x02", b"](K\xc8"));
    check("numbers of the type \"f4\"; expected uint8", &replace(b"U\x02u1", b"U\x02f4"));
    check("the shape [1, 3073]; expected N × 3072", &replace(b"J\0\x0c\0\0", b"J\x01\x0c\0\0"));
    check("has 1 labels for 2147483647 images", &replace(b"J\x01\0\0\0J", b"J\xff\xff\xff\x7fJ"));
    check("has an array in an unknown form", &replace(b"J\x01\0\0\0J", b"J\xff\xff\xff\xffJ"));
    // As many images as labels, but too few bytes.
    let mut batch = good[1].clone();
    batch.labels.push(0);
    check("its data have 3072 bytes; 2 images have 3072 each", &|bytes| *bytes = pickled(&batch));
    check_files_refused(
        &changed(&files, "batches.meta", |bytes| {
            *bytes = b"\x80\x02}U\x0blabel_namesK\x01s.".to_vec();
            true
        }),
        &["batches.meta: its label_names are not a list of strings"],
    );
}

#[test]
fn a_damaged_archive_is_refused() {
    let bytes = packed("x", &binary(&batches(SIZES)));
    for length in [2, 10, 100, bytes.len() / 2, bytes.len() - 8, bytes.len() - 1] {
        check_refused(read_bytes(&bytes[..length]), &["x.tar.gz: is cut short"]);
    }
    let mut wrong = bytes.clone();
    let checksum = wrong.len() - 8;
    wrong[checksum] ^= 1;
    check_refused(read_bytes(&wrong), &["x.tar.gz: is damaged, or not a .tar.gz file"]);
    check_refused(read_bytes(b"PK\x03\x04"), &["x.tar.gz: is not a .tar.gz file; allowed are"]);
    check_refused(read_bytes(b""), &["x.tar.gz: is not a .tar.gz file"]);
    check_refused(read_bytes(&gz(&[b'x'; 2000])), &["x.tar.gz: is damaged, or not a .tar.gz file"]);
    check_refused(read_bytes(&gz(b"")), &["holds no file of CIFAR-10 or CIFAR-100"]);
}

#[test]
fn unusual_members_are_refused() {
    use tar::EntryType::{Char, GNULongName, GNUSparse, Link, Symlink};
    let file = &binary(&batches(SIZES))[1].1;
    for (kind, name, problem) in [
        (Regular, "../data_batch_1.bin", "leads out of the archive"),
        (Regular, "x/../../data_batch_1.bin", "leads out of the archive"),
        (Regular, "/x/data_batch_1.bin", "leads out of the archive"),
        (Regular, "x\\..\\data_batch_1.bin", "leads out of the archive"),
        (Symlink, "x/data_batch_1.bin", "is a link; allowed are files and folders"),
        (Link, "x/other", "is a link; allowed are files and folders"),
        (Char, "x/data_batch_1.bin", "is neither a file nor a folder"),
        (GNUSparse, "x/data_batch_1.bin", "is neither a file nor a folder"),
        (GNULongName, "././@LongLink", "is a name of more than 100 characters"),
    ] {
        check_refused(read_bytes(&gz(&tar(&[(kind, name, file)]))), &[&name.escape_debug().to_string(), problem]);
    }
    let header = |text: &'static [u8]| {
        read_bytes(&gz(&tar(&[(XHeader, "PaxHeader", text), (Regular, "x/data_batch_1.bin", file)])))
    };
    check_refused(header(b"16 path=../../x\n"), &["has an extended header `path`"]);
    check_refused(header(b"12 size=999\n"), &["has an extended header `size`"]);
    check_refused(header(b"18 mtime=1234.567\n"), &["has no batches.meta.txt"]);
    check_refused(read_bytes(&gz(&tar(&vec![(Regular, "x/readme", b"" as &[u8]); 101]))), &["more than 100 members"]);
}

#[test]
fn the_kind_of_a_source_is_recognised() {
    let batches = batches(SIZES);
    let (binary, python) = (binary(&batches), python(&batches));
    let root = temporary();
    let at = |name: &str| root.path().join(name);
    put(&at("any_name"), &packed("x", &binary));
    let expected = find(&at("any_name")).expect("a file is an archive");

    // Unpacked, given directly or through its parent folder, with the archive next to it.
    unpack(&at("a/cifar-10-batches-py"), &python);
    put(&at("a/cifar-10-python.tar.gz"), b"not read");
    for path in ["a", "a/cifar-10-batches-py"] {
        check_same(&find(&at(path)).expect("one set is there"), &expected);
    }
    // Packed, among unrelated files.
    put(&at("b/cifar-10-binary.tar.gz"), &packed("x", &binary));
    put(&at("b/README.md"), b"x");
    put(&at("b/.hidden/x"), b"x");
    check_same(&find(&at("b")).expect("one set is there"), &expected);
    // Class folders come before an archive.
    put(&at("c/cat/1.png"), &noisy_png(0, common::SIZE));
    put(&at("c/cifar-10-binary.tar.gz"), b"not read");
    assert_eq!(find(&at("c")).expect("class folders").header().source.kind, SourceKind::ClassFolders);

    put(&at("b/cifar-10-python.tar.gz"), &packed("x", &python));
    check_refused(find(&at("b")), &[&shown(&at("b")), "holds cifar-10-binary.tar.gz and cifar-10-python.tar.gz"]);
    unpack(&at("a/cifar-10-batches-bin"), &binary);
    check_refused(find(&at("a")), &["holds cifar-10-batches-bin and cifar-10-batches-py, and either could be meant"]);
    unpack(&at("c"), &binary);
    check_refused(find(&at("c")), &["holds class folders and the batches of an archive"]);
    fs::create_dir(at("empty")).expect("it is free");
    check_refused(find(&at("empty")), &["no images found", "or an official archive"]);
    check_refused(find(&at("nowhere")), &[&shown(&at("nowhere")), "cannot read: "]);
    put(&at("x.zip"), b"PK");
    check_refused(find(&at("x.zip")), &["x.zip: is not a .tar.gz file"]);
}

#[test]
fn reading_can_be_stopped() {
    struct Stopped;
    impl cifar_data::Progress for Stopped {
        fn update(&self, _what: &'static str, _done: u64, _total: u64) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let result = archives::read(&fixture("cifar-10-binary.tar.gz"), Labels::Fine, &Stopped);
    assert!(matches!(result, Err(cifar_data::DataError::Cancelled)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Reading any damaged file ends with a set or a message.
    #[test]
    fn damaged_files_never_panic(
        form in 0..2_usize,
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        near_the_ends in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let batches = batches([1; 6]);
        let mut files = if form == 0 { binary(&batches) } else { python(&batches) };
        let which = which.index(files.len());
        let bytes = &mut files[which].1;
        for (place, value) in edits {
            // Most of the file is pixels, for which every value is valid.
            let place = place.index(if near_the_ends { bytes.len().min(220) } else { bytes.len() });
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let root = temporary();
        let folder = read(&unpack(&root.path().join("x"), &files));
        let archive = read_bytes(&packed("x", &files));
        prop_assert_eq!(folder.is_ok(), archive.is_ok());
    }

    #[test]
    fn damaged_archives_never_panic(
        name in prop::sample::select(vec!["cifar-10-binary", "cifar-10-python", "cifar-10-python3", "cifar-100-python"]),
        inside in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let packed = common::get(&fixture(&format!("{name}.tar.gz")));
        let mut bytes = packed.clone();
        if inside {
            bytes.clear();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut bytes).expect("it is whole");
        }
        for (place, value) in edits {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read_bytes(&if inside { gz(&bytes) } else { bytes });
    }
}

//! Images that a CSV file lists.

use crate::common;

use std::path::Path;

use cifar_data::sources::{self, Images, ReadOptions};
use cifar_data::{DataError, Published, Result, Silent, SourceKind};
use common::{SIZE, Warned, check_refused, noise, noisy_png, put, shown, temporary};

/// A folder with images in two subfolders, and a table.
struct Labelled(tempfile::TempDir);

impl Labelled {
    fn new(table: impl AsRef<[u8]>) -> Self {
        let root = temporary();
        for (seed, file) in ["im/0.png", "im/1.png", "im/a b, \"c\" 😀.png", "more/caf\u{e9}.png"].iter().enumerate()
        {
            put(&root.path().join("set").join(file), &noisy_png(seed as u64, SIZE));
        }
        put(&root.path().join("outside.png"), &noisy_png(9, SIZE));
        put(&root.path().join("set/labels.csv"), table.as_ref());
        Self(root)
    }

    fn read(&self) -> Result<Images> {
        sources::read(&self.0.path().join("set/labels.csv"), &ReadOptions::default(), &Silent)
    }
}

const TABLE: &str = "file,label,split\nmore/cafe\u{301}.png,dog,test\nim/1.png,cat,val\nim/0.png,cat,train\n\
                     \"im/a b, \"\"c\"\" 😀.png\",dog,Train\n";

fn check_read(table: &[u8]) {
    use Published::{Test, Train};
    let set = Labelled::new(table).read().expect("a table of images").dataset;
    assert_eq!(set.classes(), ["cat", "dog"]);
    assert_eq!(set.header().source.kind, SourceKind::Table);
    assert_eq!(set.header().source.description, "table of labels, 4 images");
    // Classes alternate, and training images come first. The name is the one that the folder has.
    let expected = [
        ("im/0.png", 0, Train, 0),
        ("im/a b, \"c\" 😀.png", 1, Train, 2),
        ("im/1.png", 0, Train, 1),
        ("more/caf\u{e9}.png", 1, Test, 3),
    ];
    assert_eq!(set.len(), expected.len());
    for (index, (file, label, published, seed)) in expected.into_iter().enumerate() {
        let sample = &set.samples()[index];
        assert_eq!((sample.file.as_str(), sample.label, sample.published), (file, label, published));
        assert_eq!(set.image(index), noise(seed, SIZE.bytes()), "{file}");
    }
}

#[test]
fn a_table_names_files_labels_and_published_splits() {
    check_read(TABLE.as_bytes());
    // As spreadsheets save it: with a byte order mark, semicolons, and the line ends of Windows.
    let other = TABLE.replace("im/a b, ", "im/a b\u{0}").replace(',', ";").replace('\u{0}', ", ").replace('\n', "\r\n");
    check_read(format!("\u{feff}{other}").as_bytes());
    check_read(TABLE.replace("im/1", ".\\im\\..\\im\\1").as_bytes());
    let set = Labelled::new("label,file\n7,im/0.png\n10,im/1.png\n").read().expect("numbers are labels").dataset;
    assert_eq!((set.classes(), set.samples()[0].published), (&["10".into(), "7".into()][..], Published::None));
}

#[test]
fn a_wrong_table_is_refused_with_its_line() {
    let check = |from: &str, to: &str, problem: &str| {
        let labelled = Labelled::new(TABLE.replace(from, to));
        check_refused(labelled.read(), &[&shown(&labelled.0.path().join("set/labels.csv")), problem]);
    };
    check("file,", "name,", "has the columns \"name,label,split\"; expected file,label or file,label,split");
    check("split", "size", "has the columns \"file,label,size\"; expected file,label or file,label,split");
    check("im/1", "im/2", "line 3: the file \"im/2.png\" does not exist");
    check("im/1", "im/0", "line 4: the file \"im/0.png\" is listed twice, first on line 3");
    check("im/1", "im/./0", "line 4: the file \"im/0.png\" is listed twice, first on line 3");
    let outside = "is outside of the folder of this table; allowed are relative paths in it";
    check("im/1", "../outside", &format!("line 3: the file \"../outside.png\" {outside}"));
    check("im/1", "/etc/1", outside);
    check("im/1", "C:/1", outside);
    check("im/1.png", "", "line 3: has no file");
    check("1.png,cat", "1.png,", "line 3: has no label");
    check(",val", ",extra", "line 3: split \"extra\" is not allowed; allowed are train, test and val");
    check(",val", ",", "line 3: split \"\" is not allowed");
    check("im/1.png,cat", "im/1.png,Cat", "the class names \"Cat\" and \"cat\" are the same except for case");
    check("im/1.png", "labels.csv", "");
    check_refused(Labelled::new("file,label\n").read(), &["labels.csv: lists no images"]);
    let error = Labelled::new("file,label\nim,cat\n").read().expect_err("a folder");
    assert!(matches!(error, DataError::Image { .. }) && error.to_string().contains("is a folder"), "{error}");
    check_refused(sources::read(Path::new("no/such.csv"), &ReadOptions::default(), &Silent), &["no/such.csv"]);
}

/// Its folders are class folders, but hardly what their owner means.
#[test]
fn a_table_that_is_not_read_is_named() {
    let labelled = Labelled::new("\u{feff}label;file\ncat;im/0.png\n");
    let warned = Warned::default();
    let folder = labelled.0.path().join("set");
    let set = sources::read(&folder, &ReadOptions::default(), &warned).expect("two classes").dataset;
    assert_eq!(set.classes(), ["im", "more"]);
    let table = shown(&folder.join("labels.csv"));
    let expected = [format!("{table}: is not read, since it is beside class folders; name it to use its labels")];
    assert_eq!(warned.0.into_inner().expect("nobody panicked"), expected);
}

#[test]
fn a_class_without_usable_images_is_an_error() {
    let labelled = Labelled::new("file,label\nim/0.png,cat\nim/1.png,dog\n");
    put(&labelled.0.path().join("set/im/1.png"), b"x");
    check_refused(labelled.read(), &["im/1.png: is not an image"]);
    let options = ReadOptions { skip_broken: true, ..ReadOptions::default() };
    let table = labelled.0.path().join("set/labels.csv");
    let problem = "labels.csv: none of the images of \"dog\" can be used; the first, im/1.png, is not an image";
    check_refused(sources::read(&table, &options, &Silent), &[problem]);
}

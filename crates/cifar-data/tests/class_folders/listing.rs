//! The order of the images, and folders that are refused.

use std::fs;

use cifar_data::sources::class_folders::read;
use cifar_data::{Dataset, Published, Silent, SourceKind};

use super::{Images, ONE_LEVEL, STOP, TWO_PARTS};
use crate::common::{self, SIZE, Warned, check_refused, noise, noisy_png, shown};

/// Reads images at `files` and checks their order: index into `files`, label, published split.
fn check_order(images: &Images, files: &[&str], classes: &[&str], expected: &[(usize, u16, Published)]) {
    let set = images.dataset();
    assert_eq!(set.classes(), classes);
    assert_eq!(set.header().source.kind, SourceKind::ClassFolders);
    assert_eq!(set.header().source.description, format!("class folders, {} images", files.len()));
    assert_eq!((set.len(), set.size()), (expected.len(), SIZE));
    for (index, (place, label, published)) in expected.iter().enumerate() {
        let sample = &set.samples()[index];
        assert_eq!((sample.id.0 as usize, sample.file.as_str()), (index, files[*place]));
        assert_eq!((sample.label, sample.original_label, sample.published), (*label, *label, *published));
        assert_eq!(set.image(index), noise(*place as u64, SIZE.bytes()), "{}", sample.file);
    }
}

#[test]
fn training_images_come_before_test_images_and_classes_alternate() {
    use Published::{Test, Train};
    let expected = [(0, 0, Train), (2, 1, Train), (1, 0, Train), (3, 0, Test), (5, 1, Test), (4, 0, Test)];
    check_order(&Images::new(&TWO_PARTS), &TWO_PARTS, &["cat", "dog"], &expected);
}

#[test]
fn class_folders_alone_have_no_published_split() {
    use Published::None;
    let expected = [(2, 0, None), (1, 1, None), (3, 0, None), (0, 1, None), (4, 0, None)];
    check_order(&Images::new(&ONE_LEVEL), &ONE_LEVEL, &["cat", "dog"], &expected);
}

#[test]
fn an_index_decides_the_order() {
    use Published::{None, Test, Train};
    let images = Images::new(&ONE_LEVEL);
    images.put("index.csv", "id,file\n4,cat/x.png\n0,dog/10.png\n2,dog/2.png\n1,cat/z.png\n3,cat/y.png\n");
    let expected = [(1, 1, None), (4, 0, None), (0, 1, None), (3, 0, None), (2, 0, None)];
    check_order(&images, &ONE_LEVEL, &["cat", "dog"], &expected);

    let images = Images::new(&TWO_PARTS);
    let rows: Vec<String> = (0..6).map(|id| format!("{id},{}", TWO_PARTS[5 - id])).collect();
    images.put("index.csv", format!("id,file\n{}\n", rows.join("\n")));
    let expected = [(5, 1, Test), (4, 0, Test), (3, 0, Test), (2, 1, Train), (1, 0, Train), (0, 0, Train)];
    check_order(&images, &TWO_PARTS, &["cat", "dog"], &expected);
}

/// Reads the images and returns the warnings.
fn warnings(images: &Images) -> (Dataset, Vec<String>) {
    let warned = Warned::default();
    let read = read(images.0.path(), &STOP, &warned).expect("these images are fine").dataset;
    (read, warned.0.into_inner().expect("nobody panicked"))
}

#[test]
fn system_and_text_files_next_to_the_classes_are_ignored() {
    let images = Images::new(&ONE_LEVEL);
    let before = images.dataset();
    for file in
        ["README.md", "LICENSE", "labels.txt", ".hidden/x.txt", "cat/.DS_Store", "cat/._x.png", "__MACOSX/cat/a.png"]
            .iter()
            .chain(&[
                "dog/Thumbs.db",
                "dog/thumbs.db",
                "cat/ehthumbs.db",
                "cat/desktop.ini",
                "cat/Desktop.ini",
                "cat/Icon\r",
            ])
    {
        images.put(file, "x");
    }
    assert_eq!(warnings(&images), (before, Vec::new()));
    // All but the three texts.
    assert_eq!(images.read(STOP).expect("these images are fine").ignored, 10);
}

/// Earlier versions silently left out validation images and images outside the class folders.
#[test]
fn files_that_are_left_out_are_counted_and_named() {
    let images = Images::new(&TWO_PARTS);
    let before = images.dataset();
    images.put("val/cat/a.png", "x").put("val/dog/b.png", "x").put("train/stray.png", "x").put("train/notes.txt", "x");
    let (read, warned) = warnings(&images);
    assert_eq!(read, before);
    let problem = "left out 3 files that are in no class folder: val/ (2), train/stray.png; validation images are drawn \
                   from the training images: move those of val/ there to use them";
    assert_eq!(warned, [format!("{}: {problem}", shown(images.0.path()))]);

    let images = Images::new(&ONE_LEVEL);
    for file in ["a.bin", "b.bin", "c.bin", "d.bin", "e.bin", "f.bin"] {
        images.put(file, "x");
    }
    let (_, warned) = warnings(&images);
    assert!(warned[0].ends_with("left out 6 files that are in no class folder: a.bin, b.bin, c.bin, d.bin, e.bin, …"));
    let images = Images::new(&ONE_LEVEL);
    images.put("a.bin", "x");
    assert!(warnings(&images).1[0].ends_with("left out 1 file that is in no class folder: a.bin"));
}

#[test]
fn both_parts_are_found_under_their_usual_names() {
    use Published::{Test, Train};
    for (train, test) in [("Train", "Test"), ("TRAIN", "test"), ("training", "testing")] {
        let files = TWO_PARTS.map(|file| file.replace("train", train).replace("test", test));
        let files = files.each_ref().map(String::as_str);
        let expected = [(0, 0, Train), (2, 1, Train), (1, 0, Train), (3, 0, Test), (5, 1, Test), (4, 0, Test)];
        check_order(&Images::new(&files), &files, &["cat", "dog"], &expected);
    }
    let images = Images::new(&TWO_PARTS);
    images.put("Train/cat/a.png", noisy_png(0, SIZE));
    check_refused(images.read(STOP), &["holds Train/ and train/, and either could be meant"]);
    // A class may have one of these names.
    let files = ["bus/a.png", "train/a.png", "test/a.png"];
    let expected = [(0, 0, Published::None), (2, 1, Published::None), (1, 2, Published::None)];
    check_order(&Images::new(&files), &files, &["bus", "test", "train"], &expected);
    // Without published test images, published validation images are training images.
    let files = ["train/cat/a.png", "train/dog/a.png", "valid/cat/a.png", "valid/cat/b.png", "valid/dog/a.png"];
    let expected = [(0, 0, Train), (2, 0, Train), (1, 1, Train), (4, 1, Train), (3, 0, Train)];
    check_order(&Images::new(&files), &files, &["cat", "dog"], &expected);
    let images = Images::new(&["train/cat/a.png", "val/eel/a.png"]);
    images.check_refused("val", "has no class folder \"cat\", which train/ has");
}

#[test]
fn extensions_are_read_in_any_case() {
    let images = Images::new(&["a/1.PNG", "a/2.Png"]);
    // The content decides, not the name: a PNG with the name of a JPEG is read as a PNG.
    images.put("a/3.JPEG", noisy_png(9, SIZE));
    assert_eq!(images.dataset().image(2), noise(9, SIZE.bytes()));
}

#[test]
fn folders_without_class_folders_are_refused() {
    let none = Images::new(&[]);
    check_refused(none.read(STOP), &[&shown(none.0.path()), "no images found"]);
    let absent = none.path("absent");
    check_refused(read(&absent, &STOP, &Silent), &[&shown(&absent), "cannot read the folder"]);
    let file = none.put("file", "x").path("file");
    check_refused(read(&file, &STOP, &Silent), &[&shown(&file), "cannot read the folder"]);

    let images = Images::new(&["train/cat/a.png"]);
    check_refused(images.read(STOP), &[&shown(images.0.path()), "has train/ but no test/ or val/"]);
    let images = Images::new(&["test/cat/a.png"]);
    check_refused(images.read(STOP), &[&shown(images.0.path()), "has test/ but no train/"]);
    fs::create_dir(images.path("train")).expect("it is free");
    images.check_refused("train", "no images found");
}

#[test]
fn training_and_test_classes_must_be_the_same() {
    let images = Images::new(&TWO_PARTS);
    images.put("train/ant/a.png", noisy_png(0, SIZE));
    images.check_refused("test", "has no class folder \"ant\"");
    let images = Images::new(&TWO_PARTS);
    images.put("test/eel/a.png", noisy_png(0, SIZE));
    images.check_refused("test", "has a class folder \"eel\"");
}

#[test]
fn class_folders_hold_images_only() {
    let images = Images::new(&ONE_LEVEL);
    fs::create_dir(images.path("ant")).expect("it is free");
    images.check_refused("ant", "holds no images");
    let images = Images::new(&ONE_LEVEL);
    images.put("cat/deeper/x.png", "x").check_refused("cat/deeper", "is a folder; class folders hold images only");
    let images = Images::new(&ONE_LEVEL);
    images.put("cat/notes.txt", "x").check_refused("cat/notes.txt", "is not an image");
    let images = Images::new(&ONE_LEVEL);
    images.put("cat/no_extension", "x").check_refused("cat/no_extension", "is not an image");
    let images = Images::new(&ONE_LEVEL);
    images.put("cat/a.heic", b"\0\0\0\x18ftypheic").check_refused("cat/a.heic", "is not an image but a HEIC image");
    images.put("cat/b.pdf", "%PDF-1.7");
    images.check_refused("cat/a.heic", "and 1 other image is unusable)");
    // Other names of JPEG files are recognised by their content.
    let images = Images::new(&ONE_LEVEL);
    images.put("cat/z.jfif", noisy_png(9, SIZE));
    assert_eq!(images.dataset().len(), 6);
}

#[test]
fn an_invalid_index_is_refused_with_its_line() {
    fn check(index: &str, problem: &str) {
        let images = Images::new(&["cat/a.png", "cat/b.png", "dog/c.png"]);
        images.put("beside.png", noisy_png(0, SIZE)).put("index.csv", index).check_refused("index.csv", problem);
    }
    let all = "id,file\n0,cat/a.png\n1,cat/b.png\n2,dog/c.png\n";
    check(&all.replace("cat/b", "cat/x"), "line 3: the file \"cat/x.png\" does not exist");
    check(&all.replace("cat/b", "cat/a"), "line 3: the file \"cat/a.png\" is listed twice, first on line 2");
    check(&all.replace("cat/b", "beside"), "line 3: the file \"beside.png\" is not an image in a class folder");
    check(&format!("{all}3,cat/d.png\n"), "line 5: the file \"cat/d.png\" does not exist");
    check(
        &all.replace("2,dog", "\n,\n2,dog").replace("dog/c", "dog/d"),
        "line 6: the file \"dog/d.png\" does not exist",
    );
    check(&all.replace("cat/b", "\"cat/b"), "line 3: has a double quote that is never closed");
    check(&all.replace("1,", "0,"), "line 3: id 0 is given twice, first on line 2");
    check(&all.replace("2,dog", "3,dog"), "line 4: id 3 is too high; the 3 files have the ids 0 to 2");
    check(&all.replace("1,cat/b.png\n", ""), "skips id 1 and does not list cat/b.png");
    check(&all.replace("1,", "one,"), "line 3: id \"one\" is not a number");
    check(&all.replace("1,", "-1,"), "line 3: id \"-1\" is not a number");
    check(&all.replace("1,", "1,1,"), "line 3: ");
    check(&all.replace("id,file", "file,id"), "has the columns \"file,id\"; expected id,file");
    check("", "is empty; its first line must have the names of the columns");
    let images = Images::new(&["cat/a.png"]);
    images
        .put("index.csv", b"id,file\n0,c\xe4t/a.png\n")
        .check_refused("index.csv", "line 2: is not UTF-8 (byte 0xe4)");
    #[cfg(unix)]
    {
        fs::remove_file(images.path("index.csv")).expect("it is there");
        common::make_pipe(&images.path("index.csv"));
        images.check_refused("index.csv", "is a named pipe; expected a regular file");
    }
}

#[test]
fn an_index_may_have_the_forms_of_other_programs() {
    let images = Images::new(&["cat/a.png", "cat/b.png", "dog/c.png"]);
    images.put("index.csv", "\u{feff}id,file\r\n2,./cat/a.png\r\n,\r\n0, dog\\c.png\r\n1,\"cat/b.png\"\r\n");
    let files: Vec<String> = images.dataset().samples().iter().map(|s| s.file.clone()).collect();
    assert_eq!(files, ["dog/c.png", "cat/b.png", "cat/a.png"]);
}

#[cfg(unix)]
#[test]
fn names_that_look_the_same_are_refused() {
    let check = |files: &[&str], parts: &[&str]| check_refused(Images::new(files).read(STOP), parts);
    let alike = "are the same except for case or the form of their letters";
    check(&["Cat/a.png", "cat/a.png"], &["the class names \"Cat\" and \"cat\"", alike]);
    check(&["caf\u{e9}/a.png", "cafe\u{301}/a.png"], &[alike]);
    check(&["cat /a.png", "dog/a.png"], &["\"cat \" cannot be the name of a class", "no spaces at their ends"]);
    check(&["c\nt/a.png", "dog/a.png"], &["\"c\\nt\" cannot be the name of a class"]);
    check(&["cat/a\nb.png"], &["cat/a\\nb.png: has a control character, such as a line break, in its name"]);
    check(&["cat/ a.png"], &["has a space at the start or end of its name"]);
    check(&["cat/\u{e9}.png", "cat/e\u{301}.png"], &["has the name of another file in another form of Unicode"]);
    // The two parts and an index may come from systems with different Unicode forms.
    let images = Images::new(&["train/caf\u{e9}/a.png", "test/cafe\u{301}/e\u{301}.png"]);
    assert_eq!(images.dataset().classes(), ["caf\u{e9}"]);
    images.put("index.csv", "id,file\n0,train/cafe\u{301}/a.png\n1,test/cafe\u{301}/\u{e9}.png\n");
    assert_eq!(images.dataset().len(), 2);
}

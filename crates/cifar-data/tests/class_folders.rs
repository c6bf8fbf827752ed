//! Folders of images: the order of the images, and folders that are refused.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use cifar_data::sources::class_folders::{ClassFolders, Skipped, read};
use cifar_data::sources::{Labels, ReadOptions};
use cifar_data::{DataError, Dataset, ImageSize, Progress, Published, Result, Silent, SourceKind};
use common::{SIZE, Warned, check_refused, noise, noisy_png, on_threads, put, shown, temporary};

const STOP: ReadOptions = ReadOptions { skip_broken: false, labels: Labels::Fine };
const SKIP: ReadOptions = ReadOptions { skip_broken: true, labels: Labels::Fine };

/// A folder with a PNG file of noise at each path; the noise depends on its position in the list.
struct Images(tempfile::TempDir);

impl Images {
    fn new(files: &[&str]) -> Self {
        let images = Self(temporary());
        for (seed, file) in files.iter().enumerate() {
            put(&images.path(file), &noisy_png(seed as u64, SIZE));
        }
        images
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn put(&self, file: &str, contents: impl AsRef<[u8]>) -> &Self {
        put(&self.path(file), contents.as_ref());
        self
    }

    fn read(&self, options: ReadOptions) -> Result<ClassFolders> {
        read(self.0.path(), &options, &Silent)
    }

    fn dataset(&self) -> Dataset {
        let read = self.read(STOP).expect("these images are fine");
        assert_eq!(read.skipped, []);
        read.dataset
    }

    /// Checks that the source is refused with and without `skip_broken`, with a message that names
    /// `file` and has `problem`.
    fn check_refused(&self, file: &str, problem: &str) {
        check_refused(self.read(STOP), &[&shown(&self.path(file)), problem]);
    }
}

const TWO_PARTS: [&str; 6] =
    ["train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "test/cat/a.png", "test/cat/b.png", "test/dog/z.png"];
const ONE_LEVEL: [&str; 5] = ["dog/2.png", "dog/10.png", "cat/x.png", "cat/y.png", "cat/z.png"];

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
fn system_files_and_texts_beside_the_classes_are_ignored() {
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
}

/// Earlier versions silently left out validation images and pictures beside the class folders.
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
    // A class may have such a name.
    let files = ["bus/a.png", "train/a.png", "test/a.png"];
    let expected = [(0, 0, Published::None), (2, 1, Published::None), (1, 2, Published::None)];
    check_order(&Images::new(&files), &files, &["bus", "test", "train"], &expected);
    let images = Images::new(&["train/cat/a.png", "valid/cat/a.png"]);
    check_refused(
        images.read(STOP),
        &["has train/ but no test/", "rename valid/ to test/ if its images are for the final"],
    );
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
    check_refused(images.read(STOP), &[&shown(images.0.path()), "has train/ but no test/"]);
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
    images.put("cat/a.webp", b"RIFF\0\0\0\0WEBPVP8 ").check_refused("cat/a.webp", "is not an image but a WebP image");
    images.put("cat/b.gif", "GIF89a");
    images.check_refused("cat/a.webp", "and 1 other image is unusable; --skip-broken");
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
    check("", "expected id,file");
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
    // The two parts and an index may be from systems that use different Unicode forms.
    let images = Images::new(&["train/caf\u{e9}/a.png", "test/cafe\u{301}/e\u{301}.png"]);
    assert_eq!(images.dataset().classes(), ["caf\u{e9}"]);
    images.put("index.csv", "id,file\n0,train/cafe\u{301}/a.png\n1,test/cafe\u{301}/\u{e9}.png\n");
    assert_eq!(images.dataset().len(), 2);
}

#[test]
fn an_image_of_another_size_is_refused() {
    let images = Images::new(&ONE_LEVEL);
    images.put("dog/2.png", noisy_png(0, ImageSize { height: SIZE.width, width: SIZE.height }));
    images.check_refused("dog/2.png", "has 3×5 pixels, the first image has 5×3");
}

#[test]
fn an_image_with_too_many_pixels_is_refused() {
    let images = Images::new(&[]);
    images.put("a/1.png", noisy_png(0, ImageSize { height: 1, width: 1025 }));
    images.check_refused("a/1.png", "has 1025×1 pixels; allowed are 1 to 1024 a side");
}

#[test]
fn a_file_that_is_not_an_image_is_refused() {
    let images = Images::new(&ONE_LEVEL);
    images.put("cat/y.png", "GIF89a").check_refused("cat/y.png", "is neither a JPEG nor a PNG file");
    images.put("cat/y.png", "").check_refused("cat/y.png", "is empty");
    // The first file too, which decides the size.
    images.put("cat/x.png", "").check_refused("cat/x.png", "is empty");
}

/// 600 images, more than one task decodes; the files at these positions are broken.
fn with_broken(places: &[usize]) -> Images {
    let images = Images(temporary());
    let png = noisy_png(0, SIZE);
    for place in 0..600 {
        images.put(&name(place), if places.contains(&place) { &png[..png.len() - 20] } else { &png });
    }
    images
}

fn name(place: usize) -> String {
    format!("{}/{:03}.png", ["cat", "dog"][place % 2], place / 2)
}

#[test]
fn the_first_broken_image_is_named_and_the_others_are_counted() {
    let images = with_broken(&[301]);
    images.check_refused(&name(301), "is damaged");
    let message = images.read(STOP).expect_err("it is broken").to_string();
    assert!(!message.contains("--skip-broken"), "{message}");
    with_broken(&[301, 599]).check_refused(&name(301), "and 1 other image is unusable; --skip-broken");
    for threads in [1, 4] {
        let images = with_broken(&[2, 3, 301, 599]);
        on_threads(threads, || images.check_refused(&name(2), "and 3 other images are unusable; --skip-broken"));
    }
}

#[test]
fn broken_images_are_skipped_on_request() {
    let broken = [0, 301, 599];
    let images = with_broken(&broken);
    let ClassFolders { dataset, skipped } = images.read(SKIP).expect("most are fine");
    assert_eq!(skipped.iter().map(|s| s.file.clone()).collect::<Vec<_>>(), broken.map(name));
    assert!(skipped.iter().all(|s| s.problem.starts_with("is damaged")), "{skipped:?}");
    let ids: Vec<usize> = dataset.samples().iter().map(|s| s.id.0 as usize).collect();
    assert_eq!(ids, (0..600).filter(|id| !broken.contains(id)).collect::<Vec<_>>(), "the other images keep their ids");
    assert_eq!(dataset.header().source.description, "class folders, 597 images");
    for (index, sample) in dataset.samples().iter().enumerate() {
        assert_eq!(sample.file, name(sample.id.0 as usize));
        assert_eq!(dataset.image(index), noise(0, SIZE.bytes()));
    }
}

/// In earlier versions the first readable header decided the size: one broken image of another size
/// excluded all others.
#[test]
fn a_broken_first_image_does_not_decide_the_size() {
    let images = Images::new(&ONE_LEVEL);
    let other = noisy_png(0, ImageSize { height: 8, width: 8 });
    images.put("cat/x.png", &other[..other.len() - 20]);
    let ClassFolders { dataset, skipped } = images.read(SKIP).expect("four are fine");
    assert_eq!((dataset.len(), dataset.size()), (4, SIZE));
    let [Skipped { file, .. }] = &skipped[..] else { panic!("{skipped:?}") };
    assert_eq!(file, "cat/x.png");
}

#[test]
fn only_broken_images_are_an_error() {
    let images = Images::new(&[]);
    let png = noisy_png(0, SIZE);
    images.put("a/1.png", "x").put("a/2.png", &png[..png.len() - 20]);
    check_refused(images.read(SKIP), &[&shown(images.0.path()), "no images found"]);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let images = Images(temporary());
    for place in 0..600 {
        images.put(&name(place), noisy_png(place as u64, SIZE));
    }
    let run = |threads| on_threads(threads, || images.dataset());
    assert_eq!(run(1), run(4));
}

#[cfg(unix)]
#[test]
fn links_are_followed() {
    let images = Images::new(&["a/1.png"]);
    std::os::unix::fs::symlink(images.path("a/1.png"), images.path("a/2.png")).expect("links can be made");
    assert_eq!(images.dataset().len(), 2);
    std::os::unix::fs::symlink(images.path("gone.png"), images.path("a/3.png")).expect("links can be made");
    images.check_refused("a/3.png", "cannot follow the link");
}

/// Earlier versions stopped at each file that was not an image, even with `skip_broken`.
#[cfg(unix)]
#[test]
fn files_that_are_not_images_are_skipped_on_request() {
    use std::os::unix::fs::symlink;
    let images = Images::new(&ONE_LEVEL);
    let before = images.dataset();
    images.put("cat/desktop.ini", "x").put("cat/a.webp", "x").put("dog/THUMBS.DB", "x").put("dog/deeper/x.png", "x");
    symlink("/nowhere/a.bin", images.path("dog/link")).expect("links can be made");
    symlink("/nowhere/class", images.path("eel")).expect("links can be made");
    common::make_pipe(&images.path("dog/pipe"));
    check_refused(
        images.read(STOP),
        &[&shown(&images.path("eel")), "cannot follow the link to /nowhere/class", "4 other"],
    );
    let ClassFolders { dataset, skipped } = images.read(SKIP).expect("the images are fine");
    assert_eq!(dataset, before, "files that are not images take no id");
    let mut files: Vec<&str> = skipped.iter().map(|s| s.file.as_str()).collect();
    files.sort_unstable();
    let expected = ["cat/a.webp", "cat/desktop.ini", "dog/THUMBS.DB", "dog/deeper", "dog/link", "dog/pipe", "eel"];
    assert_eq!(files, expected);

    // A file with an image extension keeps its id, in case it becomes readable.
    let images = Images::new(&ONE_LEVEL);
    symlink("/nowhere/a.png", images.path("cat/a.png")).expect("links can be made");
    common::make_pipe(&images.path("dog/1.jpg"));
    images.check_refused("cat/a.png", "cannot follow the link to /nowhere/a.png: No such file or directory");
    let ClassFolders { dataset, skipped } = images.read(SKIP).expect("the others are fine");
    assert_eq!(dataset.samples().iter().map(|s| s.id.0).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    let skipped: Vec<String> = skipped.into_iter().map(|s| format!("{}: {}", s.file, s.problem)).collect();
    assert!(skipped[0].starts_with("cat/a.png: cannot follow the link to /nowhere/a.png"), "{skipped:?}");
    assert_eq!(skipped[1], "dog/1.jpg: is a named pipe; expected a regular file");
}

#[test]
fn a_class_without_usable_images_is_an_error() {
    let images = Images::new(&["cat/a.png", "cat/b.png", "dog/a.png"]);
    images.put("dog/a.png", "x").put("dog/b.jpg", "x");
    let parts = ["dog: none of its 2 images can be used; the first, dog/a.png, is neither a JPEG nor a PNG file"];
    check_refused(images.read(SKIP), &parts);
    let images = Images::new(&["cat/a.png"]);
    images.put("dog/desktop.ini", "x");
    check_refused(images.read(SKIP), &["dog: holds no images; every class folder must hold some"]);
}

struct Stop;

impl Progress for Stop {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn decoding_can_be_stopped() {
    let images = Images::new(&ONE_LEVEL);
    let stopped = read(Path::new(images.0.path()), &STOP, &Stop);
    assert!(matches!(stopped, Err(DataError::Cancelled)), "{stopped:?}");
}

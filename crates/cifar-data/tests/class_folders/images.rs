//! Files that are not usable images: refused, or skipped on request.

use std::path::Path;

use cifar_data::sources::class_folders::{ClassFolders, Skipped, read};
use cifar_data::{DataError, ImageSize, Progress};

use super::{Images, ONE_LEVEL, SKIP, STOP};
use crate::common::{self, SIZE, check_refused, noise, noisy_png, on_threads, shown, temporary};

#[test]
fn an_image_of_another_size_is_refused() {
    let images = Images::new(&ONE_LEVEL);
    images.put("dog/2.png", noisy_png(0, ImageSize { height: SIZE.width, width: SIZE.height }));
    let sizes = "has images of 2 sizes: 5×3 (4), 3×5 (1, dog/2.png); all must have the same size, or be resized";
    check_refused(images.read(STOP), &[&shown(images.0.path()), sizes]);
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
    images.put("cat/y.png", "GIF88a").check_refused("cat/y.png", "is not an image (JPEG, PNG,");
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
    assert!(!message.contains("unusable"), "{message}");
    with_broken(&[301, 599]).check_refused(&name(301), "and 1 other image is unusable)");
    for threads in [1, 4] {
        let images = with_broken(&[2, 3, 301, 599]);
        on_threads(threads, || images.check_refused(&name(2), "and 3 other images are unusable)"));
    }
}

#[test]
fn broken_images_are_skipped_on_request() {
    let broken = [0, 301, 599];
    let images = with_broken(&broken);
    let ClassFolders { dataset, skipped, .. } = images.read(SKIP).expect("most are fine");
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

/// In earlier versions the first readable header decided the size, so one broken image of another
/// size excluded all others.
#[test]
fn a_broken_first_image_does_not_decide_the_size() {
    let images = Images::new(&ONE_LEVEL);
    let other = noisy_png(0, ImageSize { height: 8, width: 8 });
    images.put("cat/x.png", &other[..other.len() - 20]);
    let ClassFolders { dataset, skipped, .. } = images.read(SKIP).expect("four are fine");
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
    images.put("cat/desktop.ini", "x").put("cat/a.heic", "x").put("dog/THUMBS.DB", "x").put("dog/deeper/x.png", "x");
    symlink("/nowhere/a.bin", images.path("dog/link")).expect("links can be made");
    symlink("/nowhere/class", images.path("eel")).expect("links can be made");
    common::make_pipe(&images.path("dog/pipe"));
    check_refused(
        images.read(STOP),
        &[&shown(&images.path("eel")), "cannot follow the link to /nowhere/class", "4 other"],
    );
    let ClassFolders { dataset, skipped, .. } = images.read(SKIP).expect("the images are fine");
    assert_eq!(dataset, before, "files that are not images take no id");
    let mut files: Vec<&str> = skipped.iter().map(|s| s.file.as_str()).collect();
    files.sort_unstable();
    let expected = ["cat/a.heic", "cat/desktop.ini", "dog/THUMBS.DB", "dog/deeper", "dog/link", "dog/pipe", "eel"];
    assert_eq!(files, expected);

    // A file with an image extension keeps its id, in case it becomes readable.
    let images = Images::new(&ONE_LEVEL);
    symlink("/nowhere/a.png", images.path("cat/a.png")).expect("links can be made");
    common::make_pipe(&images.path("dog/1.jpg"));
    images.check_refused("cat/a.png", "cannot follow the link to /nowhere/a.png: No such file or directory");
    let ClassFolders { dataset, skipped, .. } = images.read(SKIP).expect("the others are fine");
    assert_eq!(dataset.samples().iter().map(|s| s.id.0).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    let skipped: Vec<String> = skipped.into_iter().map(|s| format!("{}: {}", s.file, s.problem)).collect();
    assert!(skipped[0].starts_with("cat/a.png: cannot follow the link to /nowhere/a.png"), "{skipped:?}");
    assert_eq!(skipped[1], "dog/1.jpg: is a named pipe; expected a regular file");
}

#[test]
fn a_class_without_usable_images_is_an_error() {
    let images = Images::new(&["cat/a.png", "cat/b.png", "dog/a.png"]);
    images.put("dog/a.png", "x").put("dog/b.jpg", "x");
    let parts = ["dog: none of its 2 images can be used; the first, dog/a.png, is not an image (JPEG, PNG,"];
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

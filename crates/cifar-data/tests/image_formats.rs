//! Formats other than JPEG and PNG, and images that are resized.

use crate::common;

use std::path::Path;

use cifar_data::image_file::read_resized;
use cifar_data::sources::{self, Images, ReadOptions};
use cifar_data::{DataError, Fit, ImageSize, Resize, Result, Silent, partitions, store};
use common::{SIZE, Warned, check_refused, encoded, jpeg, noise, noisy_png, png, put, shown, temporary};
use image::ExtendedColorType;

const FORMATS: [&str; 4] = ["bmp", "gif", "tiff", "webp"];

fn read(root: &Path, resize: impl Into<Option<Resize>>) -> Result<Images> {
    sources::read(root, &ReadOptions { resize: resize.into(), ..ReadOptions::default() }, &Silent)
}

fn square(side: u16, fit: Fit) -> Resize {
    Resize::square(side, fit).expect("an allowed size")
}

/// The name of a file says nothing about its format: all of these are called `1.png`.
#[test]
fn every_format_is_read_by_its_first_bytes() {
    let pixels = noise(5, SIZE.bytes());
    for format in FORMATS {
        let root = temporary();
        let path = root.path().join("a/1.png");
        put(&path, &encoded(format, SIZE, &pixels));
        let set = read(root.path(), None).expect("it is whole").dataset;
        assert_eq!((set.size(), set.pixels()), (SIZE, &pixels[..]), "{format}");
        let single = read_resized(&path, SIZE, Fit::Crop).expect("it is whole");
        assert_eq!((single.original, &single.pixels), (SIZE, &pixels), "{format}");
    }
}

#[test]
fn a_truncated_file_of_every_format_is_refused() {
    let size = ImageSize { height: 9, width: 7 };
    let pixels = noise(6, size.bytes());
    let root = temporary();
    let path = root.path().join("a/1.png");
    for format in FORMATS {
        let bytes = encoded(format, size, &pixels);
        for length in 0..bytes.len() {
            put(&path, &bytes[..length]);
            match read_resized(&path, size, Fit::Crop) {
                // A TIFF of this encoder ends with its directory, and a BMP with its pixels.
                Ok(_) => panic!("{format}: {length} of {} bytes are accepted", bytes.len()),
                refused => check_refused(refused, &[&shown(&path)]),
            }
        }
    }
}

#[test]
fn of_an_animation_the_first_frame_is_read() {
    let frame = |value| image::Frame::new(image::RgbaImage::from_pixel(4, 4, image::Rgba([value, 0, 0, 255])));
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    encoder.encode_frames([frame(200), frame(9)]).expect("frames fit");
    drop(encoder);
    let root = temporary();
    put(&root.path().join("a/1.gif"), &bytes);
    assert_eq!(read(root.path(), None).expect("it is whole").dataset.pixels(), [200, 0, 0].repeat(16));
    put(&root.path().join("a/1.gif"), &bytes[..bytes.len() - 9]);
    check_refused(read(root.path(), None), &["a/1.gif", "is truncated"]);
}

/// Two photographs, a transparent drawing and an icon, by hand.
fn put_mixed(root: &Path) {
    let size = |width, height| ImageSize { height, width };
    put(&root.join("cat/a.jpg"), &jpeg(size(90, 60), &noise(1, 90 * 60 * 3), ExtendedColorType::Rgb8));
    put(&root.join("cat/b.webp"), &encoded("webp", size(40, 100), &noise(2, 40 * 100 * 3)));
    put(&root.join("dog/a.png"), &png(size(32, 32), &[0; 32 * 32 * 4], ExtendedColorType::Rgba8));
    put(&root.join("dog/b.bmp"), &encoded("bmp", size(12, 40), &noise(3, 12 * 40 * 3)));
    put(&root.join("dog/c.tif"), &encoded("tiff", size(90, 60), &noise(4, 90 * 60 * 3)));
}

#[test]
fn images_of_mixed_sizes_are_resized_by_one_rule() {
    let root = temporary();
    put_mixed(root.path());
    for fit in [Fit::Crop, Fit::Pad, Fit::Stretch] {
        let warned = Warned::default();
        let options = ReadOptions { resize: Some(square(32, fit)), ..ReadOptions::default() };
        let set = sources::read(root.path(), &options, &warned).expect("all are whole").dataset;
        let header = set.header();
        assert_eq!((set.len(), set.size().to_string(), header.source.fit), (5, "32×32".into(), Some(fit)));
        assert_eq!(header.source.description, format!("class folders, 5 images, {fit} 32×32"));
        for (index, sample) in set.samples().iter().enumerate() {
            // What a model sees of the file is what it was trained on.
            let single = read_resized(&root.path().join(&sample.file), set.size(), fit).expect("it is whole");
            assert_eq!(single.pixels, set.image(index), "{}", sample.file);
        }
        let place = shown(root.path());
        let expected = [
            format!("{place}: 1 image has transparent pixels, which are shown over white"),
            format!("{place}: 1 image is smaller than 32×32 and enlarged"),
        ];
        assert_eq!(warned.0.into_inner().expect("nobody panicked"), expected);
        assert_eq!(set.image(1), [255; 32 * 32 * 3], "dog/a.png is white");
        let on = |threads| common::on_threads(threads, || read(root.path(), square(32, fit)).expect("whole").dataset);
        assert_eq!(on(1), on(3));
    }
}

#[test]
fn mixed_sizes_are_counted_if_nothing_resizes_them() {
    let root = temporary();
    put_mixed(root.path());
    let sizes = "has images of 4 sizes: 90×60 (2), 12×40 (1, dog/b.bmp), 32×32 (1, dog/a.png), 40×100 (1, cat/b.webp); \
                 all must have the same size, or be resized";
    let refused = read(root.path(), None);
    assert!(matches!(&refused, Err(DataError::Sizes { .. })));
    check_refused(refused, &[&format!("{}: {sizes}", shown(root.path()))]);
    // Larger ones than a set may have without resizing, too.
    put(&root.path().join("cat/0.png"), &noisy_png(0, ImageSize { height: 1025, width: 3 }));
    check_refused(read(root.path(), None), &["has images of 5 sizes: 90×60 (2), 3×1025 (1, cat/0.png), "]);
    let large = temporary();
    put(&large.path().join("cat/0.png"), &noisy_png(0, ImageSize { height: 1025, width: 3 }));
    let refused = read(large.path(), None);
    assert!(matches!(&refused, Err(DataError::Sizes { .. })));
    check_refused(refused, &["cat/0.png: has 3×1025 pixels; allowed are 1 to 1024 a side"]);
    assert_eq!(read(large.path(), square(16, Fit::Pad)).expect("it is whole").dataset.len(), 1);
}

/// A header is believed before anything is decoded.
#[test]
fn too_many_pixels_are_refused_by_the_header() {
    let root = temporary();
    let path = root.path().join("cat/0.png");
    let mut bmp = encoded("bmp", SIZE, &noise(0, SIZE.bytes()));
    bmp[18..22].copy_from_slice(&20_000_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&20_000_u32.to_le_bytes());
    let mut png = noisy_png(0, SIZE);
    png[16..24].copy_from_slice(&[20_000_u32.to_be_bytes(), 20_000_u32.to_be_bytes()].concat());
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    for bytes in [bmp, png] {
        put(&path, &bytes);
        let problem = "has 20000×20000 pixels; allowed are 1 to 16384 a side, and 100000000 in all";
        check_refused(read(root.path(), square(32, Fit::Crop)), &["cat/0.png", problem]);
    }
}

/// The identity of the whole set, which every partition has, contains the rule.
#[test]
fn partitions_of_two_rules_are_not_mixed() {
    let root = temporary();
    // All pixels are white, so that only the rule differs.
    for name in ["cat/a.png", "cat/b.png", "dog/a.png"] {
        let size = ImageSize { height: 20, width: 30 };
        put(&root.path().join("images").join(name), &png(size, &[255; 20 * 30 * 3], ExtendedColorType::Rgb8));
    }
    let write = |fit| {
        let set = read(&root.path().join("images"), square(16, fit)).expect("whole").dataset;
        let folder = root.path().join(fit.to_string());
        partitions::write(&set, &folder, &Silent).expect("three images");
        (folder, set)
    };
    let ((cropped, one), (stretched, other)) = (write(Fit::Crop), write(Fit::Stretch));
    assert_eq!(one.pixels(), other.pixels());
    assert_ne!(store::identity(&one), store::identity(&other));
    assert_eq!(partitions::read(&cropped, &Silent).expect("one set").sets[0].header().source.fit, Some(Fit::Crop));
    std::fs::remove_dir_all(cropped.join("v2")).expect("it is there");
    std::fs::rename(stretched.join("v2"), cropped.join("v2")).expect("it is free");
    check_refused(partitions::read(&cropped, &Silent), &["v2"]);
}

#[test]
fn broken_images_among_resized_ones_are_skipped_on_request() {
    let root = temporary();
    put_mixed(root.path());
    put(&root.path().join("cat/c.gif"), b"GIF89a");
    check_refused(read(root.path(), square(32, Fit::Crop)), &["cat/c.gif: is damaged"]);
    let options = ReadOptions { skip_broken: true, resize: Some(square(32, Fit::Crop)), ..ReadOptions::default() };
    let images = sources::read(root.path(), &options, &Silent).expect("five are whole");
    assert_eq!((images.dataset.len(), images.skipped[0].file.as_str()), (5, "cat/c.gif"));
}

/// The images of a fixture as PNG files, in class folders, have the pixels that its own reader makes.
#[test]
fn archives_and_parquet_files_are_resized_like_image_files() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let original = read(&fixture("cifar-10-binary.tar.gz"), None).expect("it is whole").dataset;
    let root = temporary();
    for index in 0..original.len() {
        let bytes = png(original.size(), original.image(index), ExtendedColorType::Rgb8);
        put(&root.path().join(format!("x{}/{index}.png", index % 2)), &bytes);
    }
    for (side, fit, enlarged) in [(24, Fit::Stretch, 0), (32, Fit::Pad, 0), (40, Fit::Crop, original.len())] {
        let files = read(root.path(), square(side, fit)).expect("they are whole").dataset;
        let file = |index: usize| {
            let wanted = format!("x{}/{index}.png", index % 2);
            files.samples().iter().position(|sample| sample.file == wanted).expect("its file")
        };
        for name in ["cifar-10-binary.tar.gz", "cifar-10-parquet"] {
            let warned = Warned::default();
            let options = ReadOptions { resize: Some(square(side, fit)), ..ReadOptions::default() };
            let set = sources::read(&fixture(name), &options, &warned).expect("it is whole").dataset;
            assert_eq!(set.size(), square(side, fit).size);
            for index in 0..set.len() {
                assert!(set.image(index) == files.image(file(index)), "{name}, {fit:?}, image {index}");
            }
            assert_eq!(set.labels(), original.labels());
            let source = &set.header().source;
            assert_eq!(source.fit, Some(fit));
            assert!(source.description.ends_with(&format!("7 images, {fit} {side}×{side}")), "{source:?}");
            let warnings: Vec<String> = (enlarged > 0)
                .then(|| format!("{}: 7 images are smaller than 40×40 and enlarged", shown(&fixture(name))))
                .into_iter()
                .collect();
            assert_eq!(*warned.0.lock().expect("nobody panicked"), warnings);
        }
    }
}

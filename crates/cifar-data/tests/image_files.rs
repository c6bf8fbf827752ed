//! Single image files: orientation, channel order, and damage at every position.

use crate::common;

use std::path::Path;

use cifar_data::image_file::read_resized;
use cifar_data::sources::ReadOptions;
use cifar_data::sources::class_folders::read;
use cifar_data::{Fit, ImageSize, Result, Silent};
use common::{SIZE, check_refused, jpeg, noise, noisy_png, png, put, shown, temporary};
use image::ExtendedColorType;

/// Reads a source whose one image is `bytes`: its size and pixels. `root` can be reused.
fn decoded(root: &Path, bytes: &[u8]) -> Result<(ImageSize, Vec<u8>)> {
    put(&root.join("a/1.png"), bytes);
    let set = read(root, &ReadOptions::default(), &Silent)?.dataset;
    Ok((set.size(), set.pixels().to_vec()))
}

fn check_decoded(bytes: &[u8], size: ImageSize, expected: &[u8]) {
    let root = temporary();
    assert_eq!(decoded(root.path(), bytes).expect("it is whole"), (size, expected.to_vec()));
    let single = read_resized(&root.path().join("a/1.png"), size, Fit::Stretch).expect("it is whole");
    assert_eq!((single.original, single.pixels), (size, expected.to_vec()));
}

/// Red and green above, blue and yellow below: N × height × width × RGB, the first row first, the
/// left pixel first.
#[test]
fn the_reference_png_is_upright() {
    let size = ImageSize { height: 2, width: 2 };
    let pixels = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0];
    check_decoded(&png(size, &pixels, ExtendedColorType::Rgb8), size, &pixels);
}

#[test]
fn the_reference_jpeg_is_upright() {
    let size = ImageSize { height: 16, width: 32 };
    // Blocks of 8×8, so that the encoder mixes no two corners.
    let corners = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]];
    let pixels: Vec<u8> = (0..16 * 32).flat_map(|at| corners[at / 32 / 8 * 2 + at % 32 / 16]).collect();
    let root = temporary();
    let bytes = jpeg(size, &pixels, ExtendedColorType::Rgb8);
    let (found_size, found) = decoded(root.path(), &bytes).expect("it is whole");
    let single = read_resized(&root.path().join("a/1.png"), size, Fit::Stretch).expect("it is whole").pixels;
    assert_eq!(found_size, size);
    for found in [found, single] {
        // Chroma is halved in both directions and smoothed: away from the borders the colours are
        // nearly unchanged.
        for (y, x, corner) in [(2, 2, 0), (2, 29, 1), (13, 2, 2), (13, 29, 3)] {
            let pixel = &found[(y * 32 + x) * 3..][..3];
            assert!(pixel.iter().zip(corners[corner]).all(|(a, b)| a.abs_diff(b) < 12), "({y}, {x}) is {pixel:?}");
        }
    }
}

#[test]
fn grey_becomes_rgb_and_transparent_pixels_are_shown_over_white() {
    let size = ImageSize { height: 1, width: 2 };
    check_decoded(&png(size, &[7, 200], ExtendedColorType::L8), size, &[7, 7, 7, 200, 200, 200]);
    // White where the image is transparent: 200 at 9/255 is 255 − 55 · 9/255 = 253.06.
    check_decoded(&png(size, &[7, 0, 200, 9], ExtendedColorType::La8), size, &[255, 255, 255, 253, 253, 253]);
    let half = [1, 2, 3, 255, 4, 5, 6, 128];
    check_decoded(&png(size, &half, ExtendedColorType::Rgba8), size, &[1, 2, 3, 129, 130, 130]);
    let eight = ImageSize { height: 8, width: 8 };
    check_decoded(&jpeg(eight, &[77; 64], ExtendedColorType::L8), eight, &[77; 192]);
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    let size = ImageSize { height: 1, width: 3 };
    // 128 of 65535 is nearer to 0 than to 1 of 255; 129 is nearer to 1.
    let values: Vec<u8> = [128_u16, 129, 65_534].into_iter().flat_map(u16::to_ne_bytes).collect();
    check_decoded(&png(size, &values, ExtendedColorType::L16), size, &[0, 0, 0, 1, 1, 1, 255, 255, 255]);
    let values: Vec<u8> =
        [0_u16, 257, 514, 771, 1028, 1285, 1542, 1799, 2056].into_iter().flat_map(u16::to_ne_bytes).collect();
    check_decoded(&png(size, &values, ExtendedColorType::Rgb16), size, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let values: Vec<u8> = [257_u16, 514, 771, u16::MAX].repeat(3).into_iter().flat_map(u16::to_ne_bytes).collect();
    check_decoded(&png(size, &values, ExtendedColorType::Rgba16), size, &[1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

/// Returns EXIF data with only the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], &[0; 6]].concat()
}

/// Returns a PNG file with this orientation, in a chunk after the header, which has 33 bytes with
/// the signature.
fn turned_png(size: ImageSize, pixels: &[u8], orientation: u8) -> Vec<u8> {
    let bytes = png(size, pixels, ExtendedColorType::Rgb8);
    let chunk = [b"eXIf".to_vec(), exif(orientation)].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    [&bytes[..33], &length[..], &chunk, &crc.sum().to_be_bytes(), &bytes[33..]].concat()
}

/// Returns a JPEG file with this orientation, in a segment after the first marker.
fn turned_jpeg(bytes: &[u8], orientation: u8) -> Vec<u8> {
    let segment = [b"Exif\0\0".to_vec(), exif(orientation)].concat();
    let length = (segment.len() as u16 + 2).to_be_bytes();
    [&bytes[..2], &[0xff, 0xe1], &length[..], &segment, &bytes[2..]].concat()
}

/// Returns `stored` as a viewer shows it: the eight orientations of the EXIF standard.
fn upright(stored: &[u8], size: ImageSize, orientation: u8) -> (ImageSize, Vec<u8>) {
    let ImageSize { height: h, width: w } = size;
    let shown = if orientation < 5 { size } else { ImageSize { height: w, width: h } };
    let mut pixels = Vec::new();
    for y in 0..shown.height {
        for x in 0..shown.width {
            let (row, column) = match orientation {
                2 => (y, w - 1 - x),
                3 => (h - 1 - y, w - 1 - x),
                4 => (h - 1 - y, x),
                5 => (x, y),
                6 => (h - 1 - x, y),
                7 => (h - 1 - x, w - 1 - y),
                8 => (x, w - 1 - y),
                _ => (y, x),
            };
            pixels.extend_from_slice(&stored[(row * w + column) * 3..][..3]);
        }
    }
    (shown, pixels)
}

/// Earlier versions rotated single images but not training data, so predictions saw images in
/// another orientation than training.
#[test]
fn images_of_every_orientation_become_upright() {
    let pixels = noise(0, SIZE.bytes());
    let bytes = jpeg(ImageSize { height: 16, width: 24 }, &noise(1, 16 * 24 * 3), ExtendedColorType::Rgb8);
    let root = temporary();
    let (stored_size, stored) = decoded(root.path(), &bytes).expect("it is whole");
    // 0 and 9 are not orientations.
    for orientation in 0..=9 {
        let (size, expected) = upright(&pixels, SIZE, if orientation == 9 { 1 } else { orientation });
        check_decoded(&turned_png(SIZE, &pixels, orientation), size, &expected);
        let (size, expected) = upright(&stored, stored_size, if orientation == 9 { 1 } else { orientation });
        check_decoded(&turned_jpeg(&bytes, orientation), size, &expected);
    }
}

fn fixture(name: &str) -> Vec<u8> {
    common::get(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jpeg").join(format!("{name}.jpg")))
}

/// Reads a JPEG file whose coded data end at `length`, followed by the end-of-image marker.
fn closed(root: &Path, bytes: &[u8], length: usize) -> Result<(ImageSize, Vec<u8>)> {
    let bytes = [&bytes[..length], &[0xff, 0xd9]].concat();
    let read = decoded(root, &bytes);
    let single = read_resized(&root.join("a/1.png"), ImageSize { height: 33, width: 40 }, Fit::Stretch);
    assert_eq!(read.is_ok(), single.is_ok(), "both read the same files");
    read
}

/// The decoder fills missing blocks with grey, without an error if the end-of-image marker is
/// present.
#[test]
fn coded_data_that_end_early_are_refused_at_every_length() {
    let size = ImageSize { height: 33, width: 40 };
    let root = temporary();
    let baseline = jpeg(size, &noise(0, size.bytes()), ExtendedColorType::Rgb8);
    let files = ["progressive", "progressive_restarts", "progressive_grey", "restarts", "optimised"].map(fixture);
    for (number, bytes) in files.iter().chain([&baseline]).enumerate() {
        let whole = decoded(root.path(), bytes).expect("it is whole");
        assert_eq!(whole.0, size);
        let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a file has a scan");
        // To save time, a large file is tested at a sample of lengths before its last 40 bytes.
        let step = (bytes.len() / 800).max(1);
        for length in (scan..bytes.len() - 40).step_by(step).chain(bytes.len() - 40..bytes.len() - 2) {
            match closed(root.path(), bytes, length) {
                // The last byte may contain only fill bits.
                Ok(read) if length + 1 >= bytes.len() - 2 => assert_eq!(read, whole, "file {number}"),
                Ok(_) => panic!("file {number}: {length} of {} bytes are accepted as a whole image", bytes.len()),
                refused => check_refused(refused, &[&shown(&root.path().join("a/1.png"))]),
            }
        }
    }
}

#[test]
fn complete_blocks_are_counted() {
    let size = ImageSize { height: 8, width: 40 };
    let bytes = jpeg(size, &noise(0, 8 * 40), ExtendedColorType::L8);
    let root = temporary();
    let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a file has a scan");
    let mut counts = Vec::new();
    for length in scan + 10..bytes.len() - 4 {
        let message = closed(root.path(), &bytes, length).expect_err("it ends early").to_string();
        let (_, counted) = message.split_once("is damaged: its coded data end after ").expect("it has the count");
        let (count, rest) = counted.split_once(' ').expect("a number");
        assert_eq!(rest, "of 5 blocks");
        counts.push(count.parse::<usize>().expect("a number"));
    }
    assert!(counts.is_sorted());
    counts.dedup();
    assert_eq!(counts, [0, 1, 2, 3, 4]);
}

#[test]
fn a_missing_restart_interval_is_refused() {
    let bytes = fixture("restarts");
    let marker = |n: u8| bytes.windows(2).position(|pair| pair == [0xff, n]).expect("a restart marker");
    let without = [&bytes[..marker(0xd1)], &bytes[marker(0xd2)..]].concat();
    check_refused(decoded(temporary().path(), &without), &["is damaged: its coded data end after "]);
}

#[test]
fn four_inks_have_the_colours_of_pillow() {
    let root = temporary();
    let pillow = |name: &str| {
        let path = format!("{}/tests/fixtures/jpeg/{name}.png", env!("CARGO_MANIFEST_DIR"));
        image::open(path).expect("a PNG").into_rgb8()
    };
    for (name, is_rotated) in [("cmyk", false), ("ycck", false), ("ycck_progressive", true)] {
        let mut expected = pillow(name);
        if is_rotated {
            expected = image::imageops::rotate90(&expected);
        }
        let (size, pixels) = decoded(root.path(), &fixture(name)).expect("it is whole");
        assert_eq!((size.width, size.height), if is_rotated { (33, 40) } else { (40, 33) });
        let single = read_resized(&root.path().join("a/1.png"), size, Fit::Stretch).expect("it is whole");
        assert!(single.pixels == pixels);
        // The two decoders round the cosine transform differently.
        let most = pixels.iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most.is_some_and(|most| most <= 2), "{name}: {most:?}");
    }
    check_truncated(&fixture("ycck"), 0);
}

#[test]
fn trailing_bytes_are_ignored() {
    let root = temporary();
    let (size, pixels) = decoded(root.path(), &fixture("progressive")).expect("it is whole");
    // Phones append clips and previews, which may look like the start of a segment.
    for more in [&b"\xff\xe1\xff\xff clip"[..], &[0; 9], b"\xff\xd8\xff"] {
        check_decoded(&[&fixture("progressive"), more].concat(), size, &pixels);
        check_decoded(&[&noisy_png(0, SIZE), more].concat(), SIZE, &noise(0, SIZE.bytes()));
    }
}

/// Checks that every shorter file is refused by name, unless only the last `harmless` bytes, which
/// have no pixels, are missing.
fn check_truncated(bytes: &[u8], harmless: usize) {
    let root = temporary();
    let whole = decoded(root.path(), bytes).expect("it is whole");
    for length in 0..bytes.len() {
        match decoded(root.path(), &bytes[..length]) {
            Ok(read) if length >= bytes.len() - harmless => assert_eq!(read, whole, "{length} of {}", bytes.len()),
            read => check_refused(read, &[&shown(&root.path().join("a/1.png"))]),
        }
    }
}

#[test]
fn a_truncated_jpeg_is_refused_at_every_length() {
    let size = ImageSize { height: 12, width: 17 };
    check_truncated(&jpeg(size, &noise(0, size.bytes()), ExtendedColorType::Rgb8), 0);
    check_truncated(&jpeg(size, &noise(0, 12 * 17), ExtendedColorType::L8), 0);
}

#[test]
fn a_truncated_png_is_refused_at_every_length() {
    // The last chunk, of twelve bytes, is empty.
    check_truncated(&noisy_png(0, SIZE), 12);
    check_truncated(&png(SIZE, &noise(0, 15), ExtendedColorType::L8), 12);
}

#[test]
fn a_flipped_bit_in_a_png_never_changes_pixels() {
    let root = temporary();
    let bytes = noisy_png(0, SIZE);
    let whole = decoded(root.path(), &bytes).expect("it is whole");
    for at in 0..bytes.len() {
        for bit in [0, 5, 7] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            match decoded(root.path(), &damaged) {
                Ok(found) => assert_eq!(found, whole, "byte {at}, bit {bit}"),
                refused => check_refused(refused, &[&shown(&root.path().join("a/1.png"))]),
            }
        }
    }
}

/// A JPEG has no checksums, so damage may change pixels. It must never panic.
#[test]
fn a_damaged_jpeg_never_panics() {
    let size = ImageSize { height: 9, width: 8 };
    let bytes = jpeg(size, &noise(0, size.bytes()), ExtendedColorType::Rgb8);
    let root = temporary();
    for at in 0..bytes.len() {
        for value in [0, 0xff, bytes[at] ^ 0x10] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            if let Err(error) = decoded(root.path(), &damaged) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

#[test]
fn a_single_image_is_resized() {
    let root = temporary();
    let path = root.path().join("x.png");
    let (from, to) = (ImageSize { height: 4, width: 6 }, ImageSize { height: 2, width: 2 });
    // Left half black, right half white, at any size.
    let pixels: Vec<u8> = (0..24).flat_map(|at| [if at % 6 < 3 { 0 } else { 255 }; 3]).collect();
    put(&path, &png(from, &pixels, ExtendedColorType::Rgb8));
    let read = read_resized(&path, to, Fit::Stretch).expect("it is whole");
    assert_eq!(read.original, from);
    assert_eq!(read.pixels.len(), to.bytes());
    for row in read.pixels.chunks_exact(6) {
        assert!(row[..3].iter().all(|v| *v < 60) && row[3..].iter().all(|v| *v > 195), "{row:?}");
    }
}

#[test]
fn a_single_file_that_is_not_an_image_is_refused() {
    fn check(bytes: &[u8], problem: &str) {
        let root = temporary();
        let path = root.path().join("x.png");
        put(&path, bytes);
        check_refused(read_resized(&path, SIZE, Fit::Stretch), &[&shown(&path), problem]);
    }
    check(b"", "is empty");
    check(b"%PDF-1.7", "is not an image (JPEG, PNG, WebP, BMP, GIF or TIFF) but a PDF document");
    check(b"version https://git-lfs.github.com/spec/v1\n", "but a Git LFS pointer, not the data; run `git lfs pull`");
    check(b"hello", "is not an image (JPEG, PNG, WebP, BMP, GIF or TIFF)");
    check(b"BM is how this text starts", "is not an image");
    check(&noisy_png(0, SIZE)[..60], "is damaged");
    check(&noisy_png(0, ImageSize { height: 1, width: 16_385 }), "has 16385×1 pixels; allowed are 1 to 16384 a side");
    let size = ImageSize { height: 32, width: 32 };
    let bytes = jpeg(size, &noise(0, size.bytes()), ExtendedColorType::Rgb8);
    check(&bytes[..bytes.len() / 2], "is truncated");
    check(&bytes[..bytes.len() - 1], "is truncated");
    check(&[&bytes[..40], &[0xff, 0xe1, 0xff, 0xff, 0xff, 0xd9]].concat(), "is truncated");
    // Bytes that a phone appends are harmless, even if they look like the start of a segment.
    let root = temporary();
    let path = root.path().join("x.jpg");
    put(&path, &[&bytes[..], b"\xff\xe1\xff\xff clip"].concat());
    assert_eq!(read_resized(&path, SIZE, Fit::Stretch).expect("the picture is whole").original, size);
    let absent = temporary().path().join("absent.png");
    check_refused(read_resized(&absent, SIZE, Fit::Stretch), &[&shown(&absent), "cannot read"]);
    check_refused(
        read_resized(root.path(), SIZE, Fit::Stretch),
        &[&shown(root.path()), "is a folder; expected a regular file"],
    );
    #[cfg(unix)]
    {
        let pipe = root.path().join("pipe.jpg");
        common::make_pipe(&pipe);
        check_refused(
            read_resized(&pipe, SIZE, Fit::Stretch),
            &[&shown(&pipe), "is a named pipe; expected a regular file"],
        );
        let odd = root.path().join("a\nb\u{1b}[2J.jpg");
        check_refused(read_resized(&odd, SIZE, Fit::Stretch), &["a\\nb\\u{1b}[2J.jpg", "cannot read"]);
    }
}

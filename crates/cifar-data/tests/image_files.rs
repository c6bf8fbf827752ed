//! Single image files: which way up, which channel first, and damage at every place.

mod common;

use std::path::Path;

use cifar_data::image_file::read_resized;
use cifar_data::sources::ReadOptions;
use cifar_data::sources::class_folders::read;
use cifar_data::{ImageSize, Result, Silent};
use common::{SIZE, check_refused, jpeg, noise, noisy_png, png, put, shown, temporary};
use image::ExtendedColorType;

/// Reads a source whose one image is `bytes`: its size and pixels. `root` may be used again.
fn decoded(root: &Path, bytes: &[u8]) -> Result<(ImageSize, Vec<u8>)> {
    put(&root.join("a/1.png"), bytes);
    let set = read(root, &ReadOptions::default(), &Silent)?.dataset;
    Ok((set.size(), set.pixels().to_vec()))
}

fn check_decoded(bytes: &[u8], size: ImageSize, expected: &[u8]) {
    let root = temporary();
    assert_eq!(decoded(root.path(), bytes).expect("it is whole"), (size, expected.to_vec()));
    let single = read_resized(&root.path().join("a/1.png"), size).expect("it is whole");
    assert_eq!((single.original, single.pixels), (size, expected.to_vec()));
}

/// Red and green above, blue and yellow below: N × height × width × RGB, the first row first, the left pixel first.
#[test]
fn the_golden_image_stands_upright() {
    let size = ImageSize { height: 2, width: 2 };
    let pixels = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0];
    check_decoded(&png(size, &pixels, ExtendedColorType::Rgb8), size, &pixels);
}

#[test]
fn the_golden_jpeg_stands_upright() {
    let size = ImageSize { height: 16, width: 32 };
    // Blocks of 8×8, so that the encoder mixes no two corners.
    let corners = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]];
    let pixels: Vec<u8> = (0..16 * 32).flat_map(|at| corners[at / 32 / 8 * 2 + at % 32 / 16]).collect();
    let root = temporary();
    let bytes = jpeg(size, &pixels, ExtendedColorType::Rgb8);
    let (found_size, found) = decoded(root.path(), &bytes).expect("it is whole");
    let single = read_resized(&root.path().join("a/1.png"), size).expect("it is whole").pixels;
    assert_eq!(found_size, size);
    for found in [found, single] {
        // Chroma is halved in both directions and smoothed again: away from the borders the colours are nearly kept.
        for (y, x, corner) in [(2, 2, 0), (2, 29, 1), (13, 2, 2), (13, 29, 3)] {
            let pixel = &found[(y * 32 + x) * 3..][..3];
            assert!(pixel.iter().zip(corners[corner]).all(|(a, b)| a.abs_diff(b) < 12), "({y}, {x}) is {pixel:?}");
        }
    }
}

#[test]
fn grey_becomes_rgb_and_transparency_is_dropped() {
    let size = ImageSize { height: 1, width: 2 };
    check_decoded(&png(size, &[7, 200], ExtendedColorType::L8), size, &[7, 7, 7, 200, 200, 200]);
    check_decoded(&png(size, &[7, 0, 200, 9], ExtendedColorType::La8), size, &[7, 7, 7, 200, 200, 200]);
    check_decoded(&png(size, &[1, 2, 3, 0, 4, 5, 6, 7], ExtendedColorType::Rgba8), size, &[1, 2, 3, 4, 5, 6]);
    let eight = ImageSize { height: 8, width: 8 };
    check_decoded(&jpeg(eight, &[77; 64], ExtendedColorType::L8), eight, &[77; 192]);
}

#[test]
fn sixteen_bits_are_refused() {
    let size = ImageSize { height: 1, width: 1 };
    for (color, pixel) in [(ExtendedColorType::L16, &[1, 2][..]), (ExtendedColorType::Rgb16, &[1, 2, 3, 4, 5, 6])] {
        let root = temporary();
        let refused = decoded(root.path(), &png(size, pixel, color));
        check_refused(refused, &[&shown(&root.path().join("a/1.png")), "expected 8 bits a channel"]);
    }
}

/// Every shorter file is refused by name, unless `harmless` bytes at its end say nothing about pixels.
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
    // The last chunk, of twelve bytes, holds nothing.
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

/// A JPEG has no checksums: damage may show as other pixels. It must never show as a panic.
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
fn a_single_picture_is_resized() {
    let root = temporary();
    let path = root.path().join("x.png");
    let (from, to) = (ImageSize { height: 4, width: 6 }, ImageSize { height: 2, width: 2 });
    // Left half black, right half white, whatever the size.
    let pixels: Vec<u8> = (0..24).flat_map(|at| [if at % 6 < 3 { 0 } else { 255 }; 3]).collect();
    put(&path, &png(from, &pixels, ExtendedColorType::Rgb8));
    let read = read_resized(&path, to).expect("it is whole");
    assert_eq!(read.original, from);
    assert_eq!(read.pixels.len(), to.bytes());
    for row in read.pixels.chunks_exact(6) {
        assert!(row[..3].iter().all(|v| *v < 60) && row[3..].iter().all(|v| *v > 195), "{row:?}");
    }
}

#[test]
fn a_single_picture_that_is_none_is_refused() {
    fn check(bytes: &[u8], problem: &str) {
        let root = temporary();
        let path = root.path().join("x.png");
        put(&path, bytes);
        check_refused(read_resized(&path, SIZE), &[&shown(&path), problem]);
    }
    check(b"", "is neither a JPEG nor a PNG file");
    check(b"hello", "is neither a JPEG nor a PNG file");
    check(&noisy_png(0, SIZE)[..60], "cannot be decoded");
    check(&noisy_png(0, ImageSize { height: 1, width: 16_385 }), "cannot be decoded");
    let size = ImageSize { height: 32, width: 32 };
    let bytes = jpeg(size, &noise(0, size.bytes()), ExtendedColorType::Rgb8);
    check(&bytes[..bytes.len() / 2], "is truncated");
    check(&bytes[..bytes.len() - 1], "is truncated");
    check(&[&bytes[..40], &[0xff, 0xe1, 0xff, 0xff, 0xff, 0xd9]].concat(), "is truncated");
    // What a telephone puts behind the picture does no harm, even if it looks like the begin of a segment.
    let root = temporary();
    let path = root.path().join("x.jpg");
    put(&path, &[&bytes[..], b"\xff\xe1\xff\xff clip"].concat());
    assert_eq!(read_resized(&path, SIZE).expect("the picture is whole").original, size);
    let absent = temporary().path().join("absent.png");
    check_refused(read_resized(&absent, SIZE), &[&shown(&absent), "cannot read"]);
}

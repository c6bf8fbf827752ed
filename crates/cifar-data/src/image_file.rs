//! Any JPEG or PNG as an image of a given size, for classifying pictures that are no part of a data set.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, imageops::FilterType};

use crate::{DataError, ImageSize, Result};

/// Most pixels a side that is read: a larger header is refused before anything is decoded.
const MOST_PIXELS: u32 = 16_384;
/// Most bytes that decoding may take: enough for 100 megapixels of RGBA.
const MOST_BYTES: u64 = 400_000_000;

/// An image file's pixels, resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizedImage {
    /// height × width × RGB.
    pub pixels: Vec<u8>,
    /// Size of the file's image, upright.
    pub original: ImageSize,
}

/// Reads a JPEG or PNG, turns it upright (EXIF), drops transparency and resizes it to `size`; the aspect ratio is not kept.
/// An image that has this size already keeps its pixels.
///
/// # Errors
/// If the file cannot be read, is neither JPEG nor PNG, is damaged or larger than 16,384 pixels a side.
pub fn read_resized(path: &Path, size: ImageSize) -> Result<ResizedImage> {
    let bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
    let broken = |e: image::ImageError| DataError::image(path, format!("cannot be decoded as JPEG or PNG: {e}"));
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_PIXELS);
    limits.max_image_height = Some(MOST_PIXELS);
    limits.max_alloc = Some(room(&bytes));
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_has_end(&bytes) {
        return Err(DataError::image(path, "is truncated: the end-of-image marker is missing"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(DataError::io("read", path))?;
    if reader.format().is_none() {
        return Err(DataError::image(path, "is neither a JPEG nor a PNG file"));
    }
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let orientation = decoder.orientation().map_err(broken)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    let original = ImageSize { height: image.height() as usize, width: image.width() as usize };
    let rgb = image.into_rgb8();
    let pixels = if original == size {
        rgb.into_raw()
    } else {
        // A triangle as wide as a target pixel averages what falls into it, so that shrinking does not alias.
        image::imageops::resize(&rgb, size.width as u32, size.height as u32, FilterType::Triangle).into_raw()
    };
    Ok(ResizedImage { pixels, original })
}

/// Bytes that decoding may take. A PNG says in its first bytes how many pixels it has, and what lies beside them, such as a
/// packed colour profile, must not take much more.
fn room(bytes: &[u8]) -> u64 {
    /// Of a pixel with four values of 16 bits, twice.
    const A_PIXEL: u64 = 16;
    const BESIDE: u64 = 4 << 20;
    match (bytes.strip_prefix(b"\x89PNG\r\n\x1a\n"), bytes.get(16..24)) {
        (Some(_), Some(&[a, b, c, d, e, f, g, h])) => {
            let [width, height] = [[a, b, c, d], [e, f, g, h]].map(|side| u64::from(u32::from_be_bytes(side)));
            width.saturating_mul(height).saturating_mul(A_PIXEL).saturating_add(BESIDE).min(MOST_BYTES)
        }
        _ => MOST_BYTES,
    }
}

/// Whether a JPEG has its end-of-image marker, without which the decoder fills what is missing with grey. More may
/// follow it: telephones put clips and previews there.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, second]) = bytes.get(at..at + 2) {
        at += match (first, second) {
            (0xff, 0xd9) => return true,
            // Stuffing and restarts among the coded pixels.
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => 2,
            (0xff, 0x02..=0xfe) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            _ => 1,
        };
    }
    false
}

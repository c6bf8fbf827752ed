//! Any JPEG or PNG as an image of a given size, for classifying pictures that are no part of a data set.

use std::path::Path;

use image::imageops::FilterType;

use crate::decode::read_header;
use crate::{DataError, ImageSize, Result, input};

/// Most pixels a side that is read: a larger header is refused before anything is decoded.
const MOST_PIXELS: usize = 16_384;
/// Most bytes of a file.
const MOST_BYTES: u64 = 512 << 20;

/// An image file's pixels, resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizedImage {
    /// height × width × RGB.
    pub pixels: Vec<u8>,
    /// Size of the file's image, upright.
    pub original: ImageSize,
}

/// Reads a JPEG or PNG as [`crate::sources`] does: upright (EXIF), without transparency; and resizes it to `size`; the aspect
/// ratio is not kept. An image that has this size already keeps its pixels.
///
/// # Errors
/// If the file cannot be read, is no regular file, is neither JPEG nor PNG, is damaged, or is larger than 16,384 pixels a side
/// or 100 megapixels.
pub fn read_resized(path: &Path, size: ImageSize) -> Result<ResizedImage> {
    let broken = |problem| DataError::image(path, problem);
    let mut bytes = Vec::new();
    input::read_image(path, MOST_BYTES, &mut bytes)?;
    let header = read_header(&bytes, MOST_PIXELS).map_err(broken)?;
    let original = header.size();
    let mut pixels = vec![0; original.bytes()];
    header.decode(&mut pixels).map_err(broken)?;
    if original != size {
        let image = image::RgbImage::from_raw(original.width as u32, original.height as u32, pixels);
        let image = image.ok_or_else(|| DataError::image(path, "is too large"))?;
        // A triangle as wide as a target pixel averages what falls into it, so that shrinking does not alias.
        pixels =
            image::imageops::resize(&image, size.width as u32, size.height as u32, FilterType::Triangle).into_raw();
    }
    Ok(ResizedImage { pixels, original })
}

//! Reads a JPEG or PNG at a given size, to classify pictures that are not part of a data set.

mod find;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::imageops::FilterType;

use crate::decode::read_header;
use crate::{DataError, ImageSize, Result, input};

pub use find::{Found, FoundFile, find};

/// Most pixels per side. A header with more is refused before anything is decoded.
const MAX_PIXELS: usize = 16_384;
/// Largest file that is read.
const MAX_BYTES: u64 = 512 << 20;
/// Larger files, and images of more pixels than a photograph usually has, are decoded one at a time:
/// one for each thread could take all memory.
const LARGE_BYTES: u64 = 32 << 20;
const LARGE_PIXELS: usize = 25_000_000;
static LARGE: Mutex<()> = Mutex::new(());

/// The pixels of an image file, resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizedImage {
    /// The pixels: height × width × RGB.
    pub pixels: Vec<u8>,
    /// The size of the upright image in the file.
    pub original: ImageSize,
}

/// Reads a JPEG or PNG like [`crate::sources`]: upright (EXIF), without transparency. Resizes it to
/// `size`, without keeping the aspect ratio. An image that already has this size keeps its pixels.
///
/// ```
/// use cifar_data::ImageSize;
/// use cifar_data::image_file::read_resized;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("red.png");
/// image::save_buffer(&path, &[255, 0, 0].repeat(64 * 48), 64, 48, image::ColorType::Rgb8).unwrap();
/// let image = read_resized(&path, ImageSize { height: 32, width: 32 })?;
/// assert_eq!(image.original, ImageSize { height: 48, width: 64 });
/// assert_eq!(image.pixels[..3], [255, 0, 0]);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If the file cannot be read, is not a regular file, is neither JPEG nor PNG, is damaged, or is
/// larger than 16,384 pixels per side or 100 megapixels.
pub fn read_resized(path: &Path, size: ImageSize) -> Result<ResizedImage> {
    let broken = |problem| DataError::image(path, problem);
    let mut bytes = Vec::new();
    let mut alone = (input::metadata(path)?.len() > LARGE_BYTES).then(wait_for_others);
    input::read_image(path, MAX_BYTES, &mut bytes)?;
    let header = read_header(&bytes, MAX_PIXELS).map_err(broken)?;
    let original = header.size();
    if alone.is_none() && original.height * original.width > LARGE_PIXELS {
        alone = Some(wait_for_others());
    }
    let mut pixels = vec![0; original.bytes()];
    header.decode(&mut pixels).map_err(broken)?;
    if original != size {
        let image = image::RgbImage::from_raw(original.width as u32, original.height as u32, pixels);
        let image = image.ok_or_else(|| DataError::image(path, "is too large"))?;
        // A triangle filter as wide as a target pixel averages all pixels in it, so shrinking does
        // not alias.
        pixels =
            image::imageops::resize(&image, size.width as u32, size.height as u32, FilterType::Triangle).into_raw();
    }
    drop(alone);
    Ok(ResizedImage { pixels, original })
}

/// Waits until no other thread decodes a large image.
fn wait_for_others() -> MutexGuard<'static, ()> {
    LARGE.lock().unwrap_or_else(PoisonError::into_inner)
}

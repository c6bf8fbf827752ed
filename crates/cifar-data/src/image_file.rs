//! Reads an image file at a given size, to classify pictures that are not part of a data set.

mod find;

use std::path::Path;
use std::sync::OnceLock;

use crate::decode::{Budget, Unread, read_fitted};
use crate::{DataError, Fit, ImageSize, Resize, Result};

pub use find::{Found, FoundFile, find};

/// The pixels of an image file, resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizedImage {
    /// The pixels: height × width × RGB.
    pub pixels: Vec<u8>,
    /// The size of the upright image in the file.
    pub original: ImageSize,
}

/// Reads an image file like [`crate::sources`]: by its first bytes, upright (EXIF) and over white.
/// Resizes it to `size` by the rule `fit`, which is that of the images that a model was trained on
/// ([`Source::fit`](crate::Source::fit)); images without a rule are stretched. An image that already
/// has this size keeps its pixels.
///
/// Calls on several threads share a bound on memory: 2 GiB for all files and decoded pixels.
///
/// ```
/// use cifar_data::image_file::read_resized;
/// use cifar_data::{Fit, ImageSize};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("red.png");
/// image::save_buffer(&path, &[255, 0, 0].repeat(64 * 48), 64, 48, image::ColorType::Rgb8).unwrap();
/// let image = read_resized(&path, ImageSize { height: 32, width: 32 }, Fit::Crop)?;
/// assert_eq!(image.original, ImageSize { height: 48, width: 64 });
/// assert_eq!(image.pixels[..3], [255, 0, 0]);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If the file cannot be read, is not a regular file, is not an image, is damaged, or is larger than
/// 16,384 pixels per side or 100 megapixels; if not enough memory is left.
pub fn read_resized(path: &Path, size: ImageSize, fit: Fit) -> Result<ResizedImage> {
    static BUDGET: OnceLock<Budget> = OnceLock::new();
    let budget = BUDGET.get_or_init(|| Budget::beside(0));
    let mut pixels = vec![0; size.bytes()];
    let found = read_fitted(path, Resize { size, fit }, budget, &mut pixels).map_err(|e| match e {
        Unread::Image(problem) => DataError::image(path, problem),
        Unread::Memory(e) => e,
    })?;
    Ok(ResizedImage { pixels, original: found.original })
}

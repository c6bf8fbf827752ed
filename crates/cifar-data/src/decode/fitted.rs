//! Reads an image file of any size at a given size, within a budget of memory.

use std::path::Path;

use super::{Budget, Header, Unread, read_header};
use crate::{Fit, ImageSize, Resize, input};

/// Most pixels per side of an image that is resized. A header with more is refused before anything
/// is decoded.
pub(crate) const MAX_SIDE: usize = 16_384;
/// Largest file that is read.
pub(crate) const MAX_FILE: u64 = 512 << 20;

/// What was found in an image file that was resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The size of the upright image.
    pub(crate) original: ImageSize,
    /// Whether a pixel was transparent.
    pub(crate) transparent: bool,
}

/// Returns the size of the upright image at `path`, and reads as little of the file as possible.
///
/// # Errors
/// As [`read_fitted`], as far as the header shows.
pub(crate) fn read_size(path: &Path, budget: &Budget) -> Result<ImageSize, Unread> {
    /// The header of most files is here, with a preview.
    const START: u64 = 256 << 10;
    let length = input::metadata(path).map_err(|e| e.problem())?.len().min(MAX_FILE);
    let mut bytes = Vec::new();
    let mut read = |most: u64| -> Result<ImageSize, Unread> {
        let _share = budget.take(length.min(most))?;
        input::read_start(path, most, &mut bytes).map_err(|e| e.problem())?;
        Ok(read_header(&bytes, MAX_SIDE)?.size())
    };
    match read(START) {
        Err(_) if length > START => read(MAX_FILE),
        found => found,
    }
}

/// Reads the image at `path` and writes it into `pixels` at the size and by the rule of `resize`.
///
/// # Errors
/// If it is not an image, damaged or too large, or not enough memory is left.
pub(crate) fn read_fitted(path: &Path, resize: Resize, budget: &Budget, pixels: &mut [u8]) -> Result<Found, Unread> {
    let length = input::metadata(path).map_err(|e| e.problem())?.len().min(MAX_FILE);
    let mut needed = length;
    loop {
        let mut share = budget.take(needed)?;
        let mut bytes = Vec::with_capacity(length as usize + 1);
        input::read_image(path, MAX_FILE, &mut bytes).map_err(|e| e.problem())?;
        let header = read_header(&bytes, MAX_SIDE)?;
        let original = header.size();
        needed = bytes.len() as u64 + header.memory() + Fit::memory(original, resize.size);
        if !share.grow(needed)? {
            // Everything is returned before this thread waits for all that it needs.
            continue;
        }
        return decode(header, resize, pixels);
    }
}

/// Decodes an image file that is in memory, as [`read_fitted`].
pub(crate) fn decode_fitted(bytes: &[u8], resize: Resize, budget: &Budget, pixels: &mut [u8]) -> Result<Found, Unread> {
    let header = read_header(bytes, MAX_SIDE)?;
    let _share = budget.take(header.memory() + Fit::memory(header.size(), resize.size))?;
    decode(header, resize, pixels)
}

fn decode(header: Header, resize: Resize, pixels: &mut [u8]) -> Result<Found, Unread> {
    let original = header.size();
    let mut decoded = vec![0; original.bytes()];
    let transparent = header.decode(&mut decoded)?;
    let fitted = resize.fit.apply(decoded, original, resize.size).ok_or_else(|| "is too large".to_string())?;
    pixels.copy_from_slice(&fitted);
    Ok(Found { original, transparent })
}

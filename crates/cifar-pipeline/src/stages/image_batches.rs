//! Decodes image files in batches, while a network computes the batch before.

use std::path::PathBuf;

use cifar_data::image_file::read_resized;
use cifar_data::{DataError, ImageSize, Progress, Resize};
use cifar_model::images_per_pass;
use rayon::prelude::*;

use crate::Result;

/// Some image files, in order.
#[derive(Debug, Default)]
pub(super) struct ImageBatch {
    /// Each file, with the size of its image or why it cannot be read.
    pub(super) files: Vec<(PathBuf, Result<ImageSize, DataError>)>,
    /// The pixels of the images that could be read, resized.
    pub(super) pixels: Vec<u8>,
}

/// Reads all `files`, resizes them and calls `compute` with the pixels of each batch that
/// has some. Then calls `each` with the batches, in order.
///
/// At most two batches are in memory, whatever the number of files.
///
/// # Errors
/// Those of `compute` and `each`, and if the user asks to stop. An unreadable file is no error.
pub(super) fn for_each_batch<T: Send>(
    mut files: impl ExactSizeIterator<Item = PathBuf>,
    resize: Resize,
    what: &'static str,
    compute: impl Fn(&[u8]) -> Result<T> + Sync,
    mut each: impl FnMut(ImageBatch, Option<T>) -> Result<()>,
    progress: &dyn Progress,
) -> Result<()> {
    let (total, mut done) = (files.len() as u64, 0);
    let mut chunk = || -> Vec<PathBuf> { files.by_ref().take(images_per_pass(resize.size)).collect() };
    let mut next = decode(chunk(), resize);
    while !next.files.is_empty() {
        progress.check()?;
        progress.update(what, done, total);
        let (current, paths) = (next, chunk());
        let pixels = &current.pixels;
        let computed = || if pixels.is_empty() { Ok(None) } else { compute(pixels).map(Some) };
        let (computed, decoded) = rayon::join(computed, || decode(paths, resize));
        next = decoded;
        done += current.files.len() as u64;
        each(current, computed?)?;
    }
    progress.update(what, done, total);
    Ok(())
}

/// Reads files on all threads.
fn decode(paths: Vec<PathBuf>, resize: Resize) -> ImageBatch {
    let Resize { size, fit } = resize;
    let images: Vec<_> = paths.into_par_iter().map(|path| (read_resized(&path, size, fit), path)).collect();
    let mut batch = ImageBatch::default();
    for (image, path) in images {
        let found = image.map(|image| {
            batch.pixels.extend_from_slice(&image.pixels);
            image.original
        });
        batch.files.push((path, found));
    }
    batch
}

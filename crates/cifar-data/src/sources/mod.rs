//! Sources of images: class folders, tables of labels, the official archives, parquet files, a
//! download, and the built-in synthetic set.

pub mod archives;
pub mod class_folders;
#[cfg(feature = "download")]
pub mod download;
pub mod parquet;
pub mod synthetic;

mod files;
mod label_table;
mod layout;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use class_folders::ClassFolders;
use layout::Found;
use rayon::prelude::*;

use crate::memory::{check, room_for};
use crate::{DataError, Dataset, Fit, Header, Progress, Resize, Result};

pub use files::Skipped;

/// Most pixels per side of an image of a data set that is not resized. A header with more is refused
/// before anything is decoded.
const MAX_PIXELS: usize = 1024;

/// Which labels to read, if a set has two kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Labels {
    /// The fine labels, such as the 100 classes of CIFAR-100.
    #[default]
    Fine,
    /// The 20 superclasses of CIFAR-100. No other set has coarse labels.
    Coarse,
}

/// Options of [`read`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether to skip unusable images instead of stopping at the first.
    pub skip_broken: bool,
    /// Which labels to read, if there are two kinds.
    pub labels: Labels,
    /// The size to which images are resized, with the rule. With `None`, all must have one size.
    pub resize: Option<Resize>,
}

/// The result of [`read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The images.
    pub dataset: Dataset,
    /// The skipped images: those with ids by id, then those without. Always empty for archives and
    /// parquet files: a damaged one is refused as a whole.
    pub skipped: Vec<Skipped>,
    /// Number of entries of class folders that were ignored: hidden ones, and those that operating
    /// systems leave.
    pub ignored: usize,
}

/// Reads the data set at `path`, whatever its kind: class folders, an official version of CIFAR-10
/// or CIFAR-100 (a `.tar.gz` or `.tar` under any name, or its unpacked folder), a `.parquet` file
/// or a folder of them, a folder that contains one of these, or a `.csv` file that lists images
/// (`file,label` or `file,label,split`).
/// ```
/// use cifar_data::sources::{self, ReadOptions};
/// use cifar_data::Silent;
///
/// # let root = tempfile::tempdir().unwrap();
/// # let folder = root.path();
/// for (class, colour) in [("black", 0), ("white", 255)] {
///     std::fs::create_dir(folder.join(class)).unwrap();
///     let pixels = vec![colour; 8 * 8 * 3];
///     image::save_buffer(folder.join(class).join("a.png"), &pixels, 8, 8, image::ColorType::Rgb8).unwrap();
/// }
/// let images = sources::read(folder, &ReadOptions::default(), &Silent)?;
/// assert_eq!(images.dataset.classes(), ["black", "white"]);
/// assert_eq!(images.dataset.labels(), [0, 1]);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If there are several data sets, coarse labels are requested of a set that has none, a table is
/// wrong, there is too little memory, or as for [`class_folders::read`], [`archives::read`] and
/// [`parquet::read`].
pub fn read(path: &Path, options: &ReadOptions, progress: &dyn Progress) -> Result<Images> {
    if let Some(warning) = layout::one_part_only(path) {
        progress.warn(&warning);
    }
    let dataset = match layout::find(path)? {
        Found::ClassFolders(path) | Found::Table(path) if options.labels == Labels::Coarse => {
            return Err(DataError::malformed(
                &path,
                "has no coarse labels; archives and parquet files of CIFAR-100 have",
            ));
        }
        Found::ClassFolders(folder) => {
            if let Some(warning) = label_table::unread(&folder) {
                progress.warn(&warning);
            }
            let ClassFolders { dataset, mut skipped, ignored } = class_folders::read(&folder, options, progress)?;
            if let Ok(inner) = folder.strip_prefix(path) {
                let file = |file: &str| inner.join(file).to_string_lossy().into_owned();
                for skipped in &mut skipped {
                    skipped.file = file(&skipped.file);
                }
            }
            return Ok(Images { dataset, skipped, ignored });
        }
        Found::Table(path) => {
            let (dataset, skipped) = label_table::read(&path, options, progress)?;
            return Ok(Images { dataset, skipped, ignored: 0 });
        }
        Found::Archive(path) => {
            let dataset = archives::read(&path, options.labels, progress)?;
            match options.resize {
                None => dataset,
                Some(resize) => resized(&dataset, resize, &path, progress)?,
            }
        }
        Found::Parquet(path) => parquet::read(&path, options, progress)?,
    };
    Ok(Images { dataset, skipped: Vec::new(), ignored: 0 })
}

/// Resizes the images of a set that is in memory. `path` is for the warning.
fn resized(dataset: &Dataset, resize: Resize, path: &Path, progress: &dyn Progress) -> Result<Dataset> {
    const WHAT: &str = "resizing";
    let from = dataset.size();
    // The images as they were, and what a thread needs for one image.
    let kept = room_for(dataset.len() as u64, resize.size)?;
    let needed = kept.saturating_add(Fit::memory(from, resize.size) * rayon::current_num_threads() as u64);
    check(WHAT, needed, "use a smaller size")?;
    let mut pixels = vec![0; dataset.len() * resize.size.bytes()];
    let (images, total) = (dataset.pixels().par_chunks_exact(from.bytes()), dataset.len() as u64);
    let done = AtomicU64::new(0);
    pixels.par_chunks_exact_mut(resize.size.bytes()).zip(images).try_for_each(|(pixels, image)| {
        if let Some(fitted) = resize.fit.apply(image.to_vec(), from, resize.size) {
            pixels.copy_from_slice(&fitted);
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(1000) || done == total {
            progress.update(WHAT, done, total);
        }
        progress.check()
    })?;
    let enlarged = from.height < resize.size.height || from.width < resize.size.width;
    let changed = if enlarged { total as usize } else { 0 };
    files::warn_of_enlarged(path, changed, resize, progress);
    let Header { classes, source, .. } = dataset.header().clone();
    let header = Header { classes, size: resize.size, source: source.resized(Some(resize)) };
    Dataset::new(header, dataset.samples().to_vec(), pixels)
}

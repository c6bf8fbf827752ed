//! Folders of image files, one per class: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*`.
//!
//! `train` and `test` may be capitalised, or be called `training` and `testing`. Classes are the
//! folder names in sorted order. Without `test`, the images of `val`, `valid`, `validation` and
//! `dev` are training images like those of `train`.
//!
//! `index.csv` (`id,file`) gives every file its id. Without it, files are interleaved: the first of
//! each class, the second of each class, and so on, in sorted order, training images before test
//! images.
//!
//! Hidden files and those that operating systems leave (`Thumbs.db`, `desktop.ini`, `__MACOSX`,
//! `@eaDir`) are ignored and counted. Other files outside class folders, such as those of `val/`
//! beside a `test/`, are counted in a warning, except text files.

mod index;
mod listing;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use self::listing::Listing;
use super::ReadOptions;
use super::files::{Entry, decode_all, interleaved};
use crate::{DataError, Dataset, Progress, Result, SourceKind};

pub use super::files::Skipped;

const INDEX: &str = "index.csv";

/// The result of [`read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassFolders {
    /// The images. Skipped ones leave gaps in the ids.
    pub dataset: Dataset,
    /// The skipped images, by id.
    pub skipped: Vec<Skipped>,
    /// Number of entries that were ignored: hidden ones, and those that operating systems leave.
    pub ignored: usize,
}

/// Reads and decodes all images of `folder` on all threads.
///
/// ```no_run
/// use cifar_data::Silent;
/// use cifar_data::sources::{ReadOptions, class_folders};
///
/// let options = ReadOptions { skip_broken: true, ..Default::default() };
/// let found = class_folders::read("photos".as_ref(), &options, &Silent)?;
/// for skipped in &found.skipped {
///     eprintln!("{}: {}", skipped.file, skipped.problem);
/// }
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If there are no class folders, train/ and test/ have different ones, one is empty, `index.csv`
/// does not list exactly the existing files, or an image is damaged. If images have several sizes and
/// `options` do not resize them.
pub fn read(folder: &Path, options: &ReadOptions, progress: &dyn Progress) -> Result<ClassFolders> {
    let listing = listing::list(folder, options.skip_broken)?;
    if let Some(warning) = listing.warning(folder) {
        progress.warn(&warning);
    }
    let Listing { classes, files, no_images, ignored, .. } = listing;
    let index = folder.join(INDEX);
    // Anything with this name, even a dangling link.
    let has_index = fs::symlink_metadata(&index).is_ok();
    let entries = if has_index { index::in_order(&index, folder, files)? } else { interleaved(files) };
    let what = (SourceKind::ClassFolders, "class folders");
    let (dataset, skipped) = decode_all(folder, what, classes, &entries, *options, progress)?;
    let mut read = ClassFolders { dataset, skipped, ignored };
    if options.skip_broken {
        check_emptied(folder, &entries, &read)?;
        read.skipped.extend(no_images);
    }
    Ok(read)
}

/// Checks that skipping leaves no class folder without images.
fn check_emptied(folder: &Path, entries: &[Entry], read: &ClassFolders) -> Result<()> {
    let folder_of = |file: &str| file.rsplit_once('/').map(|(folder, _)| folder.to_string()).unwrap_or_default();
    let mut left: BTreeMap<String, usize> = entries.iter().map(|entry| (folder_of(&entry.file), 0)).collect();
    for sample in read.dataset.samples() {
        *left.entry(folder_of(&sample.file)).or_default() += 1;
    }
    let Some((class, _)) = left.iter().find(|(_, count)| **count == 0) else { return Ok(()) };
    let mut skipped = read.skipped.iter().filter(|skipped| folder_of(&skipped.file) == *class);
    let Some(first) = skipped.next() else { return Ok(()) };
    let (count, problem) = (1 + skipped.count(), &first.problem);
    let message = format!("none of its {count} images can be used; the first, {}, {problem}", first.file);
    Err(DataError::malformed(&folder.join(class), message))
}

//! Where images come from: folders of image files, the official archives, parquet files, a download of an archive, or the
//! built-in synthetic set.

pub mod archives;
pub mod class_folders;
pub mod download;
pub mod parquet;
pub mod synthetic;

mod layout;

use std::path::Path;

use class_folders::{ClassFolders, Skipped};
use layout::Found;

use crate::{DataError, Dataset, Monitor, Result};

/// Most pixels a side of an image of a data set: larger ones are no business of this program, and a header that claims more
/// is refused before anything is decoded.
const MOST_PIXELS: usize = 1024;

/// Which labels to read, where a set has two kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Labels {
    /// The classes themselves: CIFAR-100's hundred.
    #[default]
    Fine,
    /// CIFAR-100's twenty superclasses. No other set has such.
    Coarse,
}

/// How to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Leave out images that cannot be used, instead of stopping at the first.
    pub skip_broken: bool,
    /// Which labels, where there are two kinds.
    pub labels: Labels,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The images.
    pub dataset: Dataset,
    /// What was left out: by id, then what has none. Of archives and parquet files, nothing is: a damaged one is refused whole.
    pub skipped: Vec<Skipped>,
}

/// Reads what lies at `path`, whatever it is: class folders, an official version of CIFAR-10 or CIFAR-100 (a `.tar.gz` or
/// `.tar` under any name, or its unpacked folder), a `.parquet` file or a folder of them, or a folder that one of these lies
/// in.
///
/// # Errors
/// If two of these lie there, coarse labels are asked of a set that has none, or as [`class_folders::read`],
/// [`archives::read`] and [`parquet::read`] say.
pub fn read(path: &Path, options: &ReadOptions, monitor: &dyn Monitor) -> Result<Images> {
    if let Some(warning) = layout::one_part_only(path) {
        monitor.warn(&warning);
    }
    let dataset = match layout::find(path)? {
        Found::ClassFolders(path) if options.labels == Labels::Coarse => {
            return Err(DataError::malformed(
                &path,
                "has no coarse labels; archives and parquet files of CIFAR-100 have",
            ));
        }
        Found::ClassFolders(folder) => {
            let ClassFolders { dataset, mut skipped } = class_folders::read(&folder, options, monitor)?;
            if let Ok(inner) = folder.strip_prefix(path) {
                let file = |file: &str| inner.join(file).to_string_lossy().into_owned();
                for skipped in &mut skipped {
                    skipped.file = file(&skipped.file);
                }
            }
            return Ok(Images { dataset, skipped });
        }
        Found::Archive(path) => archives::read(&path, options.labels, monitor)?,
        Found::Parquet(path) => parquet::read(&path, options.labels, monitor)?,
    };
    Ok(Images { dataset, skipped: Vec::new() })
}

//! Where images come from: folders of image files, the official archives, parquet files, a download of an archive, or the
//! built-in synthetic set.

pub mod archives;
pub mod class_folders;
pub mod download;
pub mod parquet;
pub mod synthetic;

mod decode;

use std::fs;
use std::path::{Path, PathBuf};

use class_folders::{ClassFolders, Skipped};

use crate::{DataError, Dataset, Monitor, Result};

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
    /// What was left out, by id. Of archives and parquet files, nothing is: a damaged one is refused whole.
    pub skipped: Vec<Skipped>,
}

/// Reads what lies at `path`, whatever it is: class folders, an official version of CIFAR-10 or CIFAR-100 (a `.tar.gz`,
/// its unpacked folder, or the folder that this one lies in), a `.parquet` file, a folder of them or the folder that this
/// one lies in, or a folder with one such `.tar.gz` and no other images.
///
/// # Errors
/// If two of these lie there, coarse labels are asked of a set that has none, or as [`class_folders::read`],
/// [`archives::read`] and [`parquet::read`] say.
pub fn read(path: &Path, options: &ReadOptions, monitor: &dyn Monitor) -> Result<Images> {
    let is_folder = fs::metadata(path).map_err(DataError::io("read", path))?.is_dir();
    let found = if is_folder {
        find(path)?
    } else if parquet::is_parquet(&path.to_string_lossy()) {
        Found::Parquet(path.to_path_buf())
    } else {
        Found::Archive(path.to_path_buf())
    };
    let dataset = match found {
        Found::ClassFolders if options.labels == Labels::Coarse => {
            return Err(DataError::malformed(
                path,
                "has no coarse labels; archives and parquet files of CIFAR-100 have",
            ));
        }
        Found::ClassFolders => {
            let ClassFolders { dataset, skipped } = class_folders::read(path, options, monitor)?;
            return Ok(Images { dataset, skipped });
        }
        Found::Archive(path) => archives::read(&path, options.labels, monitor)?,
        Found::Parquet(path) => parquet::read(&path, options.labels, monitor)?,
    };
    Ok(Images { dataset, skipped: Vec::new() })
}

/// What a path means.
enum Found {
    ClassFolders,
    /// Packed or unpacked.
    Archive(PathBuf),
    /// One file, or a folder of them.
    Parquet(PathBuf),
}

/// What is meant by `folder`.
fn find(folder: &Path) -> Result<Found> {
    let (mut class_folders, mut batches, mut tables) = (false, false, false);
    let (mut unpacked, mut packed) = (Vec::new(), Vec::new());
    let mut of_tables = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let path = entry.map_err(DataError::io("read the folder", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        // `is_dir` and `is_file` follow links, as reading will.
        if path.is_dir() {
            let known = archives::VERSIONS.iter().find(|version| version.folder == name);
            unpacked.extend(known.map(|version| version.folder));
            if known.is_none() {
                let holds_tables = holds_parquet(&path)?;
                class_folders |= !holds_tables;
                of_tables.extend(holds_tables.then_some(name));
            }
        } else if path.is_file() {
            packed.extend(archives::VERSIONS.iter().map(|version| version.archive).find(|archive| *archive == name));
            batches |= archives::is_batch(&name);
            tables |= parquet::is_parquet(&name);
        }
    }
    // What can be used as it lies there comes before what is packed: `tar xf` leaves the archive beside its folder.
    let mut there: Vec<&str> = unpacked;
    there.extend(class_folders.then_some("class folders"));
    there.extend(batches.then_some("the batches of an archive"));
    there.extend(tables.then_some("parquet files"));
    there.extend(of_tables.iter().map(String::as_str));
    let candidates = if there.is_empty() { &mut packed } else { &mut there };
    candidates.sort_unstable();
    match candidates[..] {
        [] => Ok(Found::ClassFolders),
        [_] if class_folders => Ok(Found::ClassFolders),
        [_] if batches => Ok(Found::Archive(folder.to_path_buf())),
        [_] if tables => Ok(Found::Parquet(folder.to_path_buf())),
        [name] if of_tables.iter().any(|table| table == name) => Ok(Found::Parquet(folder.join(name))),
        [name] => Ok(Found::Archive(folder.join(name))),
        _ => Err(DataError::malformed(
            folder,
            format!(
                "holds {}, and either could be meant; name the one to read, or move the others",
                candidates.join(" and ")
            ),
        )),
    }
}

/// Whether a folder holds parquet files, by one of its first names: class folders may hold thousands.
fn holds_parquet(folder: &Path) -> Result<bool> {
    const LOOKED_AT: usize = 100;
    let entries = fs::read_dir(folder).map_err(DataError::io("read the folder", folder))?;
    let name = |entry: std::io::Result<fs::DirEntry>| Some(entry.ok()?.file_name().to_string_lossy().into_owned());
    Ok(entries.take(LOOKED_AT).filter_map(name).any(|name| !name.starts_with('.') && parquet::is_parquet(&name)))
}

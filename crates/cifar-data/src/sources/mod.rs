//! Where images come from: folders of image files, the official archives, or the built-in synthetic set.

pub mod archives;
pub mod class_folders;
pub mod synthetic;

mod decode;

use std::fs;
use std::path::{Path, PathBuf};

use class_folders::{ClassFolders, ReadOptions, Skipped};

use crate::{DataError, Dataset, Monitor, Result};

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The images.
    pub dataset: Dataset,
    /// What was left out, by id. Of an archive, nothing is: a damaged one is refused whole.
    pub skipped: Vec<Skipped>,
}

/// Reads what lies at `path`, whatever it is: class folders, an official version of CIFAR-10 or CIFAR-100 (a `.tar.gz`,
/// its unpacked folder, or the folder that this one lies in), or a folder with one such `.tar.gz` and no other images.
///
/// # Errors
/// If two of these lie there, or as [`class_folders::read`] and [`archives::read`] say.
pub fn read(path: &Path, options: &ReadOptions, monitor: &dyn Monitor) -> Result<Images> {
    let is_folder = fs::metadata(path).map_err(DataError::io("read", path))?.is_dir();
    let found = if is_folder { find(path)? } else { Some(path.to_path_buf()) };
    if let Some(archive) = found {
        return Ok(Images { dataset: archives::read(&archive, monitor)?, skipped: Vec::new() });
    }
    let ClassFolders { dataset, skipped } = class_folders::read(path, options, monitor)?;
    Ok(Images { dataset, skipped })
}

/// The archive, packed or unpacked, that is meant by `folder`; `None` if class folders are.
fn find(folder: &Path) -> Result<Option<PathBuf>> {
    let (mut class_folders, mut batches) = (false, false);
    let (mut unpacked, mut packed) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let path = entry.map_err(DataError::io("read the folder", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        // `is_dir` and `is_file` follow links, as reading will.
        if path.is_dir() {
            let known = archives::VERSIONS.iter().find(|version| version.folder == name);
            unpacked.extend(known.map(|version| version.folder));
            class_folders |= known.is_none();
        } else if path.is_file() {
            packed.extend(archives::VERSIONS.iter().map(|version| version.archive).find(|archive| *archive == name));
            batches |= archives::is_batch(&name);
        }
    }
    // What can be used as it lies there comes before what is packed: `tar xf` leaves the archive beside its folder.
    let mut there = unpacked;
    there.extend(class_folders.then_some("class folders"));
    there.extend(batches.then_some("the batches of an archive"));
    let candidates = if there.is_empty() { &mut packed } else { &mut there };
    candidates.sort_unstable();
    match candidates[..] {
        [] => Ok(None),
        [_] if class_folders => Ok(None),
        [_] if batches => Ok(Some(folder.to_path_buf())),
        [name] => Ok(Some(folder.join(name))),
        _ => Err(DataError::malformed(
            folder,
            format!(
                "holds {}, and either could be meant; name the one to read, or move the others",
                candidates.join(" and ")
            ),
        )),
    }
}

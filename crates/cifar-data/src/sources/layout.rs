//! Finds the data set that a path means: the path itself, or a folder inside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{archives, parquet};
use crate::names::{is_ignored, shown};
use crate::{DataError, Result, input};

/// Depth of the folders that are searched for a data set.
const DEEPEST: usize = 4;
/// Number of entries that are read to find out what a folder is: class folders may have thousands.
const MAX_ENTRIES: usize = 100;

/// The kind and path of a data set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    ClassFolders(PathBuf),
    /// Packed or unpacked.
    Archive(PathBuf),
    /// One file, or a folder of them.
    Parquet(PathBuf),
    /// A CSV file that lists image files.
    Table(PathBuf),
}

/// A published part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Test,
    Val,
}

impl Part {
    /// Returns the part that a folder's whole name means, in upper or lower case.
    pub(super) fn of_folder(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "test" | "testing" => Some(Self::Test),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            _ => None,
        }
    }

    /// Returns the part that one word of a file's name means.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let mut parts = name.split(|c: char| !c.is_alphabetic()).filter_map(Self::of_folder);
        let first = parts.next();
        // `train_test.parquet` is neither.
        if parts.any(|part| Some(part) != first) { None } else { first }
    }
}

/// The content of a folder, as far as it decides what the folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Nothing.
    Nothing,
    /// The batches of an archive.
    Batches,
    /// Parquet files.
    Tables,
    /// Folders for training images and for test or validation images.
    Parts,
    /// Other folders.
    Folders,
    /// Only files, such as the images of a class.
    Files,
}

/// The folders of a data set that has published parts, by name.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) train: Option<String>,
    pub(super) test: Option<String>,
    /// Folders of validation images; there may be several.
    pub(super) val: Vec<String>,
}

/// Returns whether a file with this name is a table of labels.
pub(super) fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// Finds the published parts of `folder`. A folder called `train` with images in it is a class of
/// that name.
///
/// # Errors
/// If there are two folders for one part.
pub(super) fn parts(folder: &Path) -> Result<Parts> {
    let mut parts = Parts::default();
    for name in folders(folder)? {
        let Some(part) = Part::of_folder(&name) else { continue };
        if inside(&folder.join(&name))? == Inside::Files {
            continue;
        }
        let place = match part {
            Part::Train => &mut parts.train,
            Part::Test => &mut parts.test,
            Part::Val => {
                parts.val.push(name);
                continue;
            }
        };
        if let Some(other) = place.replace(name.clone()) {
            let problem = format!("holds {other}/ and {name}/, and either could be meant; move one of them");
            return Err(DataError::malformed(folder, problem));
        }
    }
    Ok(parts)
}

/// Finds the data set that `path` means.
///
/// # Errors
/// If it is neither a folder nor a regular file, or if it holds no data set or several that could
/// be meant.
pub(super) fn find(path: &Path) -> Result<Found> {
    if input::metadata(path)?.is_dir() {
        return in_folder(path, DEEPEST);
    }
    if is_table(path) {
        return Ok(Found::Table(path.to_path_buf()));
    }
    let head = input::head(path)?;
    let is_table = head.starts_with(b"PAR1") || parquet::is_parquet(&path.to_string_lossy());
    Ok(if is_table { Found::Parquet(path.to_path_buf()) } else { Found::Archive(path.to_path_buf()) })
}

fn in_folder(folder: &Path, depth: usize) -> Result<Found> {
    let here = || folder.to_path_buf();
    let mut there: Vec<(String, Found)> = Vec::new();
    let mut class_folders = false;
    let mut holders = Vec::new();
    let parts = parts(folder)?;
    let tables_in = |name: &Option<String>| match name {
        Some(name) => Ok(inside(&folder.join(name))? == Inside::Tables),
        None => Ok::<_, DataError>(false),
    };
    let both_hold_tables = tables_in(&parts.train)? && tables_in(&parts.test)?;
    if both_hold_tables {
        there.push(("train/ and test/ with parquet files".into(), Found::Parquet(here())));
    }
    let is_part =
        |name: &String| [&parts.train, &parts.test].into_iter().flatten().chain(&parts.val).any(|n| n == name);
    for name in folders(folder)? {
        let path = folder.join(&name);
        if let Some(version) = archives::VERSIONS.iter().find(|version| version.folder == name) {
            there.push((version.folder.into(), Found::Archive(path)));
            continue;
        }
        match inside(&path)? {
            _ if both_hold_tables && is_part(&name) => {}
            Inside::Tables => there.push((name, Found::Parquet(path))),
            Inside::Batches => there.push((name, Found::Archive(path))),
            _ if is_part(&name) => class_folders = true,
            Inside::Parts => holders.push((name, true)),
            Inside::Folders => holders.push((name, false)),
            Inside::Files | Inside::Nothing => class_folders = true,
        }
    }
    let (mut packed, mut renamed) = (Vec::new(), Vec::new());
    let (mut batches, mut tables) = (false, false);
    for name in files(folder)? {
        batches |= archives::is_batch(&name);
        tables |= parquet::is_parquet(&name);
        let found = || (name.clone(), Found::Archive(folder.join(&name)));
        if archives::VERSIONS.iter().any(|version| version.archive == name) {
            packed.push(found());
        } else if is_archive(&folder.join(&name), &name) {
            renamed.push(found());
        }
    }
    // Either a set in a subfolder, or class folders if there is nothing else.
    let alone = holders.len() == 1 && there.is_empty() && !class_folders;
    for (name, is_set) in holders {
        if depth > 0 && (is_set || alone) {
            there.push((name.clone(), in_folder(&folder.join(&name), depth - 1)?));
        } else {
            class_folders = true;
        }
    }
    if class_folders {
        there.push(("class folders".into(), Found::ClassFolders(here())));
    }
    if batches {
        there.push(("the batches of an archive".into(), Found::Archive(here())));
    }
    if tables {
        there.push(("parquet files".into(), Found::Parquet(here())));
    }
    // Unpacked data come before archives, since `tar xf` leaves the archive beside its folder. The
    // authors' names come before others, since a second download is called "… (1)".
    for others in [packed, renamed] {
        if there.is_empty() {
            there = others;
        }
    }
    there.sort_by(|a, b| a.0.cmp(&b.0));
    if there.len() > 1 {
        let names: Vec<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
        let problem = "and either could be meant; name the one to read, or move the others";
        return Err(DataError::malformed(folder, format!("holds {}, {problem}", names.join(" and "))));
    }
    Ok(there.pop().map_or(Found::ClassFolders(here()), |(_, found)| found))
}

/// Returns the content of a folder, by its first entries.
fn inside(folder: &Path) -> Result<Inside> {
    let (folders, files): (Vec<_>, Vec<_>) = entries(folder, MAX_ENTRIES)?.into_iter().partition(|(_, dir)| *dir);
    let has = |part| folders.iter().any(|(name, _)| Part::of_folder(name) == Some(part));
    Ok(if files.iter().any(|(name, _)| parquet::is_parquet(name)) {
        Inside::Tables
    } else if files.iter().any(|(name, _)| archives::is_batch(name)) {
        Inside::Batches
    } else if has(Part::Train) && (has(Part::Test) || has(Part::Val)) {
        Inside::Parts
    } else if !folders.is_empty() {
        // There may be files beside them.
        Inside::Folders
    } else if !files.is_empty() {
        Inside::Files
    } else {
        Inside::Nothing
    })
}

/// Returns the sorted names of the folders in `folder`.
fn folders(folder: &Path) -> Result<Vec<String>> {
    let entries = entries(folder, usize::MAX)?.into_iter();
    Ok(entries.filter(|(_, dir)| *dir).map(|(name, _)| name).collect())
}

/// Returns the sorted names of everything else in `folder`.
fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = entries(folder, usize::MAX)?.into_iter();
    Ok(entries.filter(|(_, dir)| !*dir).map(|(name, _)| name).collect())
}

/// Returns the first entries of `folder`, sorted: their names, and whether they are folders or
/// links to folders.
fn entries(folder: &Path, most: usize) -> Result<Vec<(String, bool)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        if entries.len() == most {
            break;
        }
        let entry = entry.map_err(DataError::io("read the folder", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_ignored(&name) {
            continue;
        }
        let kind = entry.file_type().map_err(DataError::io("read", &entry.path()))?;
        // A dangling link counts as a file here; reading it gives an error that says so.
        entries.push((name, kind.is_dir() || (kind.is_symlink() && entry.path().is_dir())));
    }
    entries.sort_unstable();
    Ok(entries)
}

/// Returns whether a file is a packed archive under another name than its authors gave it.
fn is_archive(path: &Path, name: &str) -> bool {
    let name = name.to_lowercase();
    let may_be = [".tar", ".tgz", ".gz"].iter().any(|extension| name.contains(extension));
    may_be && input::head(path).is_ok_and(|head| input::is_gzip(&head) || input::is_tar(&head))
}

/// Returns the warning that `source` is one part of a data set whose other part would be left out.
pub(super) fn one_part_only(source: &Path) -> Option<String> {
    let (name, parent) = (source.file_name()?.to_str()?, source.parent()?);
    let part = Part::of_folder(name)?;
    let parts = parts(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).ok()?;
    let other = match part {
        Part::Train if parts.train.as_deref() == Some(name) => parts.test?,
        Part::Test if parts.test.as_deref() == Some(name) => parts.train?,
        _ => return None,
    };
    let here = shown(source);
    Some(format!("{here}: is read without {other}/, which is beside it; name the folder above to read both"))
}

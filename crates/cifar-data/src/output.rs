//! Atomic writes: a file or folder appears under its name complete or not at all, and its old
//! version stays until then.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{DataError, Result};

mod folder;

pub use self::folder::{OutputFolder, remove};

/// Writes a file: to a temporary file beside it, flushed to the disk, then renamed.
///
/// Removes the temporary files of earlier writes of this file whose process was killed.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = OutputFile::create(path)?;
    file.write(contents)?;
    file.commit()
}

/// A file that is written beside its destination, part by part, and replaces it on
/// [`OutputFile::commit`].
///
/// If it is dropped before, it is removed and the destination is unchanged.
///
/// ```
/// use cifar_data::output::OutputFile;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("long.csv");
/// let mut file = OutputFile::create(&path)?;
/// file.write(b"file,label\n")?;
/// file.write(b"a.png,cat\n")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"file,label\na.png,cat\n");
/// # Ok::<(), cifar_data::DataError>(())
/// ```
#[derive(Debug)]
pub struct OutputFile {
    destination: PathBuf,
    file: tempfile::NamedTempFile,
}

impl OutputFile {
    /// Creates a file that will become `path`, and the folders above it.
    ///
    /// Removes the temporary files of earlier writes of this file whose process was killed.
    ///
    /// # Errors
    /// If the folder cannot be created or written to.
    pub fn create(path: &Path) -> Result<Self> {
        let parent = parent_of(path);
        fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
        remove_abandoned(parent, &prefix(path));
        let file = temporary(&prefix(path)).tempfile_in(parent).map_err(DataError::io("write", path))?;
        // The lock shows other processes that the writer is alive. Where files cannot be locked,
        // abandoned files stay.
        let _ = file.as_file().lock();
        Ok(Self { destination: path.to_path_buf(), file })
    }

    /// Appends to the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, contents: &[u8]) -> Result<()> {
        self.file.write_all(contents).map_err(DataError::io("write", &self.destination))
    }

    /// Flushes the file to the disk, and replaces the destination.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn commit(self) -> Result<()> {
        let Self { destination, file } = self;
        file.as_file().sync_all().map_err(DataError::io("write", &destination))?;
        file.persist(&destination).map_err(|e| DataError::io("write", &destination)(e.error))?;
        sync_folder(parent_of(&destination)).map_err(DataError::io("write", &destination))
    }
}

/// Writes `value` as an indented JSON file with a final newline, like [`write_file`].
///
/// ```
/// use cifar_data::output::write_json;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("scores.json");
/// write_json(&path, &[0.5, 1.0])?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "[\n  0.5,\n  1.0\n]\n");
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If the value has no form in JSON, such as a map whose keys are not text, or the file cannot be
/// written.
pub fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    write_file(path, &to_json(value, path)?)
}

/// Returns `value` as indented JSON with a final newline. `path` is for messages.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T, path: &Path) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|e| DataError::malformed(path, format!("cannot be written as JSON: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

/// Removes temporary files whose lock nobody holds: their writer is gone. A failure here loses
/// nothing.
fn remove_abandoned(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_temporary = entry.file_name().to_string_lossy().starts_with(prefix);
        if !is_temporary || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if fs::File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes the temporary files that [`write_file`] left in `folder` when its process was killed.
/// The caller holds a lock that excludes other writers.
///
/// # Errors
/// If the folder cannot be read or a file cannot be removed.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let path = entry.map_err(DataError::io("read the folder", folder))?.path();
        if path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL)) {
            fs::remove_file(&path).map_err(DataError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Prefix of unfinished files and folders.
const PARTIAL: &str = ".partial-";

fn prefix(destination: &Path) -> String {
    let name = destination.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{PARTIAL}{name}-")
}

/// Returns the final path of a file in an unfinished folder.
pub(crate) fn final_path(path: &Path) -> PathBuf {
    let shown = |part: &std::ffi::OsStr| {
        let name = part.to_str()?.strip_prefix(PARTIAL)?.rsplit_once('-')?.0;
        (!name.is_empty()).then(|| name.to_string())
    };
    path.components()
        .map(|c| shown(c.as_os_str()).map_or_else(|| PathBuf::from(c.as_os_str()), PathBuf::from))
        .collect()
}

/// Flushes the directory entries of a folder to the disk: otherwise a power failure may undo a
/// rename.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Temporary files get the permissions of any new file of the user, after the umask.
fn temporary(prefix: &str) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_final_path() {
        let check = |path: &str, expected: &str| assert_eq!(final_path(Path::new(path)), Path::new(expected));
        check("data/.partial-raw-x3Bq7z/pool/manifest.csv", "data/raw/pool/manifest.csv");
        check("/a/.partial-my-set-x3Bq7z", "/a/my-set");
        check("a/partial-b/.partial-x3Bq7z", "a/partial-b/.partial-x3Bq7z");
    }

    #[test]
    fn json_that_cannot_be_written_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let no_json = std::collections::BTreeMap::from([([1u8], 2)]);
        let message = write_json(&root.path().join("x.json"), &no_json).unwrap_err().to_string();
        assert!(message.ends_with("x.json: cannot be written as JSON: key must be a string"), "{message}");
        let folder = OutputFolder::create(&root.path().join("out")).unwrap();
        let message = folder.write_json("y.json", &no_json).unwrap_err().to_string();
        assert!(message.contains("out/y.json: cannot be written as JSON"), "{message}");
        folder.write_json("y.json", "text").unwrap();
        folder.commit().unwrap();
        assert_eq!(fs::read(root.path().join("out/y.json")).unwrap(), b"\"text\"\n");
        assert!(!root.path().join("x.json").exists());
    }

    #[test]
    fn only_unfinished_files_are_removed() {
        let root = tempfile::tempdir().unwrap();
        for name in [".partial-Xy12", "partial", ".hidden"] {
            fs::write(root.path().join(name), b"1").unwrap();
        }
        fs::create_dir(root.path().join(".partial-out-xyz")).unwrap();
        remove_unfinished(root.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".hidden", ".partial-out-xyz", "partial"]);
        assert!(remove_unfinished(&root.path().join("none")).is_err());
    }

    #[test]
    fn temporary_files_of_killed_writers_are_removed_and_locked_ones_stay() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.json");
        fs::write(root.path().join(".partial-x.json-abc"), b"1").unwrap();
        fs::write(root.path().join(".partial-y.json-abc"), b"1").unwrap();
        let alive = fs::File::create(root.path().join(".partial-x.json-def")).unwrap();
        alive.lock().unwrap();
        write_file(&path, b"2").unwrap();
        let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".partial-x.json-def", ".partial-y.json-abc", "x.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_new_files_of_the_user() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        // Created by the system itself, under the umask of this test.
        fs::write(root.path().join("plain"), b"1").unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        write_file(&root.path().join("written"), b"1").unwrap();
        let folder = OutputFolder::create(&root.path().join("out")).unwrap();
        folder.write("file", b"1").unwrap();
        folder.commit().unwrap();
        assert_eq!(mode(&root.path().join("written")), mode(&root.path().join("plain")));
        assert_eq!(mode(&root.path().join("out/file")), mode(&root.path().join("plain")));
        assert_eq!(mode(&root.path().join("out")), mode(&root.path().join("folder")));
    }

    #[test]
    fn a_file_replaces_all_of_another() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/x.json");
        write_file(&path, b"1").unwrap();
        write_file(&path, b"22").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"22");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

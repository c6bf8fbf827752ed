//! Folders that appear whole, and the removal of what is no longer needed.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{parent_of, prefix, sync_folder, to_json};
use crate::{DataError, Result};

/// A folder that is written beside its destination and replaces it on [`OutputFolder::commit`].
///
/// If it is dropped before, it is removed and the destination is unchanged.
#[derive(Debug)]
pub struct OutputFolder {
    destination: PathBuf,
    staging: tempfile::TempDir,
}

impl OutputFolder {
    /// Creates a folder that will become `destination`.
    pub fn create(destination: &Path) -> Result<Self> {
        let parent = parent_of(destination);
        fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
        remove_stale(parent, &prefix(destination))?;
        let staging =
            temporary_folder(&prefix(destination), parent).map_err(DataError::io("create a folder in", parent))?;
        Ok(Self { destination: destination.to_path_buf(), staging })
    }

    /// Returns where to write until then.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Writes a file into the folder, and creates the folders between.
    pub fn write(&self, relative: &str, contents: &[u8]) -> Result<()> {
        let path = self.path().join(relative);
        let parent = parent_of(&path);
        fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
        // Messages have the name that the user knows, not that of the temporary folder.
        let shown = self.destination.join(relative);
        let mut file = fs::File::create(&path).map_err(DataError::io("write", &shown))?;
        file.write_all(contents).map_err(DataError::io("write", &shown))
    }

    /// Writes `value` into the folder as [`write_json`](super::write_json) does.
    ///
    /// # Errors
    /// As [`write_json`](super::write_json).
    pub fn write_json<T: Serialize + ?Sized>(&self, relative: &str, value: &T) -> Result<()> {
        self.write(relative, &to_json(value, &self.destination.join(relative))?)
    }

    /// Replaces the destination. The old folder is removed only after the new one is in place.
    pub fn commit(self) -> Result<()> {
        let Self { destination, staging } = self;
        let parent = parent_of(&destination);
        settle(staging.path()).map_err(DataError::io("write", &destination))?;
        if destination.exists() {
            let is_folder = fs::symlink_metadata(&destination).is_ok_and(|found| found.is_dir());
            if is_folder && exchange(staging.path(), &destination) {
                // The old folder now has the temporary name, and is removed under it.
                return sync_folder(parent).map_err(DataError::io("replace", &destination));
            }
            let aside =
                temporary_folder(&prefix(&destination), parent).map_err(DataError::io("create a folder in", parent))?;
            let old = aside.path().join("old");
            fs::rename(&destination, &old).map_err(DataError::io("replace", &destination))?;
            if let Err(error) = fs::rename(staging.path(), &destination) {
                fs::rename(&old, &destination).map_err(DataError::io("put back", &destination))?;
                return Err(DataError::io("replace", &destination)(error));
            }
        } else {
            fs::rename(staging.path(), &destination).map_err(DataError::io("create", &destination))?;
        }
        // The staging folder was renamed: nothing is left to remove under its old name.
        let _moved = staging.keep();
        sync_folder(parent).map_err(DataError::io("create", &destination))
    }
}

/// Removes a file, a link, or a folder with everything in it. The target of a link stays. Nothing to
/// remove is not an error.
///
/// # Errors
/// If something cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DataError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes the unfinished folders of killed processes. The caller holds the project's lock, so no
/// running process owns them.
fn remove_stale(parent: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(parent).map_err(DataError::io("read the folder", parent))? {
        let entry = entry.map_err(DataError::io("read the folder", parent))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Swaps two folders atomically where the system can, so that the name always exists.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

/// Swaps two folders atomically where the system can, so that the name always exists.
#[cfg(not(target_os = "linux"))]
fn exchange(_one: &Path, _other: &Path) -> bool {
    false
}

/// Flushes every file and folder under `folder`, and itself, to the disk.
fn settle(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { settle(&path)? } else { fs::File::open(&path)?.sync_all()? }
    }
    sync_folder(folder)
}

/// Creates a temporary folder with the permissions of any new folder of the user.
fn temporary_folder(prefix: &str, parent: &Path) -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_folder_leaves_the_destination_unchanged() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let first = OutputFolder::create(&out).unwrap();
        first.write("a/b.txt", b"old").unwrap();
        first.commit().unwrap();

        let second = OutputFolder::create(&out).unwrap();
        second.write("a/b.txt", b"new").unwrap();
        drop(second);
        assert_eq!(fs::read(out.join("a/b.txt")).unwrap(), b"old");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "no temporary folder is left");
    }

    #[test]
    fn a_committed_folder_replaces_all_of_the_destination() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        for (name, text) in [("first.txt", "1"), ("second.txt", "2")] {
            let folder = OutputFolder::create(&out).unwrap();
            folder.write(name, text.as_bytes()).unwrap();
            folder.commit().unwrap();
        }
        assert!(!out.join("first.txt").exists());
        assert_eq!(fs::read(out.join("second.txt")).unwrap(), b"2");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_of_killed_processes_are_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(".partial-out-xyz/deep")).unwrap();
        fs::write(root.path().join(".partial-out-file"), b"1").unwrap();
        OutputFolder::create(&root.path().join("out")).unwrap().commit().unwrap();
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["out"]);
    }

    #[cfg(unix)]
    #[test]
    fn remove_deletes_files_folders_and_links_but_not_link_targets() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("folder/deep")).unwrap();
        fs::write(path("folder/deep/file"), b"1").unwrap();
        fs::create_dir(path("kept")).unwrap();
        fs::write(path("kept/file"), b"1").unwrap();
        fs::write(path("file"), b"1").unwrap();
        for (link, target) in [("to_folder", "kept"), ("to_file", "kept/file"), ("to_nothing", "none")] {
            std::os::unix::fs::symlink(path(target), path(link)).unwrap();
        }
        for name in ["folder", "file", "to_folder", "to_file", "to_nothing", "not_there"] {
            remove(&path(name)).unwrap();
            assert!(fs::symlink_metadata(path(name)).is_err(), "{name}");
        }
        assert_eq!(fs::read(path("kept/file")).unwrap(), b"1");
        // A folder that is reached through a file cannot be removed.
        assert!(remove(&path("kept/file/below")).is_err());
    }
}

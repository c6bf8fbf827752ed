//! Writing so that what was there before is never harmed: a file or folder appears whole, under its name, or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{DataError, Result};

/// Writes a file: a sibling temporary file first, flushed to the disk, then a rename.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
    let mut file =
        tempfile::Builder::new().prefix(PARTIAL).tempfile_in(parent).map_err(DataError::io("write", path))?;
    file.write_all(contents).and_then(|()| file.as_file().sync_all()).map_err(DataError::io("write", path))?;
    readable_by_all(file.path()).map_err(DataError::io("write", path))?;
    file.persist(path).map_err(|e| DataError::io("write", path)(e.error))?;
    Ok(())
}

/// Removes from `folder` the files that [`write_file`] had begun when its process was killed. The caller holds a lock that keeps
/// other writers out.
///
/// # Errors
/// If the folder cannot be read or a file not removed.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let path = entry.map_err(DataError::io("read the folder", folder))?.path();
        if path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL)) {
            fs::remove_file(&path).map_err(DataError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// A folder that is written beside its destination and takes its place on [`OutputFolder::commit`].
///
/// Dropped before that, it vanishes and the destination keeps what it had.
#[derive(Debug)]
pub struct OutputFolder {
    destination: PathBuf,
    staging: tempfile::TempDir,
}

impl OutputFolder {
    /// Starts a folder that will become `destination`.
    pub fn create(destination: &Path) -> Result<Self> {
        let parent = parent_of(destination);
        fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
        remove_stale(parent, &prefix(destination))?;
        let staging = tempfile::Builder::new()
            .prefix(&prefix(destination))
            .tempdir_in(parent)
            .map_err(DataError::io("create a folder in", parent))?;
        readable_by_all(staging.path()).map_err(DataError::io("create a folder in", parent))?;
        Ok(Self { destination: destination.to_path_buf(), staging })
    }

    /// Where to write in the meantime.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Writes one file into the folder, creating the folders between.
    pub fn write(&self, relative: &str, contents: &[u8]) -> Result<()> {
        let path = self.path().join(relative);
        let parent = parent_of(&path);
        fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
        // The name that the user knows, not that of the temporary folder.
        let shown = self.destination.join(relative);
        let mut file = fs::File::create(&path).map_err(DataError::io("write", &shown))?;
        file.write_all(contents).map_err(DataError::io("write", &shown))
    }

    /// Takes the destination's place. What was there before is removed only after the new folder stands.
    pub fn commit(self) -> Result<()> {
        let Self { destination, staging } = self;
        let parent = parent_of(&destination);
        settle(staging.path()).map_err(DataError::io("write", &destination))?;
        if destination.exists() {
            let is_folder = fs::symlink_metadata(&destination).is_ok_and(|found| found.is_dir());
            if is_folder && exchange(staging.path(), &destination) {
                // The old folder lies in the staging folder now, and goes with it.
                return Ok(());
            }
            let aside = tempfile::Builder::new()
                .prefix(&prefix(&destination))
                .tempdir_in(parent)
                .map_err(DataError::io("create a folder in", parent))?;
            let old = aside.path().join("old");
            fs::rename(&destination, &old).map_err(DataError::io("replace", &destination))?;
            if let Err(error) = fs::rename(staging.path(), &destination) {
                fs::rename(&old, &destination).map_err(DataError::io("put back", &destination))?;
                return Err(DataError::io("replace", &destination)(error));
            }
        } else {
            fs::rename(staging.path(), &destination).map_err(DataError::io("create", &destination))?;
        }
        // The staging folder has moved: there is nothing left to remove under its old name.
        let _moved = staging.keep();
        Ok(())
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Before the name of what is not finished yet.
const PARTIAL: &str = ".partial-";

fn prefix(destination: &Path) -> String {
    let name = destination.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{PARTIAL}{name}-")
}

/// The path under which the user knows a file of a folder that is not finished yet.
pub(crate) fn final_path(path: &Path) -> PathBuf {
    let shown = |part: &std::ffi::OsStr| {
        let name = part.to_str()?.strip_prefix(PARTIAL)?.rsplit_once('-')?.0;
        (!name.is_empty()).then(|| name.to_string())
    };
    path.components()
        .map(|c| shown(c.as_os_str()).map_or_else(|| PathBuf::from(c.as_os_str()), PathBuf::from))
        .collect()
}

/// Removes what a killed run left. The caller holds the project's lock, so no living run owns it.
fn remove_stale(parent: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(parent).map_err(DataError::io("read the folder", parent))? {
        let entry = entry.map_err(DataError::io("read the folder", parent))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path()).map_err(DataError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Exchanges two folders, so that at every moment one of them has the name, where the system can do it.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

/// Exchanges two folders, so that at every moment one of them has the name, where the system can do it.
#[cfg(not(target_os = "linux"))]
fn exchange(_one: &Path, _other: &Path) -> bool {
    false
}

/// Flushes every file below `folder` to the disk and lets everybody read it.
fn settle(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        readable_by_all(&path)?;
        if path.is_dir() { settle(&path)? } else { fs::File::open(&path)?.sync_all()? }
    }
    Ok(())
}

/// Temporary files are private to their owner; results are as readable as any other file of the user.
fn readable_by_all(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_folder_that_the_user_knows() {
        let check = |path: &str, expected: &str| assert_eq!(final_path(Path::new(path)), Path::new(expected));
        check("data/.partial-raw-x3Bq7z/pool/manifest.csv", "data/raw/pool/manifest.csv");
        check("/a/.partial-my-set-x3Bq7z", "/a/my-set");
        check("a/partial-b/.partial-x3Bq7z", "a/partial-b/.partial-x3Bq7z");
    }

    #[test]
    fn a_dropped_folder_leaves_the_old_one() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let first = OutputFolder::create(&out).unwrap();
        first.write("a/b.txt", b"old").unwrap();
        first.commit().unwrap();

        let second = OutputFolder::create(&out).unwrap();
        second.write("a/b.txt", b"new").unwrap();
        drop(second);
        assert_eq!(fs::read(out.join("a/b.txt")).unwrap(), b"old");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_committed_folder_replaces_the_old_one_whole() {
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
    fn what_a_killed_run_left_is_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".partial-out-xyz")).unwrap();
        OutputFolder::create(&root.path().join("out")).unwrap().commit().unwrap();
        assert!(!root.path().join(".partial-out-xyz").exists());
    }

    #[test]
    fn files_that_a_killed_run_had_begun_are_removed_and_nothing_else() {
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
    fn a_file_replaces_another_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/x.json");
        write_file(&path, b"1").unwrap();
        write_file(&path, b"22").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"22");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

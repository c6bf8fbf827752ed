//! Finds other programs on the path, but never in the current folder.

use std::path::{Path, PathBuf};

/// Returns the file of a program in the folders of `PATH`. Relative folders are skipped: their
/// content depends on where this program is started, and may come with a cloned project.
pub fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    find_in(std::env::split_paths(&folders), name)
}

fn find_in(folders: impl Iterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_found_in_absolute_folders_only() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("git"), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(folder.join("git"), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let find = |folders: &[&Path]| find_in(folders.iter().map(|folder| folder.to_path_buf()), "git");
        assert_eq!(find(&[&first, &second]), Some(second.join("git")), "the first one cannot be executed");
        // A relative folder that exists.
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = up.join(second.strip_prefix("/").unwrap());
        assert!(relative.join("git").is_file());
        assert_eq!(find(&[&relative, Path::new(""), Path::new(".")]), None);
    }
}

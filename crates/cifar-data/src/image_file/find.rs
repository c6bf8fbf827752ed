//! Finds the files that paths, folders and patterns mean.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use glob::MatchOptions;
use walkdir::WalkDir;

use crate::DataError;
use crate::names::{is_ignored, is_left_by_windows};

/// The characters of a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// A file that should be an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Its path.
    pub path: PathBuf,
    /// Its path relative to the folder that was searched; otherwise its file name.
    pub relative: PathBuf,
}

/// The result of [`find`].
#[derive(Debug, Default)]
pub struct Found {
    /// The files, in the order of the arguments. Those of a folder or pattern are sorted by path.
    pub files: Vec<FoundFile>,
    /// Folders that cannot be read or hold no file, and patterns that match nothing.
    pub problems: Vec<DataError>,
    /// Number of skipped entries: hidden ones, and those left by an operating system.
    pub skipped: usize,
}

/// Finds the files that `arguments` mean: files, folders with everything in them, and patterns with
/// `*`, `?`, `[…]` and `**` if there is no file of that name.
///
/// Hidden files and those that operating systems leave behind (`.DS_Store`, `Thumbs.db`, `@eaDir`)
/// are skipped in folders and patterns, as [`crate::sources`] does. All others are listed, also if
/// they are no images: reading them says so. Links are followed.
///
/// ```
/// use cifar_data::image_file::find;
///
/// # let root = tempfile::tempdir().unwrap();
/// # let folder = root.path();
/// for name in ["b.png", "a.png", "Thumbs.db"] {
///     std::fs::write(folder.join(name), b"").unwrap();
/// }
/// let found = find(&[folder.to_path_buf()]);
/// assert_eq!(found.files.iter().map(|f| f.relative.to_str().unwrap()).collect::<Vec<_>>(), ["a.png", "b.png"]);
/// assert_eq!((found.skipped, found.problems.len()), (1, 0));
/// ```
pub fn find(arguments: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for argument in arguments {
        let before = found.files.len() + found.problems.len();
        let pattern = argument.to_str().filter(|text| text.contains(WILDCARDS));
        // A file may have a name that looks like a pattern.
        match pattern.filter(|_| fs::symlink_metadata(argument).is_err()) {
            Some(pattern) => found.add_matches(argument, pattern),
            None if argument.is_dir() => found.add_folder(argument),
            None => found.add_file(argument),
        }
        if found.files.len() + found.problems.len() == before {
            let problem = if argument.is_dir() { "holds no images" } else { "no file matches this pattern" };
            found.problems.push(DataError::malformed(argument, problem));
        }
    }
    found
}

impl Found {
    fn add_file(&mut self, path: &Path) {
        let relative = path.file_name().map_or_else(|| path.to_path_buf(), PathBuf::from);
        self.files.push(FoundFile { path: path.to_path_buf(), relative });
    }

    /// Adds all files of a folder and of the folders in it.
    fn add_folder(&mut self, folder: &Path) {
        let mut skipped = 0;
        let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
        let walk = walk.filter_entry(|entry| {
            let is_skipped = entry.depth() > 0 && is_junk(entry.path());
            skipped += usize::from(is_skipped);
            !is_skipped
        });
        let mut files = Vec::new();
        for entry in walk {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => files.push(entry.into_path()),
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_path_buf();
                    if error.loop_ancestor().is_some() {
                        let problem = "is a link to a folder that it is in, which would never end";
                        self.problems.push(DataError::malformed(&path, problem));
                    } else if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
                        // Reading it says where the dangling link leads.
                        files.push(path);
                    } else if let Some(source) = error.into_io_error() {
                        self.problems.push(DataError::io("read the folder", &path)(source));
                    }
                }
            }
        }
        self.skipped += skipped;
        for path in files {
            let relative = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
            self.files.push(FoundFile { path, relative });
        }
    }

    /// Adds all files that match a pattern, and those in matching folders.
    fn add_matches(&mut self, argument: &Path, pattern: &str) {
        let options =
            MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
        let matches = match glob::glob_with(pattern, options) {
            Ok(matches) => matches,
            Err(error) => {
                let problem =
                    format!("is no file and not a valid pattern: {} at character {}", error.msg, error.pos + 1);
                return self.problems.push(DataError::malformed(argument, problem));
            }
        };
        let mut of_pattern = Self::default();
        for path in matches {
            match path {
                Ok(path) if has_junk(&path, pattern) => of_pattern.skipped += 1,
                Ok(path) if path.is_dir() => of_pattern.add_folder(&path),
                Ok(path) => of_pattern.add_file(&path),
                Err(error) => {
                    let path = error.path().to_path_buf();
                    of_pattern.problems.push(DataError::io("read the folder", &path)(error.into()));
                }
            }
        }
        // `**` matches a folder and the files in it.
        let mut seen = BTreeSet::new();
        of_pattern.files.sort_by(|a, b| a.path.cmp(&b.path));
        of_pattern.files.retain(|file| seen.insert(file.path.clone()));
        self.files.append(&mut of_pattern.files);
        self.problems.append(&mut of_pattern.problems);
        self.skipped += of_pattern.skipped;
    }
}

/// Returns whether an entry is hidden, or left by an operating system.
fn is_junk(path: &Path) -> bool {
    path.file_name().is_some_and(is_junk_name)
}

/// Returns whether an entry that a pattern matches is in such a folder, or is such a file, that the
/// pattern does not name.
fn has_junk(path: &Path, pattern: &str) -> bool {
    let named: Vec<&OsStr> = Path::new(pattern).iter().collect();
    path.components().any(|part| match part {
        Component::Normal(name) => is_junk_name(name) && !named.contains(&name),
        _ => false,
    })
}

fn is_junk_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    is_ignored(&name) || is_left_by_windows(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        root
    }

    /// Returns the files as paths under `root`, the problems, and the number of skipped entries.
    fn found(root: &Path, arguments: &[&str]) -> (Vec<String>, Vec<String>, usize) {
        let found = find(&arguments.iter().map(|argument| root.join(argument)).collect::<Vec<_>>());
        let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
        let problems = found.problems.iter().map(|p| p.to_string().replace(&format!("{}/", root.display()), ""));
        (found.files.iter().map(|f| name(&f.path)).collect(), problems.collect(), found.skipped)
    }

    const JUNK: [&str; 6] =
        ["d/.DS_Store", "d/._a.png", "d/Thumbs.db", "d/s/desktop.ini", "d/@eaDir/a.png", "d/.git/x"];

    #[test]
    fn folders_are_walked_in_sorted_order_without_junk() {
        let root =
            tree(&[&["d/s/b.png", "d/s/a.txt", "d/s.png", "d/10.png", "d/9.png", "one.png"], &JUNK[..]].concat());
        let (files, problems, skipped) = found(root.path(), &["one.png", "d", "absent.png"]);
        assert_eq!(files, ["one.png", "d/10.png", "d/9.png", "d/s/a.txt", "d/s/b.png", "d/s.png", "absent.png"]);
        assert_eq!((problems.len(), skipped), (0, JUNK.len()));
        // What is named explicitly is never skipped.
        assert_eq!(found(root.path(), &["d/Thumbs.db", "d/@eaDir"]).0, ["d/Thumbs.db", "d/@eaDir/a.png"]);
    }

    #[test]
    fn patterns_match_files_once() {
        let root = tree(&[&["d/s/b.png", "d/a.png", "d/c.jpg", "x[1].png"], &JUNK[..]].concat());
        let check = |pattern: &str, expected: &[&str]| {
            let (files, problems, _) = found(root.path(), &[pattern]);
            assert_eq!(files, expected, "{pattern}: {problems:?}");
        };
        check("d/*.png", &["d/a.png"]);
        check("d/**/*.png", &["d/a.png", "d/s/b.png"]);
        check("d/**/*", &["d/a.png", "d/c.jpg", "d/s/b.png"]);
        check("d/@eaDir/*.png", &["d/@eaDir/a.png"]);
        check("d/?.[jp]*g", &["d/a.png", "d/c.jpg"]);
        check("x[1].png", &["x[1].png"]);
        assert_eq!(found(root.path(), &["d/*.gif"]).1, ["d/*.gif: no file matches this pattern"]);
        assert_eq!(
            found(root.path(), &["d/a***.png"]).1[0].split(" at character").next().unwrap(),
            "d/a***.png: is no file and not a valid pattern: wildcards are either regular `*` or recursive `**`"
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_circles_named() {
        let root = tree(&["d/a.png", "elsewhere/b.png", "junk/.hidden"]);
        for (link, target) in [("d/to_folder", "../elsewhere"), ("d/circle", "../d"), ("d/dangling.png", "nothing")] {
            std::os::unix::fs::symlink(target, root.path().join(link)).unwrap();
        }
        let (files, problems, _) = found(root.path(), &["d", "junk"]);
        assert_eq!(files, ["d/a.png", "d/dangling.png", "d/to_folder/b.png"]);
        let expected =
            ["d/circle: is a link to a folder that it is in, which would never end", "junk: holds no images"];
        assert_eq!(problems, expected);
    }
}

//! Lists the files of all class folders, and what is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::names::{self, is_ignored, is_left_by_windows, normal, shown};
use crate::sources::files::{Entry, Skipped};
use crate::sources::layout;
use crate::{DataError, Published, Result, input};

/// The result of [`list`].
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Sorted names of the classes, in Unicode's form NFC.
    pub(super) classes: Vec<String>,
    /// Files by class folder, training images first, each list sorted.
    pub(super) files: Vec<Vec<Entry>>,
    /// Entries that cannot be images, in or instead of class folders. They have no ids.
    pub(super) no_images: Vec<Skipped>,
    /// Entries outside class folders: files, and folders with their numbers of files.
    pub(super) left_out: Vec<(String, usize)>,
    /// The folders of validation images among them.
    pub(super) validation: Vec<String>,
    /// Number of entries that were ignored: hidden ones, and those that operating systems leave.
    pub(super) ignored: usize,
    /// The class folders of `files`, relative to the source folder.
    folders: Vec<String>,
    /// Entries that the listing alone shows to be unusable, with or without an id.
    unusable: Vec<Skipped>,
}

/// Lists the class folders of `folder`.
///
/// # Errors
/// If there are none, training and test images have different classes, or a class has no file. If
/// an entry of a class folder cannot be an image and `skip_broken` is false.
pub(super) fn list(folder: &Path, skip_broken: bool) -> Result<Listing> {
    let mut parts = layout::parts(folder)?;
    // Without published test images, published validation images are like training images.
    let like_training =
        if parts.test.is_none() && parts.train.is_some() { std::mem::take(&mut parts.val) } else { Vec::new() };
    let roots = match (&parts.train, &parts.test) {
        (Some(train), Some(test)) => vec![(train, Published::Train), (test, Published::Test)],
        (None, None) => Vec::new(),
        (Some(train), None) if !like_training.is_empty() => {
            std::iter::once(train).chain(&like_training).map(|name| (name, Published::Train)).collect()
        }
        (Some(there), None) | (None, Some(there)) => {
            let missing = if parts.train.is_some() { "test/ or val/" } else { "train/" };
            let problem = format!("has {there}/ but no {missing}; expected both, or class folders alone");
            return Err(DataError::malformed(folder, problem));
        }
    };
    let mut listing = Listing::default();
    if roots.is_empty() {
        listing.add_classes(folder, "", Published::None)?;
    } else {
        listing.leave_out_beside(folder, &roots)?;
        listing.validation.clone_from(&parts.val);
    }
    for (name, published) in roots {
        listing.add_classes(folder, &format!("{name}/"), published)?;
    }
    if let (Some(first), false) = (listing.unusable.first(), skip_broken) {
        return Err(DataError::unusable(&folder.join(&first.file), &first.problem, listing.unusable.len() - 1));
    }
    if let Some(empty) = listing.files.iter().position(Vec::is_empty) {
        let path = folder.join(&listing.folders[empty]);
        return Err(DataError::malformed(&path, "holds no images; every class folder must hold some"));
    }
    Ok(listing)
}

/// An entry of a folder.
struct Named {
    name: String,
    /// Its type, following links, or why that is unknown.
    kind: Result<fs::FileType, String>,
}

impl Named {
    fn is_dir(&self) -> bool {
        self.kind.as_ref().is_ok_and(fs::FileType::is_dir)
    }
}

impl Listing {
    /// Adds the class folders of `folder`/`prefix`.
    fn add_classes(&mut self, folder: &Path, prefix: &str, published: Published) -> Result<()> {
        let root = if prefix.is_empty() { folder.to_path_buf() } else { folder.join(prefix.trim_end_matches('/')) };
        let (folders, others): (Vec<Named>, Vec<Named>) =
            entries(&root, &mut self.ignored)?.into_iter().partition(Named::is_dir);
        for Named { name, kind } in others {
            let file = format!("{prefix}{name}");
            match kind {
                // It could be a class folder.
                Err(problem) => self.set_aside(file, problem),
                Ok(_) if is_left_by_windows(&name) => self.ignored += 1,
                Ok(_) if is_text(&name) => {}
                Ok(_) => self.left_out.push((file, 1)),
            }
        }
        if folders.is_empty() {
            // A dangling link explains more.
            return match self.unusable.first() {
                Some(first) => Err(DataError::malformed(&folder.join(&first.file), first.problem.clone())),
                None => Err(DataError::Empty { path: root }),
            };
        }
        if folders.len() > usize::from(u16::MAX) {
            let problem = format!("has {} class folders, allowed are {}", folders.len(), u16::MAX);
            return Err(DataError::malformed(&root, problem));
        }
        let mut classes: Vec<(String, String)> =
            folders.into_iter().map(|named| (normal(&named.name).into_owned(), named.name)).collect();
        classes.sort_unstable();
        let (names, found): (Vec<String>, Vec<String>) = classes.iter().cloned().unzip();
        names::check_classes(&found).map_err(|problem| DataError::malformed(&root, problem))?;
        if !self.classes.is_empty() {
            self.check_same(&root, &names)?;
        }
        for (label, (_, name)) in (0..).zip(&classes) {
            self.add_class(folder, &format!("{prefix}{name}"), label, published)?;
        }
        self.classes = names;
        Ok(())
    }

    /// Checks that all parts have the same classes as the training images.
    fn check_same(&self, root: &Path, names: &[String]) -> Result<()> {
        let wrong = |problem: String| Err(DataError::malformed(root, problem));
        if let Some(class) = self.classes.iter().find(|class| !names.contains(class)) {
            return wrong(format!("has no class folder {class:?}, which train/ has; both must have the same classes"));
        }
        if let Some(class) = names.iter().find(|class| !self.classes.contains(class)) {
            return wrong(format!(
                "has a class folder {class:?}, which train/ does not have; both must have the same classes"
            ));
        }
        Ok(())
    }

    /// Adds the files of one class folder.
    fn add_class(&mut self, folder: &Path, class: &str, label: u16, published: Published) -> Result<()> {
        let root = folder.join(class);
        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        for Named { name, kind } in entries(&root, &mut self.ignored)? {
            let file = format!("{class}/{name}");
            if is_left_by_windows(&name) {
                self.ignored += 1;
                // Never an error, but part of the list of skipped entries.
                self.no_images.push(Skipped { file, problem: "is not an image; Windows creates it".into() });
                continue;
            }
            let problem = match &kind {
                Err(problem) => Some(problem.clone()),
                Ok(kind) if kind.is_dir() => Some("is a folder; class folders hold images only".into()),
                Ok(kind) => input::not_regular(*kind).or_else(|| names::problem(&name)).map(String::from),
            };
            let problem = problem.or_else(|| {
                let same = !name.is_ascii() && !seen.insert(normal(&name).into_owned());
                same.then(|| "has the name of another file in another form of Unicode; rename one of them".into())
            });
            let is_dir = kind.is_ok_and(|kind| kind.is_dir());
            if !is_dir && has_image_extension(&name) {
                if let Some(problem) = problem {
                    self.unusable.push(Skipped { file: file.clone(), problem });
                }
                files.push(Entry { file, label, published });
            } else if let Some(problem) = problem.or_else(|| no_image(&root.join(&name))) {
                self.set_aside(file, problem);
            } else {
                files.push(Entry { file, label, published });
            }
        }
        self.files.push(files);
        self.folders.push(class.to_string());
        Ok(())
    }

    fn set_aside(&mut self, file: String, problem: String) {
        self.unusable.push(Skipped { file: file.clone(), problem: problem.clone() });
        self.no_images.push(Skipped { file, problem });
    }

    /// Counts the entries beside the folders of training and test images.
    fn leave_out_beside(&mut self, folder: &Path, roots: &[(&String, Published)]) -> Result<()> {
        for named in entries(folder, &mut self.ignored)? {
            let name = &named.name;
            if roots.iter().any(|(root, _)| *root == name) || name == super::INDEX {
                continue;
            }
            if is_left_by_windows(name) {
                self.ignored += 1;
                continue;
            }
            if named.is_dir() {
                let count = count_files(&folder.join(name), DEEPEST)?;
                self.left_out.extend((count > 0).then(|| (format!("{name}/"), count)));
            } else if !is_text(name) {
                self.left_out.push((name.clone(), 1));
            }
        }
        Ok(())
    }

    /// Returns the warning about entries outside class folders, if there are any.
    pub(super) fn warning(&self, folder: &Path) -> Option<String> {
        /// Number of entries that the warning names.
        const NAMED: usize = 5;
        let files: usize = self.left_out.iter().map(|(_, count)| count).sum();
        if files == 0 {
            return None;
        }
        let name = |(name, count): &(String, usize)| {
            if name.ends_with('/') { format!("{name} ({count})") } else { name.clone() }
        };
        let mut named: Vec<String> = self.left_out.iter().take(NAMED).map(name).collect();
        if self.left_out.len() > NAMED {
            named.push("…".into());
        }
        let plural = if files == 1 { " that is" } else { "s that are" };
        let advice = if self.validation.is_empty() {
            String::new()
        } else {
            let folders = self.validation.join("/ and ");
            format!(
                "; validation images are drawn from the training images: move those of {folders}/ there to use them"
            )
        };
        let (folder, named) = (shown(folder), named.join(", "));
        Some(format!("{folder}: left out {files} file{plural} in no class folder: {named}{advice}"))
    }
}

/// Depth to which folders are searched to count files.
const DEEPEST: usize = 8;

/// Returns the number of files in a folder and its subfolders; links to folders count as one.
fn count_files(folder: &Path, depth: usize) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let entry = entry.map_err(DataError::io("read the folder", folder))?;
        if is_ignored(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let is_dir = entry.file_type().map_err(DataError::io("read", &entry.path()))?.is_dir();
        count += if is_dir && depth > 0 { count_files(&entry.path(), depth - 1)? } else { 1 };
    }
    Ok(count)
}

/// Returns the entries of `folder`, sorted by name, without those to ignore, which are added to
/// `ignored`.
fn entries(folder: &Path, ignored: &mut usize) -> Result<Vec<Named>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let entry = entry.map_err(DataError::io("read the folder", folder))?;
        let (name, text) = match entry.file_name().into_string() {
            Ok(name) => (name, true),
            Err(name) => (name.to_string_lossy().into_owned(), false),
        };
        if is_ignored(&name) {
            *ignored += 1;
            continue;
        }
        let kind = entry.file_type().map_err(DataError::io("read", &entry.path()))?;
        let kind = if !text {
            Err("has a name that is not UTF-8; rename it".into())
        } else if kind.is_symlink() {
            input::metadata(&entry.path()).map(|found| found.file_type()).map_err(|e| e.problem())
        } else {
            Ok(kind)
        };
        entries.push(Named { name, kind });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Returns why a file without an image extension is not an image; `None` if it is one.
fn no_image(path: &Path) -> Option<String> {
    let head = match input::head(path) {
        Ok(head) if input::is_image(&head) => return None,
        Ok(head) => head,
        Err(e) => return Some(e.problem()),
    };
    let kind = input::kind(&head).map(|kind| format!(" but {kind}")).unwrap_or_default();
    Some(format!("is not an image{kind}; class folders hold image files only"))
}

fn has_image_extension(name: &str) -> bool {
    matches!(extension(name).as_str(), "jpg" | "jpeg" | "png" | "webp" | "bmp" | "gif" | "tif" | "tiff")
}

fn extension(name: &str) -> String {
    Path::new(name).extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Returns whether a file is documentation or metadata of a data set.
fn is_text(name: &str) -> bool {
    const TEXTS: [&str; 11] = ["md", "txt", "rst", "html", "htm", "csv", "json", "jsonl", "yaml", "yml", "pdf"];
    let name = name.to_lowercase();
    TEXTS.contains(&extension(&name).as_str()) || name.starts_with("readme") || name.starts_with("license")
}

//! Refuses links in a project: a cloned repository can contain them, and a write through one would
//! end up outside of the project.

use std::io;
use std::path::{Path, PathBuf};

use crate::layout::Layout;
use crate::{Context as _, Result, bail};

/// Prefix of unfinished files and folders.
const PARTIAL: &str = ".partial-";
/// Depth of a stage's files in folders; DVC may link them to its cache.
const DEPTH_OF_STAGES: usize = 2;
/// The same for files of a grid's runs, counted from the project's `experiments`.
const DEPTH_OF_RUNS: usize = 4;

/// Refuses links in the folders that the program writes to.
///
/// In `.cifar` every link is refused. Elsewhere links to folders, dangling links and unfinished
/// files that are links are refused. Other links to files are allowed: DVC makes them with some
/// settings of its cache, and the program only reads these files or replaces them atomically.
///
/// # Errors
/// If there is a refused link, with its name and target, or a folder cannot be read.
pub fn refuse_links(layout: &Layout) -> Result<()> {
    for state in [layout.state(), layout.lasting_state()] {
        walk(&state, 0, &|_, _, _| false)?;
    }
    for output in layout.written() {
        walk(&output, 0, &|path, depth, target| {
            let is_partial = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL));
            match target {
                Target::Folder => false,
                Target::Nothing => depth > DEPTH_OF_STAGES,
                Target::File => !is_partial && depth > 0,
            }
        })?;
    }
    // A run's log is appended to in place.
    walk(&layout.experiments(), 0, &|_, depth, target| {
        depth > DEPTH_OF_RUNS && !matches!(target, Target::Folder) || depth == 1 && matches!(target, Target::File)
    })
}

/// Refuses links between the project's folder and `path`, if `path` is inside the folder.
///
/// # Errors
/// As [`refuse_links`].
pub fn refuse_links_to(layout: &Layout, path: &Path) -> Result<()> {
    let root = std::path::absolute(layout.join("."))?;
    let path = std::path::absolute(path)?;
    let Ok(inside) = path.strip_prefix(&root) else { return Ok(()) };
    let mut at = root.clone();
    for part in inside.components() {
        at.push(part);
        if at.is_symlink() {
            return refuse(&at);
        }
    }
    Ok(())
}

/// The target of a link.
#[derive(Debug, Clone, Copy)]
enum Target {
    File,
    Folder,
    Nothing,
}

/// Checks `path` and everything under it. `allows` decides about each link, given its depth under
/// the first path.
fn walk(path: &Path, depth: usize, allows: &dyn Fn(&Path, usize, Target) -> bool) -> Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("{}: cannot read", path.display())),
    };
    if found.is_symlink() {
        let target = match std::fs::metadata(path) {
            Ok(target) if target.is_dir() => Target::Folder,
            Ok(_) => Target::File,
            Err(_) => Target::Nothing,
        };
        return if allows(path, depth, target) { Ok(()) } else { refuse(path) };
    }
    if !found.is_dir() {
        return Ok(());
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        // Another process has removed it in the meantime.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("{}: cannot read the folder", path.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("{}: cannot read the folder", path.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_symlink() || kind.is_dir()) {
            walk(&entry.path(), depth + 1, allows)?;
        }
    }
    Ok(())
}

fn refuse(link: &Path) -> Result<()> {
    let target = std::fs::read_link(link).unwrap_or_else(|_| PathBuf::from("an unknown place"));
    bail!(
        "{}: is a link to {}; this program does not write through links; remove the link, or replace it with a folder",
        link.display(),
        target.display()
    );
}

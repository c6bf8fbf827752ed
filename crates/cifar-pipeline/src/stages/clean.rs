//! `clean`: removes the results of the stages, checkpoints and searches.

use std::fmt;
use std::path::PathBuf;

use cifar_data::output::remove;
use cifar_train::remove_checkpoints;
use cifar_train::tune::remove_searches;
use serde::Serialize;

use crate::{Project, Reporter, Result};

/// What `clean` removed.
#[derive(Debug, Serialize)]
pub struct Cleaned {
    /// The folders.
    pub removed: Vec<PathBuf>,
}

/// Removes the folders of results, checkpoints and searches that no process uses.
///
/// # Errors
/// If a folder cannot be removed.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<Cleaned> {
    let mut removed = Vec::new();
    let layout = &project.layout;
    for folder in layout.outputs().into_iter().chain([
        layout.checkpoints(),
        layout.searches(),
        layout.near_duplicates(),
        layout.study(),
        layout.study_state(),
    ]) {
        // A queued run in a copy of the project may be using the lasting state.
        let in_use = if folder == layout.checkpoints() {
            remove_checkpoints(&folder, false)
        } else if folder == layout.searches() {
            remove_searches(&folder)
        } else {
            Vec::new()
        };
        if !in_use.is_empty() {
            for folder in in_use {
                reporter.warn(&format!("{}: kept, since another process uses it", folder.display()));
            }
            continue;
        }
        if folder.exists() {
            remove(&folder)?;
            removed.push(folder);
        }
    }
    Ok(Cleaned { removed })
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<String> = self.removed.iter().map(|folder| folder.display().to_string()).collect();
        if names.is_empty() { f.write_str("nothing to remove") } else { write!(f, "removed {}", names.join(", ")) }
    }
}

//! `labels migrate`: keeps corrections and reviews with their images when ids change.

use std::fmt;
use std::path::PathBuf;

use cifar_data::ImageIndex;
use cifar_data::labels::{Migration, count_misplaced, migrate, read_overrides, read_review};
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::{Project, Reporter, Result};

/// Maximum number of lines that are listed one by one.
const LISTED: usize = 20;

/// The files to migrate.
#[derive(Debug, Clone, Default)]
pub struct MigrateOptions {
    /// The files; both of `labels/` if empty.
    pub files: Vec<PathBuf>,
    /// Whether to leave out lines about missing images instead of stopping.
    pub drop_missing: bool,
}

/// The outcome for the lines of each file.
#[derive(Debug)]
pub struct Migrated(Vec<(PathBuf, Migration)>);

/// Moves the lines of each file to the current ids of their images.
///
/// # Errors
/// If a file or the partitions cannot be read, or an image is missing.
pub fn run(project: &Project, options: &MigrateOptions, reporter: &dyn Reporter) -> Result<Migrated> {
    let images = ImageIndex::read(&project.layout.partitions())?;
    let mut files = options.files.clone();
    if files.is_empty() {
        files = vec![project.layout.overrides(), project.layout.review()];
    }
    let mut results = Vec::new();
    for path in files {
        let migration = migrate(&path, &images, options.drop_missing)?;
        for moved in migration.moved.iter().filter(|moved| !moved.copies.is_empty()) {
            let copies: Vec<String> = moved.copies.iter().map(ToString::to_string).collect();
            reporter.warn(&format!(
                "{}, line {}: now about image {}, but it could be about its exact duplicates {} as well; check it",
                path.display(),
                moved.line,
                moved.to,
                copies.join(", ")
            ));
        }
        results.push((path, migration));
    }
    Ok(Migrated(results))
}

impl Serialize for Migrated {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(path, migration)| as_json(path, migration)))
    }
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|(path, migration)| in_words(path, migration)).collect();
        f.write_str(&words.join("\n"))
    }
}

fn as_json(path: &std::path::Path, migration: &Migration) -> Value {
    let Migration { lines, moved, adopted, dropped, changed } = migration;
    json!({
        "file": path.display().to_string(),
        "lines": lines,
        "changed": changed,
        "moved": moved.iter().map(|m| json!({ "line": m.line, "from": m.from, "to": m.to, "file": m.file, "exact_duplicates": m.copies })).collect::<Vec<_>>(),
        "content_added": adopted.iter().map(|a| json!({ "line": a.line, "id": a.id, "file": a.file })).collect::<Vec<_>>(),
        "dropped": dropped.iter().map(|g| json!({ "line": g.line, "id": g.id, "image": g.image })).collect::<Vec<_>>(),
    })
}

fn in_words(path: &std::path::Path, migration: &Migration) -> String {
    let Migration { lines, moved, adopted, dropped, changed } = migration;
    let path = path.display();
    if !changed {
        return format!("{path}: {lines} lines, nothing to change");
    }
    let mut words = vec![format!(
        "{path}: {lines} lines, {} moved, {} got their content, {} left out",
        moved.len(),
        adopted.len(),
        dropped.len()
    )];
    words.extend(listed(moved.iter().map(|m| format!("image {} → {} ({})", m.from, m.to, m.file))));
    words.extend(listed(
        adopted.iter().map(|a| format!("image {} is {}; check that it is the one you mean", a.id, a.file)),
    ));
    words.extend(listed(dropped.iter().map(|g| format!("image {} is gone: {}", g.id, g.image))));
    words.join("\n")
}

/// Returns the first lines, and how many more there are.
fn listed(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LISTED);
    let mut shown: Vec<String> = lines.take(LISTED).map(|line| format!("  {line}")).collect();
    if more > 0 {
        shown.push(format!("  and {more} more"));
    }
    shown
}

/// Warns if lines of `labels/` are about images whose id among `images` has changed, or that are
/// not there. `prepare` reports files that cannot be read.
pub(super) fn warn_of_misplaced(project: &Project, images: &ImageIndex, classes: &[String], reporter: &dyn Reporter) {
    let layout = &project.layout;
    let overrides = read_overrides(&layout.overrides(), classes).map_or(0, |lines| count_misplaced(&lines, images));
    let review = read_review(&layout.review(), classes).map_or(0, |lines| count_misplaced(&lines, images));
    let lines = overrides + review;
    if lines > 0 {
        reporter.warn(&format!(
            "labels/: lines about images whose id has changed or that are missing: {lines}; run `cifar-cli labels migrate`"
        ));
    }
}

//! `labels migrate`: keeps what people wrote about images with their images.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cifar_data::labels::{Migration, count_misplaced, migrate, read_overrides, read_review};
use cifar_data::{ImageIndex, Progress as _};
use serde_json::{Value, json};

use super::Context;
use crate::args::{LabelsArgs, LabelsCommand, MigrateArgs};

/// So many lines are listed one by one.
const LISTED: usize = 20;

pub(super) fn run(context: &Context, args: &LabelsArgs) -> Result<()> {
    let LabelsCommand::Migrate(args) = &args.command;
    let images = ImageIndex::read(&context.layout.partitions())?;
    let files = files(context, args);
    let mut results = Vec::new();
    for path in &files {
        let migration = migrate(path, &images, args.drop_missing)?;
        for moved in migration.moved.iter().filter(|moved| !moved.copies.is_empty()) {
            let copies: Vec<String> = moved.copies.iter().map(ToString::to_string).collect();
            context.terminal.warn(&format!(
                "{}, line {}: now about image {}, but it could be about its exact duplicates {} as well; check it",
                path.display(),
                moved.line,
                moved.to,
                copies.join(", ")
            ));
        }
        results.push((path, migration));
    }
    let json: Vec<Value> = results.iter().map(|(path, migration)| as_json(path, migration)).collect();
    context.terminal.result(&json, || {
        let words: Vec<String> = results.iter().map(|(path, migration)| in_words(path, migration)).collect();
        words.join("\n")
    });
    Ok(())
}

/// Those that were named, or both of labels/.
fn files(context: &Context, args: &MigrateArgs) -> Vec<PathBuf> {
    if args.files.is_empty() { vec![context.layout.overrides(), context.layout.review()] } else { args.files.clone() }
}

fn as_json(path: &Path, migration: &Migration) -> Value {
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

fn in_words(path: &Path, migration: &Migration) -> String {
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

/// The first lines, and how many more there are.
fn listed(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LISTED);
    let mut shown: Vec<String> = lines.take(LISTED).map(|line| format!("  {line}")).collect();
    if more > 0 {
        shown.push(format!("  and {more} more"));
    }
    shown
}

/// Says so if lines of labels/ are about images that have another id, or none, among `images`. What cannot be read is for
/// `prepare` to complain about.
pub(super) fn hint(context: &Context, images: &ImageIndex, classes: &[String]) {
    let layout = &context.layout;
    let overrides = read_overrides(&layout.overrides(), classes).map_or(0, |lines| count_misplaced(&lines, images));
    let review = read_review(&layout.review(), classes).map_or(0, |lines| count_misplaced(&lines, images));
    let lines = overrides + review;
    if lines > 0 {
        context.terminal.warn(&format!(
            "labels/: lines about images that have another id now, or none: {lines}; `cifar-cli labels migrate` moves them along"
        ));
    }
}

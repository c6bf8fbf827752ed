//! `index.csv`, which gives every file its id.

use std::collections::HashMap;
use std::path::Path;

use crate::csv_table::CsvTable;
use crate::names::normal;
use crate::sources::files::Entry;
use crate::{DataError, Result};

/// Returns the files in the order of `index`, which must list each of them once, with the ids 0, 1,
/// 2, ….
///
/// # Errors
/// If it does not: names the line and the cause.
pub(super) fn in_order(index: &Path, folder: &Path, found: Vec<Vec<Entry>>) -> Result<Vec<Entry>> {
    let table = CsvTable::read(index)?;
    table.expect_columns(&["id", "file"])?;
    let mut unlisted: HashMap<String, Entry> =
        found.into_iter().flatten().map(|e| (normal(&e.file).into_owned(), e)).collect();
    let count = unlisted.len();
    let mut listed: HashMap<String, u64> = HashMap::new();
    let mut ordered: Vec<Option<(Entry, u64)>> = vec![None; count];
    for row in table.rows() {
        let wrong = |problem: String| table.wrong(row, problem);
        let [id, file] = &row.fields[..] else { continue };
        let number: usize = id.parse().map_err(|_| wrong(format!("id {id:?} is not a number")))?;
        let key = key(file);
        let Some(entry) = unlisted.remove(&key) else {
            return Err(wrong(match listed.get(&key) {
                Some(line) => format!("the file {file:?} is listed twice, first on line {line}"),
                None if folder.join(&key).exists() => format!("the file {file:?} is not an image in a class folder"),
                None => format!("the file {file:?} does not exist"),
            }));
        };
        listed.insert(key, row.line);
        let Some(place) = ordered.get_mut(number) else {
            let last = count.saturating_sub(1);
            return Err(wrong(format!("id {number} is too high; the {count} files have the ids 0 to {last}")));
        };
        if let Some((_, line)) = place.replace((entry, row.line)) {
            return Err(wrong(format!("id {number} is given twice, first on line {line}")));
        }
    }
    let skipped = ordered.iter().position(Option::is_none);
    let more = unlisted.len().saturating_sub(1);
    match (skipped, unlisted.into_keys().min()) {
        (Some(id), Some(file)) => {
            let others = if more > 0 { format!(" and {more} others") } else { String::new() };
            let rule = format!("every file needs an id, 0 to {}", count - 1);
            Err(DataError::malformed(index, format!("skips id {id} and does not list {file}{others}; {rule}")))
        }
        _ => Ok(ordered.into_iter().flatten().map(|(entry, _)| entry).collect()),
    }
}

/// Returns a path in the form of the listed files: `find` writes a leading `./`, Windows has `\`
/// between the parts.
fn key(file: &str) -> String {
    let file = file.replace('\\', "/");
    let parts: Vec<&str> = file.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    normal(&parts.join("/")).into_owned()
}

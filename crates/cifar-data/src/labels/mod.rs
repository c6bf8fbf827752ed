//! Files in which people correct labels: `labels/overrides.csv` with the columns
//! `id,content,file,label`, and `labels/review.csv` with the columns
//! `id,content,file,decision,label,note`. A new project has only their headers.
//!
//! `content` (see [`Content`]) says which image a line is about, since an id may later mean another
//! image; `file` is for people. Both columns are optional: a line without content applies to the
//! image with its id. [`check`] refuses a line whose image now has another content, and
//! [`migrate()`] updates the ids of such lines. Other columns, and rows without text, are ignored.

mod migrate;

use std::collections::BTreeMap;
use std::path::Path;

use crate::csv_table::{CsvRow, CsvTable};
use crate::spreadsheet::plain;
use crate::{Content, DataError, ImageIndex, Progress, Result, SampleId};

pub use migrate::{Adopted, Gone, Migration, Moved, migrate};

/// A line about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// Its line number in the file, counted from 1 with the header.
    pub line: u64,
    /// The content of the image, if the line has it.
    pub content: Option<Content>,
    /// The image's file when the line was written; may be empty.
    pub file: String,
    /// What the line says about the image.
    pub says: T,
}

/// Lines by image.
pub type Entries<T> = BTreeMap<SampleId, Entry<T>>;

/// Reads the overrides: the new label (an index into `classes`) of each image.
///
/// ```
/// use cifar_data::SampleId;
/// use cifar_data::labels::read_overrides;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("overrides.csv");
/// std::fs::write(&path, "id,label\n7,dog\n").unwrap();
/// let overrides = read_overrides(&path, &["cat".into(), "dog".into()])?;
/// assert_eq!(overrides[&SampleId(7)].says, 1);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If the file cannot be read or lacks a column, an id is not a number or appears twice, a class is
/// unknown, or a content is not a hash.
pub fn read_overrides(path: &Path, classes: &[String]) -> Result<Entries<u16>> {
    let file = LabelFile::read(path, "id,label")?;
    let label = file.column("label")?;
    file.entries(|row| file.class(row, label, classes).map(Some))
}

/// A reviewer's decision about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// `accept`: the image gets the suggested label, which is in the column `label`.
    Accept(u16),
    /// `relabel`: the image gets another label, which is also in the column `label`.
    Relabel(u16),
    /// `drop`: the image is left out of training and validation.
    Drop,
    /// `dismiss`: the label is right, and the image is not flagged again.
    Dismiss,
}

impl Decision {
    /// Returns the name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept(_) => "accept",
            Self::Relabel(_) => "relabel",
            Self::Drop => "drop",
            Self::Dismiss => "dismiss",
        }
    }

    /// Returns the new label of the image, if it gets one.
    pub fn label(self) -> Option<u16> {
        match self {
            Self::Accept(label) | Self::Relabel(label) => Some(label),
            Self::Drop | Self::Dismiss => None,
        }
    }
}

/// A line of `labels/review.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The decision.
    pub decision: Decision,
    /// A note for people; may be empty.
    pub note: String,
}

/// The columns that a file of decisions needs.
const REVIEW_COLUMNS: &str = "id,decision,label,note";

/// Reads the decisions, by image. Skips lines without a decision: the file may be a partly filled
/// table of candidates.
///
/// ```
/// use cifar_data::SampleId;
/// use cifar_data::labels::{Decision, read_review};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("review.csv");
/// std::fs::write(&path, "id,decision,label,note\n7,drop,,blurred\n").unwrap();
/// let review = read_review(&path, &["cat".into(), "dog".into()])?;
/// assert_eq!(review[&SampleId(7)].says.decision, Decision::Drop);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If the file cannot be read or lacks a column, an id is not a number or appears twice, a decision
/// or class is unknown, or a content is not a hash.
pub fn read_review(path: &Path, classes: &[String]) -> Result<Entries<Review>> {
    review_of(&LabelFile::read(path, REVIEW_COLUMNS)?, classes)
}

/// Reads the decisions of a file that is in memory; `path` is for messages.
///
/// # Errors
/// As [`read_review`].
pub fn parse_review(bytes: &[u8], path: &Path, classes: &[String]) -> Result<Entries<Review>> {
    review_of(&LabelFile { table: CsvTable::parse(bytes, path)?, expected: REVIEW_COLUMNS }, classes)
}

fn review_of(file: &LabelFile, classes: &[String]) -> Result<Entries<Review>> {
    let (decision, label) = (file.column("decision")?, file.column("label")?);
    let note = file.table.column("note");
    file.entries(|row| {
        let class = || file.class(row, label, classes);
        let decision = match row.fields[decision].as_str() {
            "" => return Ok(None),
            "accept" => Decision::Accept(class()?),
            "relabel" => Decision::Relabel(class()?),
            "drop" => Decision::Drop,
            "dismiss" => Decision::Dismiss,
            other => {
                let problem =
                    format!("unknown decision {other:?}; allowed are accept, relabel, drop, dismiss, or nothing");
                return Err(file.table.wrong(row, problem));
            }
        };
        let note = note.map(|note| plain(&row.fields[note]).to_string()).unwrap_or_default();
        Ok(Some(Review { decision, note }))
    })
}

/// A file with one line per image.
struct LabelFile<'a> {
    table: CsvTable,
    expected: &'a str,
}

impl<'a> LabelFile<'a> {
    fn read(path: &Path, expected: &'a str) -> Result<Self> {
        Ok(Self { table: CsvTable::read(path)?, expected })
    }

    fn column(&self, name: &str) -> Result<usize> {
        self.table.column(name).ok_or_else(|| self.table.wrong_columns(self.expected))
    }

    fn class(&self, row: &CsvRow, column: usize, classes: &[String]) -> Result<u16> {
        let name = plain(&row.fields[column]);
        let label = classes.iter().position(|c| c == name);
        let problem = || format!("unknown class {name:?}; the classes are {}", classes.join(", "));
        label.map(|label| label as u16).ok_or_else(|| self.table.wrong(row, problem()))
    }

    /// Returns the lines for which `says` returns a value.
    fn entries<T>(&self, says: impl Fn(&CsvRow) -> Result<Option<T>>) -> Result<Entries<T>> {
        let id = self.column("id")?;
        let (content, file) = (self.table.column("content"), self.table.column("file"));
        let mut entries = Entries::new();
        for row in self.table.rows() {
            let wrong = |problem: String| self.table.wrong(row, problem);
            let Some(says) = says(row)? else { continue };
            let id = id_of(&row.fields[id]).map_err(wrong)?;
            let content = content.map_or(Ok(None), |at| content_of(&row.fields[at])).map_err(wrong)?;
            let file = file.map(|at| plain(&row.fields[at]).to_string()).unwrap_or_default();
            if let Some(other) = entries.insert(id, Entry { line: row.line, content, file, says }) {
                return Err(wrong(format!("id {id} appears twice, first on line {}", other.line)));
            }
        }
        Ok(entries)
    }
}

fn id_of(text: &str) -> Result<SampleId, String> {
    text.parse().map(SampleId).map_err(|_| format!("id {text:?} is not a number"))
}

fn content_of(text: &str) -> Result<Option<Content>, String> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// Checks that every line is about the image that has its id now. Warns once if there are lines
/// without content.
///
/// # Errors
/// Names the first line whose id is unknown, or whose image has another content than the line says.
pub fn check<T>(path: &Path, entries: &Entries<T>, images: &ImageIndex, progress: &dyn Progress) -> Result<()> {
    let mut wrong: Vec<(u64, String, bool)> =
        entries.iter().filter_map(|(id, entry)| misplaced(*id, entry, images)).collect();
    wrong.sort();
    let others = match wrong.len() {
        0 | 1 => String::new(),
        2 => " (and one more line like it)".into(),
        n => format!(" (and {} more lines like it)", n - 1),
    };
    if let Some((line, problem, has_content)) = wrong.into_iter().next() {
        let problem = problem + &others;
        // Without a content, nothing says which image was meant.
        return Err(if has_content {
            DataError::Misplaced { path: path.to_path_buf(), line, problem }
        } else {
            DataError::line(path, line, problem)
        });
    }
    let without = entries.values().filter(|entry| entry.content.is_none()).count();
    if without > 0 {
        progress.warn(&format!(
            "{}: no `content` on {without} of {} lines: they would apply to another image if files were added or removed",
            path.display(),
            entries.len()
        ));
    }
    Ok(())
}

/// Returns the number of lines that [`check`] would refuse.
pub fn count_misplaced<T>(entries: &Entries<T>, images: &ImageIndex) -> usize {
    entries.iter().filter(|(id, entry)| misplaced(**id, entry, images).is_some()).count()
}

/// Returns whether the image with an id is the one that a line is about. An exact duplicate is not,
/// if the image with the line's file name exists too.
fn is_here(id: SampleId, content: Option<Content>, file: &str, images: &ImageIndex) -> bool {
    let Some(known) = images.get(id) else { return false };
    let Some(content) = content else { return true };
    let has_file = |id: &SampleId| images.get(*id).is_some_and(|known| known.file == file);
    let is_other_copy = || !file.is_empty() && known.file != file && images.with_content(content).iter().any(has_file);
    known.content == content && !is_other_copy()
}

/// Returns the line number, the problem, and whether the line has a content, if the image with the id
/// is not the one that the line is about.
fn misplaced<T>(id: SampleId, entry: &Entry<T>, images: &ImageIndex) -> Option<(u64, String, bool)> {
    if is_here(id, entry.content, &entry.file, images) {
        return None;
    }
    let problem = match (images.get(id), entry.content) {
        (_, None) => format!("there is no image {id}"),
        (None, Some(content)) => {
            format!("there is no image {id}; the line is about {}", shown(content, &entry.file))
        }
        (Some(known), Some(content)) => format!(
            "image {id} is not the one that the line was written for: it was {}, now it is {}",
            shown(content, &entry.file),
            shown(known.content, &known.file)
        ),
    };
    Some((entry.line, problem, entry.content.is_some()))
}

/// Returns a content with its file, if it is known.
fn shown(content: Content, file: &str) -> String {
    if file.is_empty() { content.to_string() } else { format!("{content} ({file})") }
}

#[cfg(test)]
mod tests;

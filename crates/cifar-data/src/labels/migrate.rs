//! Updates label files after images have moved to other ids.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{content_of, id_of, is_here, shown};
use crate::csv_table::{CsvRow, CsvTable};
use crate::output::write_file;
use crate::spreadsheet::{neutral, plain};
use crate::{Content, DataError, ImageIndex, Result, SampleId};

/// A line whose image now has another id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The number of the line in the old file.
    pub line: u64,
    /// The old id.
    pub from: SampleId,
    /// The new id.
    pub to: SampleId,
    /// The file of the image.
    pub file: String,
    /// Other possible images: exact duplicates without a line of their own.
    pub copies: Vec<SampleId>,
}

/// A line without content, which gets the content of the image with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The number of the line in the old file.
    pub line: u64,
    /// The id of the image.
    pub id: SampleId,
    /// The file of the image.
    pub file: String,
}

/// A line whose image no longer exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The number of the line in the old file.
    pub line: u64,
    /// The id in the line.
    pub id: SampleId,
    /// The image that the line is about, in words.
    pub image: String,
}

/// The result of [`migrate`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migration {
    /// Number of lines in the old file.
    pub lines: usize,
    /// Lines with a new id.
    pub moved: Vec<Moved>,
    /// Lines that got a content.
    pub adopted: Vec<Adopted>,
    /// Lines whose images no longer exist.
    pub dropped: Vec<Gone>,
    /// Whether the file was written.
    pub changed: bool,
}

/// A line about an image.
struct Line<'a> {
    row: &'a CsvRow,
    id: SampleId,
    content: Option<Content>,
    file: &'a str,
}

/// Updates a file with one line per image. A line whose image now has another id gets that id. A
/// line without `content` gets the content of the image with its id.
///
/// Missing columns are added after `id`. All other columns and the order of the lines stay. The
/// file is replaced atomically, and only if something changes.
///
/// Among exact duplicates, a line goes to the one with its file name, otherwise to the one with the
/// nearest id, but never to one that has a line of its own.
///
/// ```
/// use cifar_data::ImageIndex;
/// use cifar_data::labels::{check, migrate, read_overrides};
/// use cifar_data::sources::synthetic::{self, SyntheticParams};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("overrides.csv");
/// let set = synthetic::generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// let images = ImageIndex::of([&set]);
/// std::fs::write(&path, "id,label\n7,disc\n").unwrap();
/// let migration = migrate(&path, &images, false)?;
/// assert_eq!(migration.adopted.len(), 1); // the line now has the content of image 7
/// check(&path, &read_overrides(&path, set.classes())?, &images, &cifar_data::Silent)?;
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If the file cannot be read or written, an id is not a number, or two lines are about one image.
/// If images no longer exist and `drop_missing` is false: the error lists their lines.
pub fn migrate(path: &Path, images: &ImageIndex, drop_missing: bool) -> Result<Migration> {
    let table = CsvTable::read(path)?;
    let id_at = table.column("id").ok_or_else(|| table.wrong_columns("id and others"))?;
    let (content_at, file_at) = (table.column("content"), table.column("file"));
    let mut lines = Vec::new();
    for row in table.rows() {
        let wrong = |problem: String| table.wrong(row, problem);
        let id = id_of(&row.fields[id_at]).map_err(wrong)?;
        let content = content_at.map_or(Ok(None), |at| content_of(&row.fields[at])).map_err(wrong)?;
        let file = file_at.map(|at| plain(&row.fields[at])).unwrap_or_default();
        lines.push(Line { row, id, content, file });
    }
    let mut migration = Migration { lines: lines.len(), ..Migration::default() };
    let targets = targets(&lines, images, &mut migration);
    if !migration.dropped.is_empty() && !drop_missing {
        return Err(missing(path, &migration.dropped));
    }
    let mut first: BTreeMap<SampleId, u64> = BTreeMap::new();
    for (line, target) in lines.iter().zip(&targets) {
        if let Some(id) = target
            && let Some(other) = first.insert(*id, line.row.line)
        {
            return Err(table.wrong(line.row, format!("is about image {id}, like line {other}; remove one of them")));
        }
    }
    // A file with only a header needs no new columns.
    let has_columns = (content_at.is_some() && file_at.is_some()) || lines.is_empty();
    let is_current = migration.moved.is_empty() && migration.adopted.is_empty() && migration.dropped.is_empty();
    if has_columns && is_current {
        return Ok(migration);
    }
    let row = |(line, target): (&Line, &Option<SampleId>)| {
        let known = images.get((*target)?)?;
        let values = [(*target)?.to_string(), known.content.to_string(), neutral(&known.file)];
        Some(record(&line.row.fields, id_at, content_at, file_at, values))
    };
    let names = ["id", "content", "file"].map(String::from);
    let header = record(table.columns(), id_at, content_at, file_at, names);
    let records = std::iter::once(header).chain(lines.iter().zip(&targets).filter_map(row));
    write_file(path, &text(&std::fs::read(path).map_err(DataError::io("read", path))?, records))?;
    migration.changed = true;
    Ok(migration)
}

/// Returns the new id of each line; none if its image no longer exists.
fn targets(lines: &[Line], images: &ImageIndex, migration: &mut Migration) -> Vec<Option<SampleId>> {
    let file_of = |id: SampleId| images.get(id).map(|known| known.file.clone()).unwrap_or_default();
    let here = |line: &Line| is_here(line.id, line.content, line.file, images).then_some(line.id);
    let mut targets: Vec<Option<SampleId>> = lines.iter().map(here).collect();
    // An image with a line of its own is not available to other lines.
    let mut taken: BTreeSet<SampleId> = targets.iter().flatten().copied().collect();
    for (line, _) in lines.iter().zip(&targets).filter(|(line, target)| target.is_some() && line.content.is_none()) {
        migration.adopted.push(Adopted { line: line.row.line, id: line.id, file: file_of(line.id) });
    }
    // Lines that have their image's file name choose first.
    for by_file in [true, false] {
        for (line, target) in lines.iter().zip(&mut targets).filter(|(_, target)| target.is_none()) {
            let found = line.content.map_or(&[][..], |content| images.with_content(content));
            let is_wanted = |id: &&SampleId| !taken.contains(*id) && (!by_file || file_of(**id) == line.file);
            let mut free: Vec<SampleId> = found.iter().filter(is_wanted).copied().collect();
            free.sort_by_key(|id| (id.0.abs_diff(line.id.0), *id));
            let Some((to, copies)) = free.split_first() else { continue };
            taken.insert(*to);
            *target = Some(*to);
            let (line, from, file) = (line.row.line, line.id, file_of(*to));
            let copies = if by_file { Vec::new() } else { copies.to_vec() };
            migration.moved.push(Moved { line, from, to: *to, file, copies });
        }
    }
    migration.moved.sort_by_key(|moved| moved.line);
    for (line, _) in lines.iter().zip(&targets).filter(|(_, target)| target.is_none()) {
        let image = line.content.map_or_else(|| "no content given".into(), |content| shown(content, line.file));
        migration.dropped.push(Gone { line: line.row.line, id: line.id, image });
    }
    targets
}

/// Returns the fields of a record with a new id, content and file. New columns follow the id.
fn record(
    fields: &[String],
    id_at: usize,
    content_at: Option<usize>,
    file_at: Option<usize>,
    [id, content, file]: [String; 3],
) -> Vec<String> {
    let mut record = Vec::with_capacity(fields.len() + 2);
    for (at, field) in fields.iter().enumerate() {
        if at == id_at {
            record.push(id.clone());
            record.extend(content_at.is_none().then(|| content.clone()));
            record.extend(file_at.is_none().then(|| file.clone()));
        } else if Some(at) == content_at {
            record.push(content.clone());
        } else if Some(at) == file_at {
            record.push(file.clone());
        } else {
            record.push(field.clone());
        }
    }
    record
}

/// Returns the records as CSV, with the byte order mark and the line ends of the text `before`.
fn text(before: &[u8], records: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let is_windows = before.windows(2).any(|pair| pair == b"\r\n");
    let end = if is_windows { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
    let start = if before.starts_with(MARK) { MARK.to_vec() } else { Vec::new() };
    let mut csv = csv::WriterBuilder::new().terminator(end).from_writer(start);
    for record in records {
        csv.write_record(record).expect("writing to memory does not fail, and records have the same length");
    }
    csv.into_inner().expect("writing to memory does not fail")
}

/// Returns the error that lists the lines whose images no longer exist.
fn missing(path: &Path, gone: &[Gone]) -> DataError {
    const SHOWN: usize = 5;
    let listed: Vec<String> =
        gone.iter().take(SHOWN).map(|g| format!("line {}: image {} ({})", g.line, g.id, g.image)).collect();
    let more = gone.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    DataError::gone(path, listed.join("; ") + &more)
}

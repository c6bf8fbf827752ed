//! Moves lines about images along with their images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{content_of, id_of, is_here, shown};
use crate::csv_table::{CsvRow, CsvTable};
use crate::output::write_file;
use crate::spreadsheet::{neutral, plain};
use crate::{Content, DataError, ImageIndex, Result, SampleId};

/// A line whose image has another id now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The line's place in the file before.
    pub line: u64,
    /// The id that it had.
    pub from: SampleId,
    /// The id that it has now.
    pub to: SampleId,
    /// The image's file.
    pub file: String,
    /// Other images of this content that it could have been as well: exact duplicates without a line of their own.
    pub copies: Vec<SampleId>,
}

/// A line without content, which gets that of the image with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The line's place in the file before.
    pub line: u64,
    /// The image.
    pub id: SampleId,
    /// The image's file.
    pub file: String,
}

/// A line whose image is no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The line's place in the file before.
    pub line: u64,
    /// The id that it has.
    pub id: SampleId,
    /// What it is about, in words.
    pub image: String,
}

/// What [`migrate`] did to a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migration {
    /// Number of lines about images that the file had.
    pub lines: usize,
    /// Lines that were moved.
    pub moved: Vec<Moved>,
    /// Lines that got a content.
    pub adopted: Vec<Adopted>,
    /// Lines that were left out.
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

/// Brings a file with a line per image up to date with `images`: a line whose image has another id now gets that id, and
/// a line without `content` gets that of the image with its id. Columns that are missing are added after `id`; all other
/// columns and the order of the lines stay. The file is replaced whole, and not at all if nothing changes.
///
/// Of exact duplicates, a line goes to the one with its file name, else to the one with the nearest id; never to one that
/// has a line of its own.
///
/// # Errors
/// If the file cannot be read or written, an id is not a number, two lines are about one image, or images are no longer
/// there and `drop_missing` is false: the error lists their lines.
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
            return Err(
                table.wrong(line.row, format!("is about image {id}, as line {other} is; remove one of the two"))
            );
        }
    }
    // A header alone needs no new columns.
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

/// The id that each line is to have; none if its image is gone.
fn targets(lines: &[Line], images: &ImageIndex, migration: &mut Migration) -> Vec<Option<SampleId>> {
    let file_of = |id: SampleId| images.get(id).map(|known| known.file.clone()).unwrap_or_default();
    let here = |line: &Line| is_here(line.id, line.content, line.file, images).then_some(line.id);
    let mut targets: Vec<Option<SampleId>> = lines.iter().map(here).collect();
    // An image that has a line of its own is not for one that looks for its image.
    let mut taken: BTreeSet<SampleId> = targets.iter().flatten().copied().collect();
    for (line, _) in lines.iter().zip(&targets).filter(|(line, target)| target.is_some() && line.content.is_none()) {
        migration.adopted.push(Adopted { line: line.row.line, id: line.id, file: file_of(line.id) });
    }
    // A line that names its image's file chooses first.
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

/// The fields of a record with other ones for id, content and file; the latter follow the id where they are new.
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

/// The records as CSV, with the byte order mark and the line ends of the text `before`.
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

/// The lines whose images are gone.
fn missing(path: &Path, gone: &[Gone]) -> DataError {
    const SHOWN: usize = 5;
    let listed: Vec<String> =
        gone.iter().take(SHOWN).map(|g| format!("line {}: image {} ({})", g.line, g.id, g.image)).collect();
    let more = gone.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    DataError::malformed(
        path,
        format!(
            "the images of these lines are no longer there: {}{more}; `--drop-missing` leaves the lines out",
            listed.join("; ")
        ),
    )
}

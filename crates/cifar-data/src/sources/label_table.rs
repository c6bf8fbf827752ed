//! Image files that a CSV file lists: `file,label` or `file,label,split`.
//!
//! Files are relative to the folder of the CSV file and inside it. Classes are the labels in sorted
//! order. `split` is `train`, `test` or `val`; images of `val` are training images. Fields are
//! separated by commas or semicolons. The order of the lines does not matter: the images of each
//! class are sorted by file, and classes alternate, as in class folders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::ReadOptions;
use super::files::{Entry, Skipped, decode_all, interleaved};
use super::layout::{Part, is_table};
use crate::csv_table::{CsvRow, CsvTable};
use crate::names::{self, normal, shown};
use crate::{DataError, Dataset, Progress, Published, Result, SourceKind, input};

/// Returns the warning that a folder of class folders holds a table of labels that is not read.
pub(super) fn unread(folder: &Path) -> Option<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let has_labels = |name: &&String| {
        let head = input::head(&folder.join(name)).unwrap_or_default();
        let head = String::from_utf8_lossy(&head);
        let first = head.trim_start_matches('\u{feff}').lines().next().unwrap_or_default();
        let columns: Vec<&str> = first.split([',', ';']).map(|column| column.trim().trim_matches('"')).collect();
        columns.contains(&"file") && columns.contains(&"label")
    };
    let table = names.iter().filter(|name| is_table(Path::new(name))).find(has_labels)?;
    Some(format!(
        "{}: is not read, since it is beside class folders; name it to use its labels",
        shown(&folder.join(table))
    ))
}

/// Reads and decodes all images that the CSV file at `path` lists.
///
/// # Errors
/// If it has other columns, or a line names no file, one that does not exist or is outside of the
/// folder, the same file as another line, or no label or split. If an image is damaged, or images
/// have several sizes and `options` do not resize them.
pub(super) fn read(path: &Path, options: &ReadOptions, progress: &dyn Progress) -> Result<(Dataset, Vec<Skipped>)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let table = CsvTable::read_separated(path)?;
    let (Some(file), Some(label)) = (table.column("file"), table.column("label")) else {
        return Err(table.wrong_columns("file,label or file,label,split"));
    };
    let split = table.column("split");
    if table.columns().len() != 2 + usize::from(split.is_some()) {
        return Err(table.wrong_columns("file,label or file,label,split"));
    }
    let mut names = Names { folder, listed: HashMap::new() };
    let mut lines: HashMap<String, u64> = HashMap::new();
    let mut rows: Vec<(String, String, Published)> = Vec::new();
    for row in table.rows() {
        let wrong = |problem: String| table.wrong(row, problem);
        let written = &row.fields[file];
        let found = names.find(written).map_err(wrong)?;
        if let Some(line) = lines.insert(found.clone(), row.line) {
            return Err(wrong(format!("the file {written:?} is listed twice, first on line {line}")));
        }
        let label = normal(&row.fields[label]).into_owned();
        if label.is_empty() {
            return Err(wrong("has no label".into()));
        }
        rows.push((found, label, published(row, split).map_err(wrong)?));
    }
    let classes: Vec<String> =
        rows.iter().map(|(_, label, _)| label.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    if classes.is_empty() {
        return Err(DataError::malformed(path, "lists no images"));
    }
    if classes.len() > usize::from(u16::MAX) {
        return Err(DataError::malformed(path, format!("has {} labels, allowed are {}", classes.len(), u16::MAX)));
    }
    names::check_classes(&classes).map_err(|problem| DataError::malformed(path, problem))?;
    let mut by_class: BTreeMap<(Published, usize), Vec<Entry>> = BTreeMap::new();
    rows.sort_unstable();
    for (file, label, published) in rows {
        let class = classes.partition_point(|class| *class < label);
        by_class.entry((published, class)).or_default().push(Entry { file, label: class as u16, published });
    }
    let entries = interleaved(by_class.into_values().collect());
    let what = (SourceKind::Table, "table of labels");
    let (dataset, skipped) = decode_all(folder, what, classes, &entries, *options, progress)?;
    let counts = dataset.counts_by_class();
    if let Some(class) = counts.iter().position(|count| *count == 0) {
        let name = &dataset.classes()[class];
        let first = skipped.iter().find(|skipped| {
            entries.iter().any(|entry| usize::from(entry.label) == class && entry.file == skipped.file)
        });
        let first = first.map_or_else(String::new, |s| format!("; the first, {}, {}", s.file, s.problem));
        return Err(DataError::malformed(path, format!("none of the images of {name:?} can be used{first}")));
    }
    Ok((dataset, skipped))
}

/// Returns the published split of a line.
fn published(row: &CsvRow, column: Option<usize>) -> Result<Published, String> {
    let Some(column) = column else { return Ok(Published::None) };
    let split = &row.fields[column];
    match Part::of_folder(split) {
        Some(Part::Train | Part::Val) => Ok(Published::Train),
        Some(Part::Test) => Ok(Published::Test),
        None => Err(format!("split {split:?} is not allowed; allowed are train, test and val")),
    }
}

/// The names of files in a folder and its subfolders. Each folder is listed once.
struct Names<'a> {
    folder: &'a Path,
    /// The names in a folder, by themselves and by their NFC form.
    listed: HashMap<PathBuf, HashMap<String, String>>,
}

impl Names<'_> {
    /// Returns the path of a file, relative to the folder and with `/`, as the file system has it.
    ///
    /// # Errors
    /// If there is no such file inside the folder. The message follows the line.
    fn find(&mut self, written: &str) -> Result<String, String> {
        let outside =
            || format!("the file {written:?} is outside of the folder of this table; allowed are relative paths in it");
        let path = written.replace('\\', "/");
        let is_absolute = path.starts_with('/') || path.as_bytes().get(1) == Some(&b':');
        if is_absolute {
            return Err(outside());
        }
        let mut parts = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop().ok_or_else(outside)?),
                part => parts.push(part),
            }
        }
        if parts.is_empty() {
            return Err(if written.is_empty() { "has no file".into() } else { outside() });
        }
        let mut found = String::new();
        for part in parts {
            if let Some(problem) = names::problem(part) {
                return Err(format!("the file {written:?} {problem}"));
            }
            let name = self.name(&found, part).ok_or_else(|| format!("the file {written:?} does not exist"))?;
            if !found.is_empty() {
                found.push('/');
            }
            found.push_str(&name);
        }
        Ok(found)
    }

    /// Returns the name of `part` in a subfolder: itself, or its name in another form of Unicode.
    fn name(&mut self, subfolder: &str, part: &str) -> Option<String> {
        let path = self.folder.join(subfolder);
        let names = self.listed.entry(path).or_insert_with_key(|path| {
            let mut names = HashMap::new();
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
                names.insert(normal(&name).into_owned(), name.clone());
                names.insert(name.clone(), name);
            }
            names
        });
        names.get(part).or_else(|| names.get(&*normal(part))).cloned()
    }
}

//! Reads the table of an analysis and the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cifar_data::csv_table::{CsvRow, CsvTable};
use cifar_data::{Content, DataError, Stage};

use crate::measures::{MEASURES, Measure};
use crate::{EvalError, Result};

/// Columns that identify an image. Any other column may be the truth.
const IDENTITY: [&str; 3] = ["id", "content", "file"];

/// An image of `hard_images.csv`.
pub(super) struct Image {
    id: u32,
    content: Option<Content>,
    file: String,
    pub(super) split: String,
    /// Where the images come from; empty in tables without that column, such as means over seeds.
    pub(super) source: String,
    /// One value per measure, in the order of [`MEASURES`]; none where a measure does not apply.
    pub(super) values: Vec<Option<f64>>,
}

/// The truth for the images of an analysis.
pub(super) struct Truth {
    /// Index of an image, ascending, and its value.
    pub(super) values: Vec<(usize, f64)>,
    /// Number of rows in the file.
    pub(super) rows: usize,
    /// Number of rows without content, although the analysis knows the content of their images.
    pub(super) rows_without_content: usize,
}

fn number<T: std::str::FromStr>(table: &CsvTable, row: &CsvRow, column: usize) -> Result<T> {
    let (name, text) = (&table.columns()[column], &row.fields[column]);
    Ok(text.parse().map_err(|_| table.wrong(row, format!("{name} {text:?} is not a number")))?)
}

/// Rust parses "NaN" and "inf" as numbers, too.
fn finite_number(table: &CsvTable, row: &CsvRow, column: usize) -> Result<f64> {
    let value: f64 = number(table, row, column)?;
    if value.is_finite() {
        return Ok(value);
    }
    Err(table.wrong(row, format!("{} {value} is not a finite number", table.columns()[column])).into())
}

fn content(table: &CsvTable, row: &CsvRow, column: Option<usize>) -> Result<Option<Content>> {
    let text = column.map_or("", |column| &row.fields[column]);
    let parsed = || text.parse().map_err(|problem: String| table.wrong(row, problem));
    if text.is_empty() { Ok(None) } else { Ok(Some(parsed()?)) }
}

/// Reads the images and their measures. The first learnt epoch of an image that was never learnt is
/// infinite.
pub(super) fn read_images(path: &Path) -> Result<Vec<Image>> {
    let made_by = Stage::HardImages.alone();
    if !path.exists() {
        let problem = "there is no such file".into();
        return Err(DataError::Missing { path: path.to_path_buf(), problem, made_by }.into());
    }
    let table = CsvTable::read(path)?;
    let index = |name: &str| {
        let stale =
            || DataError::Stale { path: path.to_path_buf(), problem: format!("has no column `{name}`"), made_by };
        table.column(name).ok_or_else(stale)
    };
    let (id, split, events) = (index("id")?, index("split")?, index("forgetting_events")?);
    let (content_column, file) = (table.column("content"), table.column("file"));
    let column = |measure: &Measure| match table.column(measure.key) {
        None if measure.is_recent() => Ok(None),
        _ => index(measure.key).map(Some),
    };
    let columns: Vec<Option<usize>> = MEASURES.iter().map(column).collect::<Result<_, _>>()?;
    let source = table.column("source");
    let mut known = BTreeSet::new();
    let mut images = Vec::new();
    for row in table.rows() {
        let values = MEASURES.iter().zip(&columns).map(|(measure, column)| -> Result<Option<f64>> {
            if let Some(column) = column.filter(|column| !row.fields[*column].is_empty()) {
                return finite_number(&table, row, column).map(Some);
            }
            let is_never_learnt = measure.is_first_learnt() && !row.fields[events].is_empty();
            Ok(is_never_learnt.then_some(f64::INFINITY))
        });
        let id: u32 = number(&table, row, id)?;
        if !known.insert(id) {
            return Err(table.wrong(row, format!("id {id} appears twice")).into());
        }
        if !super::SPLITS[1..].contains(&row.fields[split].as_str()) {
            return Err(table.wrong(row, format!("split {:?} is not train, val or test", row.fields[split])).into());
        }
        images.push(Image {
            id,
            content: content(&table, row, content_column)?,
            file: file.map(|at| row.fields[at].clone()).unwrap_or_default(),
            split: row.fields[split].clone(),
            source: source.map(|at| row.fields[at].clone()).unwrap_or_default(),
            values: values.collect::<Result<_>>()?,
        });
    }
    Ok(images)
}

/// Reads the truth for `images`. A row must have the content that its image has in the analysis, or
/// no content.
pub(super) fn read_truth(path: &Path, column: Option<&str>, images: &[Image]) -> Result<Truth> {
    let table = CsvTable::read(path)?;
    let id = table.column("id").ok_or_else(|| EvalError::Malformed {
        path: path.to_path_buf(),
        problem: format!("has no column `id`, only {}", table.columns().join(", ")),
    })?;
    let (truth, content_column) = (truth_column(path, &table, column)?, table.column("content"));
    let indices: BTreeMap<u32, usize> = images.iter().enumerate().map(|(at, image)| (image.id, at)).collect();
    let mut values = BTreeMap::new();
    let mut rows_without_content = 0;
    for row in table.rows() {
        let wrong = |problem: String| table.wrong(row, problem);
        let id: u32 = number(&table, row, id)?;
        let content = content(&table, row, content_column)?;
        let index = *indices.get(&id).ok_or_else(|| wrong(format!("there is no image {id} in the analysis")))?;
        let image = &images[index];
        match (content, image.content) {
            (Some(then), Some(now)) if then != now => {
                let problem =
                    format!("image {id} of the analysis is {now} ({}), but this row is about image {then}", image.file);
                return Err(DataError::Misplaced { path: path.to_path_buf(), line: row.line, problem }.into());
            }
            (None, Some(_)) => rows_without_content += 1,
            _ => {}
        }
        if values.insert(index, finite_number(&table, row, truth)?).is_some() {
            return Err(wrong(format!("id {id} appears twice")).into());
        }
    }
    Ok(Truth { values: values.into_iter().collect(), rows: table.rows().len(), rows_without_content })
}

/// Returns the column named `name`, or the only one that does not identify an image.
fn truth_column(path: &Path, table: &CsvTable, name: Option<&str>) -> Result<usize> {
    let columns = table.columns();
    let others: Vec<usize> = (0..columns.len()).filter(|at| !IDENTITY.contains(&columns[*at].as_str())).collect();
    let found = match (name, others.as_slice()) {
        (Some(name), _) => table.column(name),
        (None, [only]) => Some(*only),
        (None, _) => None,
    };
    found.ok_or_else(|| EvalError::TruthColumn {
        path: path.to_path_buf(),
        found: columns.to_vec(),
        expected: name.map_or("one column besides `id`".into(), |name| format!("a column `{name}`")),
    })
}

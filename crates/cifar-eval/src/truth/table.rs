//! Reading the table of an analysis and a truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cifar_data::csv_table::{CsvRow, CsvTable};
use cifar_data::{Content, Progress};

use crate::measures::MEASURES;
use crate::{EvalError, Result};

/// Columns that say which image a row is about; all others may be the truth.
const IDENTITY: [&str; 3] = ["id", "content", "file"];

/// An image of `hard_images.csv`.
pub(super) struct Image {
    id: u32,
    content: Option<Content>,
    file: String,
    pub(super) split: String,
    /// Where the images came from; empty in tables without that column, such as means over seeds.
    pub(super) source: String,
    /// In the order of [`MEASURES`]; none where a measure does not apply.
    pub(super) values: Vec<Option<f64>>,
}

fn number<T: std::str::FromStr>(table: &CsvTable, row: &CsvRow, column: usize) -> Result<T> {
    let (name, text) = (&table.columns()[column], &row.fields[column]);
    Ok(text.parse().map_err(|_| table.wrong(row, format!("{name} {text:?} is not a number")))?)
}

fn content(table: &CsvTable, row: &CsvRow, column: Option<usize>) -> Result<Option<Content>> {
    let text = column.map_or("", |column| &row.fields[column]);
    let parsed = || text.parse().map_err(|problem: String| table.wrong(row, problem));
    if text.is_empty() { Ok(None) } else { Ok(Some(parsed()?)) }
}

/// The images and their measures. The first-learnt epoch of an image that was never learnt is infinite.
pub(super) fn read_images(path: &Path) -> Result<Vec<Image>> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    if !path.exists() {
        return Err(wrong("is missing; run the stage `hard-images` first".into()));
    }
    let table = CsvTable::read(path)?;
    let place = |name: &str| {
        let problem = || wrong(format!("has no column `{name}`; run the stage `hard-images` again"));
        table.column(name).ok_or_else(problem)
    };
    let (id, split, events) = (place("id")?, place("split")?, place("forgetting_events")?);
    let (content_at, file) = (table.column("content"), table.column("file"));
    let measures: Vec<usize> = MEASURES.iter().map(|(name, _)| place(name)).collect::<Result<_>>()?;
    let source = table.column("source");
    let mut known = BTreeSet::new();
    let mut images = Vec::new();
    for row in table.rows() {
        let value = |column: usize| -> Result<Option<f64>> {
            if !row.fields[column].is_empty() {
                let value: f64 = number(&table, row, column)?;
                // "NaN" and "inf" are numbers to Rust; no measure is.
                return if value.is_finite() {
                    Ok(Some(value))
                } else {
                    Err(table.wrong(row, format!("{} {value} is not a finite number", table.columns()[column])).into())
                };
            }
            let is_never = table.columns()[column] == "first_learnt_epoch" && !row.fields[events].is_empty();
            Ok(is_never.then_some(f64::INFINITY))
        };
        let id: u32 = number(&table, row, id)?;
        if !known.insert(id) {
            return Err(table.wrong(row, format!("id {id} appears twice")).into());
        }
        if !super::SPLITS[1..].contains(&row.fields[split].as_str()) {
            return Err(table.wrong(row, format!("split {:?} is not train, val or test", row.fields[split])).into());
        }
        images.push(Image {
            id,
            content: content(&table, row, content_at)?,
            file: file.map(|at| row.fields[at].clone()).unwrap_or_default(),
            split: row.fields[split].clone(),
            source: source.map(|at| row.fields[at].clone()).unwrap_or_default(),
            values: measures.iter().map(|column| value(*column)).collect::<Result<_>>()?,
        });
    }
    Ok(images)
}

/// For each image that the truth names its place among `images`, and the truth; in the order of `images`. A row whose
/// image has another content there is refused; rows without content are taken by their id, with one warning.
pub(super) fn read_truth(
    path: &Path,
    column: Option<&str>,
    images: &[Image],
    monitor: &dyn Progress,
) -> Result<Vec<(usize, f64)>> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let table = CsvTable::read(path)?;
    let columns = table.columns();
    let listed = columns.join(", ");
    let id = table.column("id").ok_or_else(|| wrong(format!("has no column `id`, only {listed}")))?;
    let content_at = table.column("content");
    let others: Vec<usize> = (0..columns.len()).filter(|at| !IDENTITY.contains(&columns[*at].as_str())).collect();
    let truth = match (column, others.as_slice()) {
        (Some(name), _) => table.column(name),
        (None, [only]) => Some(*only),
        (None, _) => None,
    };
    let truth = truth.ok_or_else(|| {
        let wanted = column.map_or("one column beside `id`".into(), |name| format!("a column `{name}`"));
        wrong(format!("has the columns {listed}, not {wanted}; `--column` names the one to use"))
    })?;
    let places: BTreeMap<u32, usize> = images.iter().enumerate().map(|(at, image)| (image.id, at)).collect();
    let mut found = BTreeMap::new();
    let mut without = 0;
    for row in table.rows() {
        let wrong = |problem: String| table.wrong(row, problem);
        let id: u32 = number(&table, row, id)?;
        let content = content(&table, row, content_at)?;
        let place = *places.get(&id).ok_or_else(|| wrong(format!("there is no image {id} in the analysis")))?;
        match (content, images[place].content) {
            (Some(then), Some(now)) if then != now => {
                return Err(wrong(format!(
                    "image {id} is another one in the analysis: this row is about {then}, there it is {now} ({}); `cifar-cli labels migrate {}` moves rows to the ids that their images have now",
                    images[place].file,
                    path.display()
                ))
                .into());
            }
            (None, Some(_)) => without += 1,
            _ => {}
        }
        let value: f64 = number(&table, row, truth)?;
        if !value.is_finite() {
            return Err(wrong(format!("{} {value} is not a finite number", columns[truth])).into());
        }
        if found.insert(place, value).is_some() {
            return Err(wrong(format!("id {id} appears twice")).into());
        }
    }
    if without > 0 {
        monitor.warn(&format!(
            "{0}: no `content` on {without} of {1} rows: they would go to another image if files were added or removed; add it with `cifar-cli labels migrate {0}`",
            path.display(),
            table.rows().len()
        ));
    }
    Ok(found.into_iter().collect())
}

//! Reading the table of an analysis and a truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::measures::MEASURES;
use crate::{EvalError, Result};

/// An image of `hard_images.csv`.
pub(super) struct Image {
    id: u32,
    pub(super) split: String,
    /// Where the images came from; empty in tables without that column, such as means over seeds.
    pub(super) source: String,
    /// In the order of [`MEASURES`]; none where a measure does not apply.
    pub(super) values: Vec<Option<f64>>,
}

fn read(path: &Path, hint: &str) -> Result<(csv::StringRecord, Vec<csv::StringRecord>)> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let text = std::fs::read(path).map_err(|e| wrong(format!("cannot read it: {e}{hint}")))?;
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_slice());
    let columns = csv.headers().map_err(|e| wrong(e.to_string()))?.clone();
    let rows = csv.records().enumerate().map(|(at, row)| row.map_err(|e| wrong(format!("line {}: {e}", at + 2))));
    Ok((columns, rows.collect::<Result<_>>()?))
}

/// The images and their measures. The first-learnt epoch of an image that was never learnt is infinite.
pub(super) fn read_images(path: &Path) -> Result<Vec<Image>> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let (columns, rows) = read(path, "; run `cifar-cli hard-images` first")?;
    let place = |name: &str| {
        let place = columns.iter().position(|column| column == name);
        place.ok_or_else(|| wrong(format!("has no column `{name}`; run `cifar-cli hard-images` again")))
    };
    let (id, split, events) = (place("id")?, place("split")?, place("forgetting_events")?);
    let measures: Vec<usize> = MEASURES.iter().map(|(name, _)| place(name)).collect::<Result<_>>()?;
    let source = columns.iter().position(|column| column == "source");
    let mut images = Vec::new();
    let mut known = BTreeSet::new();
    for (at, row) in rows.iter().enumerate() {
        let number = |column: usize| -> Result<Option<f64>> {
            let is_never = &columns[column] == "first_learnt_epoch" && !row[events].is_empty();
            match &row[column] {
                "" => Ok(is_never.then_some(f64::INFINITY)),
                // "NaN" and "inf" are numbers to Rust; no measure is.
                text => match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(Some(value)),
                    _ => Err(wrong(format!("line {}: {} {text:?} is no finite number", at + 2, &columns[column]))),
                },
            }
        };
        let id: u32 = row[id].parse().map_err(|_| wrong(format!("line {}: id {:?} is no number", at + 2, &row[id])))?;
        if !known.insert(id) {
            return Err(wrong(format!("line {}: id {id} appears twice", at + 2)));
        }
        if !super::SPLITS[1..].contains(&&row[split]) {
            return Err(wrong(format!("line {}: split {:?} is not train, val or test", at + 2, &row[split])));
        }
        let values = measures.iter().map(|column| number(*column)).collect::<Result<_>>()?;
        images.push(Image {
            id,
            split: row[split].to_string(),
            source: source.map(|column| row[column].to_string()).unwrap_or_default(),
            values,
        });
    }
    Ok(images)
}

/// For each image that the truth names its place among `images`, and the truth; in the order of `images`.
pub(super) fn read_truth(path: &Path, column: Option<&str>, images: &[Image]) -> Result<Vec<(usize, f64)>> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let (columns, rows) = read(path, "")?;
    let listed = columns.iter().collect::<Vec<_>>().join(", ");
    let id =
        columns.iter().position(|c| c == "id").ok_or_else(|| wrong(format!("has no column `id`, only {listed}")))?;
    let others: Vec<usize> = (0..columns.len()).filter(|at| *at != id).collect();
    let truth = match (column, others.as_slice()) {
        (Some(name), _) => columns.iter().position(|c| c == name),
        (None, [only]) => Some(*only),
        (None, _) => None,
    };
    let truth = truth.ok_or_else(|| {
        let wanted = column.map_or("one column beside `id`".into(), |name| format!("a column `{name}`"));
        wrong(format!("has the columns {listed}, not {wanted}; `--column` names the one to use"))
    })?;
    let places: BTreeMap<u32, usize> = images.iter().enumerate().map(|(at, image)| (image.id, at)).collect();
    let mut found = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        let line = |problem: String| wrong(format!("line {}: {problem}", at + 2));
        let image: u32 = row[id].parse().map_err(|_| line(format!("id {:?} is no number", &row[id])))?;
        let place = places.get(&image).ok_or_else(|| line(format!("there is no image {image} in the analysis")))?;
        let value: f64 = row[truth].parse().map_err(|_| line(format!("{:?} is no number", &row[truth])))?;
        if !value.is_finite() {
            return Err(line(format!("{:?} is no finite number", &row[truth])));
        }
        if found.insert(*place, value).is_some() {
            return Err(line(format!("id {image} appears twice")));
        }
    }
    Ok(found.into_iter().collect())
}

//! `predictions.csv`: one row per image with `id,file,label,predicted`, the probability of each class, and the source of the
//! images.

use std::path::Path;

use cifar_data::provenance::Provenance;
use cifar_data::{Dataset, Sample, SampleId, spreadsheet, store};
use cifar_model::Model;

use crate::{EvalError, Result};

/// The command that writes the folder.
pub const COMMAND: &str = "evaluate";
/// File name of the predictions on a run's own test images.
pub const PREDICTIONS: &str = "predictions.csv";
/// File name of the predictions on the test images of all partitions.
pub const POOL_PREDICTIONS: &str = "pool_predictions.csv";
/// File name of the figures.
pub const METRICS: &str = "metrics.json";

/// What a model said of some images.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// Identity of each image, ascending.
    pub ids: Vec<SampleId>,
    /// N × classes.
    pub probabilities: Vec<f32>,
}

/// The class with the highest probability; the first among equals.
pub fn predicted_class(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

/// The table for the images of `set`. Probabilities are written with as many digits as bring back the same bits.
pub fn to_csv(set: &Dataset, probabilities: &[f32]) -> Vec<u8> {
    let (classes, source) = (set.classes(), &set.header().source.description);
    let row = |(sample, row): (&Sample, &[f32])| {
        let fixed = [
            sample.id.to_string(),
            sample.file.clone(),
            classes[usize::from(sample.label)].clone(),
            classes[predicted_class(row)].clone(),
        ];
        fixed.into_iter().chain(row.iter().map(f32::to_string)).chain([source.clone()]).collect::<Vec<_>>()
    };
    let header = header(classes);
    let columns: Vec<&str> = header.iter().map(String::as_str).collect();
    spreadsheet::csv(&columns, set.samples().iter().zip(probabilities.chunks_exact(classes.len())).map(row))
}

/// Reads what `evaluate` wrote into `folder` of its own test images, which must be those of `set`, as `model` predicted them.
///
/// # Errors
/// If the table is missing or damaged, or of another model or other test images.
pub fn read(folder: &Path, model: &Model, set: &Dataset) -> Result<Predictions> {
    let provenance = Provenance::read(folder, COMMAND)?;
    provenance.expect("model", model.seal(), "this model")?;
    provenance.expect("test", &store::fingerprint(set), "the test images of the prepared set")?;
    parse(&provenance.file(PREDICTIONS)?, &folder.join(PREDICTIONS), set)
}

/// The predictions in a table that [`to_csv`] made of the images of `set`; `path` is for messages.
fn parse(text: &[u8], path: &Path, set: &Dataset) -> Result<Predictions> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let mut csv = csv::Reader::from_reader(text);
    let expected = header(set.classes());
    if csv.headers().map_err(|e| wrong(e.to_string()))?.iter().ne(&expected) {
        return Err(wrong(format!("has other columns than {}; run the stage `evaluate` again", expected.join(","))));
    }
    let mut predictions = Predictions { ids: Vec::new(), probabilities: Vec::new() };
    for (index, record) in csv.records().enumerate() {
        let line = index + 2;
        let record = record.map_err(|e| wrong(format!("line {line}: {e}")))?;
        let id = record[0].parse().map_err(|_| wrong(format!("line {line}: id {:?} is no number", &record[0])))?;
        predictions.ids.push(SampleId(id));
        for field in record.iter().skip(4).take(set.classes().len()) {
            let value: f32 = field.parse().map_err(|_| wrong(format!("line {line}: {field:?} is no probability")))?;
            predictions.probabilities.push(value);
        }
    }
    if predictions.ids.iter().ne(set.samples().iter().map(|s| &s.id)) {
        return Err(wrong("is about other images than the test set; run the stage `evaluate` again".into()));
    }
    Ok(predictions)
}

fn header(classes: &[String]) -> Vec<String> {
    let fixed = ["id", "file", "label", "predicted"].map(String::from);
    fixed.into_iter().chain(classes.iter().map(|c| format!("p_{c}"))).chain(["source".into()]).collect()
}

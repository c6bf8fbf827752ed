//! `predictions.csv`: one row per image with `id,file,label,predicted`, the probability of each
//! class, and the source of the images. [`read_given`] reads predictions of any model.

mod given;

use std::path::Path;

use cifar_data::provenance::Provenance;
use cifar_data::{Dataset, Header, Sample, SampleId, spreadsheet, store};
use cifar_model::Model;

use crate::{EvalError, Result};

pub use self::given::{GivenPredictions, read_given};

/// The command that writes the folder.
pub const COMMAND: &str = "evaluate";
/// File name of the predictions on a run's test images.
pub const PREDICTIONS: &str = "predictions.csv";
/// File name of the predictions on the shared test images, which are those of v1, v2 and v3.
pub const POOL_PREDICTIONS: &str = "pool_predictions.csv";
/// File name of the figures.
pub const METRICS: &str = "metrics.json";

/// A model's predictions for some images.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// The id of each image, ascending.
    pub ids: Vec<SampleId>,
    /// Probabilities, images × classes.
    pub probabilities: Vec<f32>,
}

/// Returns the class with the highest probability; the first, if several are equal.
///
/// ```
/// assert_eq!(cifar_eval::predictions::predicted_class(&[0.2, 0.5, 0.3]), 1);
/// ```
pub fn predicted_class(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

/// Returns the table of the images of `set`, from their probabilities (images × classes).
///
/// Probabilities have enough digits to be read back exactly.
///
/// ```
/// use cifar_data::{Dataset, ImageSize};
/// use cifar_eval::predictions::to_csv;
///
/// let size = ImageSize { height: 1, width: 1 };
/// let images = Dataset::from_arrays(&["cat", "dog"], size, &[0], vec![0, 0, 0])?;
/// let table = String::from_utf8(to_csv(&images, &[0.25, 0.75])).unwrap();
/// assert!(table.starts_with("id,file,label,predicted,p_cat,p_dog,source\n"));
/// assert!(table.contains("\n0,array[0],cat,dog,0.25,0.75,"));
/// # Ok::<(), cifar_data::DataError>(())
/// ```
pub fn to_csv(set: &Dataset, probabilities: &[f32]) -> Vec<u8> {
    table(set.header(), set.samples(), probabilities)
}

/// As [`to_csv`], without the pixels.
pub(crate) fn table(header: &Header, samples: &[Sample], probabilities: &[f32]) -> Vec<u8> {
    let (classes, source) = (&header.classes, &header.source.description);
    let row = |(sample, row): (&Sample, &[f32])| {
        let fixed = [
            sample.id.to_string(),
            sample.file.clone(),
            classes[usize::from(sample.label)].clone(),
            classes[predicted_class(row)].clone(),
        ];
        fixed.into_iter().chain(row.iter().map(f32::to_string)).chain([source.clone()]).collect::<Vec<_>>()
    };
    let columns = columns(classes);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    spreadsheet::csv(&columns, samples.iter().zip(probabilities.chunks_exact(classes.len())).map(row))
}

/// Reads the predictions on test images that
/// [`Evaluation::save`](crate::evaluate::Evaluation::save) wrote into `folder`. They must be those
/// of `model` for the images of `set`.
///
/// ```
/// # use cifar_data::{Silent, prepare, sources::synthetic};
/// # use cifar_model::{Model, ModelParams, ModelSpec};
/// use cifar_eval::evaluate::{EvaluateParams, evaluate};
/// use cifar_eval::predictions;
///
/// # let params = synthetic::SyntheticParams { count: 60, ..Default::default() };
/// # let images = synthetic::generate(&params)?.dataset;
/// # let normalisation = prepare::normalisation(&images);
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::default();
/// # let model = Model::new(ModelSpec { params, classes, size, normalisation }, 7)?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let out = folder.path().join("evaluation");
/// let evaluation = evaluate(&EvaluateParams::default(), &model, &images, &Silent)?;
/// evaluation.save(&out, &Silent)?;
/// assert_eq!(&predictions::read(&out, &model, &images)?, evaluation.predictions());
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
///
/// # Errors
/// If the table is missing or damaged, or is of another model or other test images.
pub fn read(folder: &Path, model: &Model, set: &Dataset) -> Result<Predictions> {
    let provenance = Provenance::read(folder, COMMAND)?;
    provenance.expect("model", model.seal(), "this model")?;
    provenance.expect("test", &store::fingerprint(set), "the test images of the prepared set")?;
    parse(&provenance.file(PREDICTIONS)?, &folder.join(PREDICTIONS), set)
}

/// Parses a table that [`to_csv`] made of the images of `set`; `path` is for messages.
fn parse(text: &[u8], path: &Path, set: &Dataset) -> Result<Predictions> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let mut csv = csv::Reader::from_reader(text);
    let expected = columns(set.classes());
    if csv.headers().map_err(|e| wrong(e.to_string()))?.iter().ne(&expected) {
        return Err(wrong(format!("has other columns than {}; run the stage `evaluate` again", expected.join(","))));
    }
    let mut predictions = Predictions { ids: Vec::new(), probabilities: Vec::new() };
    for (line, record) in (2..).zip(csv.records()) {
        let record = record.map_err(|e| wrong(format!("line {line}: {e}")))?;
        let id = record[0].parse().map_err(|_| wrong(format!("line {line}: id {:?} is not a number", &record[0])))?;
        predictions.ids.push(SampleId(id));
        for field in record.iter().skip(4).take(set.classes().len()) {
            let value = field.parse().map_err(|_| wrong(format!("line {line}: {field:?} is not a probability")))?;
            predictions.probabilities.push(value);
        }
    }
    if predictions.ids.iter().ne(set.samples().iter().map(|s| &s.id)) {
        return Err(wrong("has other images than the test set; run the stage `evaluate` again".into()));
    }
    Ok(predictions)
}

fn columns(classes: &[String]) -> Vec<String> {
    let fixed = ["id", "file", "label", "predicted"].map(String::from);
    fixed.into_iter().chain(classes.iter().map(|c| format!("p_{c}"))).chain(["source".into()]).collect()
}

//! The files of an evaluation.

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::{Header, Progress, provenance};
use cifar_model::Views;
use cifar_train::EpochRecord;

use super::{Evaluation, PredictedSet};
use crate::Result;
use crate::calibration::Calibration;
use crate::confusion::ConfusionMatrix;
use crate::interval::wilson;
use crate::metrics::ClassMetrics;
use crate::plots::{Caption, Curve, confusion_matrix, reliability, training_curves};
use crate::predictions::{COMMAND, METRICS, POOL_PREDICTIONS, PREDICTIONS, table};

/// Writes the folder `out`.
pub(super) fn save(evaluation: &Evaluation, out: &Path, progress: &dyn Progress) -> Result<()> {
    let Evaluation { metrics, per_class, confusion, calibration, test, history, .. } = evaluation;
    let pool = evaluation.pool.as_ref().unwrap_or(test);
    let classes = &test.header.classes;
    let predictions = |set: &PredictedSet, probabilities: &[f32]| table(&set.header, &set.samples, probabilities);

    let folder = OutputFolder::create(out)?;
    folder.write_json(METRICS, metrics)?;
    folder.write(PREDICTIONS, &predictions(test, &test.predictions.probabilities))?;
    if metrics.tta != Views::None {
        folder.write("predictions_without_tta.csv", &predictions(test, &test.plain))?;
    }
    folder.write(POOL_PREDICTIONS, &predictions(pool, &pool.predictions.probabilities))?;
    folder.write("per_class.csv", per_class_csv(classes, per_class).as_bytes())?;
    folder.write("confusion_matrix.csv", confusion_csv(classes, confusion).as_bytes())?;
    folder.write("reliability.csv", reliability_csv(calibration).as_bytes())?;
    progress.check()?;

    let tta = if metrics.tta == Views::None { String::new() } else { format!(", TTA {}", metrics.tta.name()) };
    let footer = format!(
        "n = {} test images of {} ({}), seed {}, epoch {}{tta}",
        metrics.test.images, metrics.dataset_version, metrics.source, metrics.seed, metrics.epoch
    );
    let caption = |title| Caption { title, footer: &footer, synthetic: test.header.source.is_synthetic() };
    folder.write("plots/confusion_matrix.png", &confusion_matrix(confusion, classes, &caption("Confusion matrix"))?)?;
    folder.write("plots/reliability.png", &reliability(calibration, &caption("Reliability"))?)?;
    folder.write("plots/training.png", &training_plot(history, evaluation, &test.header)?)?;
    let inputs = [("model", &*evaluation.model), ("test", &test.fingerprint), ("pool", &pool.fingerprint)];
    provenance::write(folder.path(), COMMAND, &inputs, &[METRICS, PREDICTIONS, POOL_PREDICTIONS])?;
    progress.check()?;
    Ok(folder.commit()?)
}

fn training_plot(history: &[EpochRecord], evaluation: &Evaluation, header: &Header) -> Result<Vec<u8>> {
    let metrics = &evaluation.metrics;
    let curve =
        |name, value: fn(&EpochRecord) -> Option<f64>| Curve { name, values: history.iter().map(value).collect() };
    let losses = [curve("training (as minimised)", |p| Some(p.train_loss)), curve("validation", |p| p.val_loss)];
    let accuracies =
        [curve("training (augmented)", |p| Some(p.train_accuracy)), curve("validation", |p| p.val_accuracy)];
    let footer = format!(
        "training and validation images of {} ({}), seed {}",
        metrics.dataset_version, metrics.source, metrics.seed
    );
    let caption = Caption { title: "Training", footer: &footer, synthetic: header.source.is_synthetic() };
    Ok(training_curves(&losses, &accuracies, metrics.epoch, &caption)?)
}

/// Returns a figure as a field; an undefined one is empty.
fn optional(value: Option<f64>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn per_class_csv(names: &[String], classes: &[ClassMetrics]) -> String {
    let mut text = String::from("class,support,predicted,precision,recall,f1,recall_low,recall_high\n");
    for (name, class) in names.iter().zip(classes) {
        let correct = class.recall.map_or(0, |r| (r * class.support as f64).round() as usize);
        let interval = wilson(correct, class.support);
        let figures = [optional(class.precision), optional(class.recall), optional(class.f1)].join(",");
        let name = quoted(name);
        let _ =
            writeln!(text, "{name},{},{},{figures},{},{}", class.support, class.predicted, interval.low, interval.high);
    }
    text
}

fn confusion_csv(classes: &[String], confusion: &ConfusionMatrix) -> String {
    let names: Vec<String> = classes.iter().map(|c| quoted(c)).collect();
    let mut text = format!("label,{}\n", names.join(","));
    for (label, name) in names.iter().enumerate() {
        let counts: Vec<String> = (0..names.len()).map(|k| confusion.get(label, k).to_string()).collect();
        let _ = writeln!(text, "{name},{}", counts.join(","));
    }
    text
}

fn reliability_csv(calibration: &Calibration) -> String {
    let mut text = String::from("confidence_low,confidence_high,images,mean_confidence,accuracy\n");
    for bin in &calibration.bins {
        let _ = writeln!(
            text,
            "{},{},{},{},{}",
            bin.low,
            bin.high,
            bin.count,
            optional(bin.confidence),
            optional(bin.accuracy)
        );
    }
    text
}

/// Returns a class name as a CSV field.
pub(crate) fn quoted(name: &str) -> String {
    if name.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_string() }
}

//! The final score: on the run's own test images, and on the evaluation pool that every run shares.

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::prepare::TestSet;
use cifar_data::{Dataset, Monitor};
use cifar_model::{Model, predict};
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::confusion::ConfusionMatrix;
use crate::interval::wilson;
use crate::metrics::{ClassMetrics, Scores, by_class, macro_average};
use crate::plots::{Caption, Curve, confusion_matrix, reliability, training_curves};
use crate::predictions::{PREDICTIONS, to_csv};
use crate::{EvalError, Result};

/// How to evaluate. Part of params.yaml, block `evaluate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedEvaluateParams")]
pub struct EvaluateParams {
    /// Bins of equal width for the calibration error, 1 to 100.
    pub calibration_bins: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedEvaluateParams {
    calibration_bins: usize,
}

impl TryFrom<UncheckedEvaluateParams> for EvaluateParams {
    type Error = EvalError;

    fn try_from(p: UncheckedEvaluateParams) -> Result<Self> {
        if (1..=100).contains(&p.calibration_bins) {
            Ok(Self { calibration_bins: p.calibration_bins })
        } else {
            let (key, value) = ("calibration_bins", p.calibration_bins.to_string());
            Err(EvalError::Parameter { key, value, allowed: "allowed is 1 to 100".into() })
        }
    }
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self { calibration_bins: 15 }
    }
}

/// One epoch of the training's history, for the plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Mean loss of the training images, nats.
    pub train_loss: f64,
    /// Accuracy on the training images.
    pub train_accuracy: f64,
    /// Mean loss of the validation images, nats.
    pub val_loss: Option<f64>,
    /// Accuracy on the validation images.
    pub val_accuracy: Option<f64>,
}

/// The figures of one set of images; accuracies and shares in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetMetrics {
    /// Number of images.
    pub images: usize,
    /// Share whose label has the highest probability.
    pub accuracy: f64,
    /// Lower end of the accuracy's 95 % interval (Wilson), for the sampling of images.
    pub accuracy_low: f64,
    /// Its upper end.
    pub accuracy_high: f64,
    /// Share whose label is among the two most probable classes.
    pub top2_accuracy: f64,
    /// Mean of −ln p(label), nats.
    pub cross_entropy: f64,
    /// Mean precision of the classes that were predicted at all.
    pub macro_precision: Option<f64>,
    /// Mean recall of the classes that occur.
    pub macro_recall: Option<f64>,
    /// Mean F1 of the classes that occur or were predicted.
    pub macro_f1: Option<f64>,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Brier score, 0..2.
    pub brier: f64,
}

/// `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// On the run's own test images.
    pub test: SetMetrics,
    /// On the evaluation pool: the test images of all partitions, the same for every run.
    pub pool: SetMetrics,
    /// Where the images came from.
    pub source: String,
    /// The partitions that the model learnt from.
    pub dataset_version: String,
    /// The run's seed.
    pub seed: u64,
    /// The epoch whose weights were scored.
    pub epoch: usize,
}

impl Metrics {
    /// A few lines for people.
    pub fn in_words(&self) -> String {
        let line = |name: &str, set: &SetMetrics| {
            format!(
                "{name}: accuracy {:.2} % (95 % interval {:.2} to {:.2}), top-2 {:.2} %, cross-entropy {:.3}, calibration error {:.2} %, n = {}",
                set.accuracy * 100.0,
                set.accuracy_low * 100.0,
                set.accuracy_high * 100.0,
                set.top2_accuracy * 100.0,
                set.cross_entropy,
                set.calibration_error * 100.0,
                set.images
            )
        };
        format!(
            "{}\n{}\n({}; intervals are for the sampling of images, not for the spread between seeds)",
            line("own test split ", &self.test),
            line("evaluation pool", &self.pool),
            self.source
        )
    }
}

/// Scores `model` on its own test images and on the pool, and writes `out`.
pub fn evaluate(
    params: &EvaluateParams,
    model: &Model,
    history: &[CurvePoint],
    test: &TestSet,
    pool: &TestSet,
    out: &Path,
    monitor: &dyn Monitor,
) -> Result<Metrics> {
    let (test, pool) = (test.dataset(), pool.dataset());
    let classes = test.classes().len();
    let probabilities = predict(model, test, "testing", monitor)?.probabilities()?;
    let labels = test.labels();
    let scores = Scores::new(&probabilities, &labels, classes)?;
    let pool_probabilities = if pool == test {
        probabilities.clone()
    } else {
        predict(model, pool, "testing on the pool", monitor)?.probabilities()?
    };
    let pool_labels = pool.labels();
    let pool_scores = Scores::new(&pool_probabilities, &pool_labels, classes)?;

    let (confusion, calibration) = (scores.confusion(), Calibration::new(&scores, params.calibration_bins));
    let origin = model.origin.as_ref();
    let metrics = Metrics {
        test: set_metrics(&scores, params),
        pool: set_metrics(&pool_scores, params),
        source: test.header().source.description.clone(),
        dataset_version: origin.map(|o| o.dataset_version.clone()).unwrap_or_default(),
        seed: origin.map_or(0, |o| o.seed),
        epoch: origin.map_or(0, |o| o.epoch),
    };

    let folder = OutputFolder::create(out)?;
    let json = serde_json::to_string_pretty(&metrics).unwrap_or_default() + "\n";
    folder.write("metrics.json", json.as_bytes())?;
    folder.write(PREDICTIONS, &to_csv(test, &probabilities))?;
    folder.write("pool_predictions.csv", &to_csv(pool, &pool_probabilities))?;
    folder.write("per_class.csv", per_class_csv(test, &by_class(&confusion)).as_bytes())?;
    folder.write("confusion_matrix.csv", confusion_csv(test, &confusion).as_bytes())?;
    folder.write("reliability.csv", reliability_csv(&calibration).as_bytes())?;
    let footer = format!(
        "n = {} test images of {} ({}), seed {}, epoch {}",
        metrics.test.images, metrics.dataset_version, metrics.source, metrics.seed, metrics.epoch
    );
    let caption = |title| Caption { title, footer: &footer, synthetic: test.header().source.is_synthetic() };
    folder.write(
        "plots/confusion_matrix.png",
        &confusion_matrix(&confusion, test.classes(), &caption("Confusion matrix"))?,
    )?;
    folder.write("plots/reliability.png", &reliability(&calibration, &caption("Reliability"))?)?;
    folder.write("plots/training.png", &training_plot(history, &metrics, test)?)?;
    monitor.check()?;
    folder.commit()?;
    Ok(metrics)
}

fn set_metrics(scores: &Scores, params: &EvaluateParams) -> SetMetrics {
    let classes = by_class(&scores.confusion());
    let interval = wilson(scores.correct(), scores.len());
    SetMetrics {
        images: scores.len(),
        accuracy: scores.correct() as f64 / scores.len() as f64,
        accuracy_low: interval.low,
        accuracy_high: interval.high,
        top2_accuracy: scores.top_k_accuracy(2),
        cross_entropy: scores.cross_entropy(),
        macro_precision: macro_average(classes.iter().map(|c| c.precision)),
        macro_recall: macro_average(classes.iter().map(|c| c.recall)),
        macro_f1: macro_average(classes.iter().map(|c| c.f1)),
        calibration_error: Calibration::new(scores, params.calibration_bins).expected_error,
        brier: scores.brier(),
    }
}

fn training_plot(history: &[CurvePoint], metrics: &Metrics, test: &Dataset) -> Result<Vec<u8>> {
    let curve =
        |name, value: fn(&CurvePoint) -> Option<f64>| Curve { name, values: history.iter().map(value).collect() };
    let losses = [curve("training (as minimised)", |p| Some(p.train_loss)), curve("validation", |p| p.val_loss)];
    let accuracies =
        [curve("training (augmented)", |p| Some(p.train_accuracy)), curve("validation", |p| p.val_accuracy)];
    let footer = format!(
        "training and validation images of {} ({}), seed {}",
        metrics.dataset_version, metrics.source, metrics.seed
    );
    let caption = Caption { title: "Training", footer: &footer, synthetic: test.header().source.is_synthetic() };
    Ok(training_curves(&losses, &accuracies, metrics.epoch, &caption)?)
}

/// A figure that may be undefined: empty then.
fn optional(value: Option<f64>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn per_class_csv(set: &Dataset, classes: &[ClassMetrics]) -> String {
    let mut text = String::from("class,support,predicted,precision,recall,f1,recall_low,recall_high\n");
    for (name, class) in set.classes().iter().zip(classes) {
        let correct = class.recall.map_or(0, |r| (r * class.support as f64).round() as usize);
        let interval = wilson(correct, class.support);
        let figures = [optional(class.precision), optional(class.recall), optional(class.f1)].join(",");
        let name = quoted(name);
        let _ =
            writeln!(text, "{name},{},{},{figures},{},{}", class.support, class.predicted, interval.low, interval.high);
    }
    text
}

fn confusion_csv(set: &Dataset, confusion: &ConfusionMatrix) -> String {
    let names: Vec<String> = set.classes().iter().map(|c| quoted(c)).collect();
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

/// A class name as a CSV field.
pub(crate) fn quoted(name: &str) -> String {
    if name.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_string() }
}

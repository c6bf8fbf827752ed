//! The final score: on the run's own test images, and on the evaluation pool that every run shares.

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::prepare::TestSet;
use cifar_data::{Dataset, Progress, provenance, store};
use cifar_model::{Augmented, Model, TestTimeAugmentation, Views, predict_augmented};
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::confusion::{ConfusionMatrix, check_memory};
use crate::interval::wilson;
use crate::metrics::{ClassMetrics, Scores, by_class, macro_average, never_predicted};
use crate::plots::{Caption, Curve, confusion_matrix, reliability, training_curves};
use crate::predictions::{COMMAND, METRICS, POOL_PREDICTIONS, PREDICTIONS, to_csv};
use crate::{EvalError, Result};

/// Parameters of the evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedEvaluateParams")]
pub struct EvaluateParams {
    /// Views of each image over which the network's answer is averaged.
    pub tta: Views,
    /// Share of the images for which that is done, those of which the network is least sure first; 0 to 1.
    pub tta_fraction: f64,
    /// Bins of equal width for the calibration error, 1 to 100.
    pub calibration_bins: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedEvaluateParams {
    tta: Views,
    #[serde(alias = "tta_share")]
    tta_fraction: f64,
    calibration_bins: usize,
}

impl TryFrom<UncheckedEvaluateParams> for EvaluateParams {
    type Error = EvalError;

    fn try_from(p: UncheckedEvaluateParams) -> Result<Self> {
        let UncheckedEvaluateParams { tta, tta_fraction, calibration_bins } = p;
        let refuse = |key, value: String, allowed: &str| {
            Err(EvalError::Parameter { key, value, allowed: format!("allowed is {allowed}") })
        };
        if !(0.0..=1.0).contains(&tta_fraction) {
            return refuse("tta_fraction", tta_fraction.to_string(), "0 to 1");
        }
        if !(1..=100).contains(&calibration_bins) {
            return refuse("calibration_bins", calibration_bins.to_string(), "1 to 100");
        }
        Ok(Self { tta, tta_fraction, calibration_bins })
    }
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self { tta: Views::None, tta_fraction: 1.0, calibration_bins: 15 }
    }
}

/// One epoch of the training's history, for the plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingCurvePoint {
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
    /// Mean precision of the classes that occur or are predicted. One that is never predicted counts as 0, as in scikit-learn.
    pub macro_precision: Option<f64>,
    /// Mean recall of the classes that occur or are predicted. One without an image counts as 0, as in scikit-learn.
    pub macro_recall: Option<f64>,
    /// Mean F1 of the classes that occur or are predicted.
    pub macro_f1: Option<f64>,
    /// Number of classes that have images and are never predicted: each takes its share from `macro_precision`.
    #[serde(default)]
    pub never_predicted: usize,
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
    /// Test-time augmentation: the views over which the answers were averaged.
    pub tta: Views,
    /// On the run's own test images without it, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_without_tta: Option<SetMetrics>,
    /// On the pool without it, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_without_tta: Option<SetMetrics>,
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
        let without = |name: &str, set: &Option<SetMetrics>| {
            set.as_ref().map(|set| format!("\n{}", line(name, set))).unwrap_or_default()
        };
        format!(
            "{}{}\n{}{}\n({}; {}intervals are for the sampling of images, not for the spread between seeds)",
            line("own test split ", &self.test),
            without("  without averaging over views", &self.test_without_tta),
            line("evaluation pool", &self.pool),
            without("  without averaging over views", &self.pool_without_tta),
            self.source,
            if self.tta == Views::None {
                String::new()
            } else {
                format!("answers averaged over views ({}); ", self.tta.name())
            },
        )
    }
}

/// Scores `model` on its own test images and on the pool, and writes `out`.
pub fn evaluate(
    params: &EvaluateParams,
    model: &Model,
    history: &[TrainingCurvePoint],
    test: &TestSet,
    pool: &TestSet,
    out: &Path,
    monitor: &dyn Progress,
) -> Result<Metrics> {
    let (test, pool) = (test.dataset(), pool.dataset());
    let classes = test.classes().len();
    check_memory(classes)?;
    let augmentation = TestTimeAugmentation { views: params.tta, share: params.tta_fraction };
    let logits = predict_augmented(model, test, augmentation, "testing", monitor)?;
    let probabilities = logits.averaged.probabilities()?;
    let labels = test.labels();
    let scores = Scores::new(&probabilities, &labels, classes)?;
    let pool_logits = if pool == test {
        logits.clone()
    } else {
        predict_augmented(model, pool, augmentation, "testing on the pool", monitor)?
    };
    let pool_probabilities = pool_logits.averaged.probabilities()?;
    let pool_labels = pool.labels();
    let pool_scores = Scores::new(&pool_probabilities, &pool_labels, classes)?;
    let without = |logits: &Augmented, labels: &[u16]| -> Result<Option<SetMetrics>> {
        if params.tta == Views::None {
            return Ok(None);
        }
        Ok(Some(set_metrics(&Scores::new(&logits.plain.probabilities()?, labels, classes)?, params)))
    };

    let (confusion, calibration) = (scores.confusion(), Calibration::new(&scores, params.calibration_bins));
    let origin = model.origin.as_ref();
    let metrics = Metrics {
        test: set_metrics(&scores, params),
        pool: set_metrics(&pool_scores, params),
        tta: params.tta,
        test_without_tta: without(&logits, &labels)?,
        pool_without_tta: without(&pool_logits, &pool_labels)?,
        source: test.header().source.description.clone(),
        dataset_version: origin.map(|o| o.dataset_version.clone()).unwrap_or_default(),
        seed: origin.map_or(0, |o| o.seed),
        epoch: origin.map_or(0, |o| o.epoch),
    };

    let folder = OutputFolder::create(out)?;
    let json = serde_json::to_string_pretty(&metrics).unwrap_or_default() + "\n";
    folder.write(METRICS, json.as_bytes())?;
    folder.write(PREDICTIONS, &to_csv(test, &probabilities))?;
    if params.tta != Views::None {
        folder.write("predictions_without_tta.csv", &to_csv(test, &logits.plain.probabilities()?))?;
    }
    folder.write(POOL_PREDICTIONS, &to_csv(pool, &pool_probabilities))?;
    folder.write("per_class.csv", per_class_csv(test, &by_class(&confusion)).as_bytes())?;
    folder.write("confusion_matrix.csv", confusion_csv(test, &confusion).as_bytes())?;
    folder.write("reliability.csv", reliability_csv(&calibration).as_bytes())?;
    let views = if params.tta == Views::None { String::new() } else { format!(", TTA {}", params.tta.name()) };
    let footer = format!(
        "n = {} test images of {} ({}), seed {}, epoch {}{views}",
        metrics.test.images, metrics.dataset_version, metrics.source, metrics.seed, metrics.epoch
    );
    let caption = |title| Caption { title, footer: &footer, synthetic: test.header().source.is_synthetic() };
    folder.write(
        "plots/confusion_matrix.png",
        &confusion_matrix(&confusion, test.classes(), &caption("Confusion matrix"))?,
    )?;
    folder.write("plots/reliability.png", &reliability(&calibration, &caption("Reliability"))?)?;
    folder.write("plots/training.png", &training_plot(history, &metrics, test)?)?;
    let fingerprints = [test, pool].map(store::fingerprint);
    let inputs = [("model", model.seal()), ("test", &fingerprints[0]), ("pool", &fingerprints[1])];
    provenance::write(folder.path(), COMMAND, &inputs, &[METRICS, PREDICTIONS, POOL_PREDICTIONS])?;
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
        macro_precision: macro_average(&classes, |c| c.precision),
        macro_recall: macro_average(&classes, |c| c.recall),
        macro_f1: macro_average(&classes, |c| c.f1),
        never_predicted: never_predicted(&classes),
        calibration_error: Calibration::new(scores, params.calibration_bins).expected_error,
        brier: scores.brier(),
    }
}

fn training_plot(history: &[TrainingCurvePoint], metrics: &Metrics, test: &Dataset) -> Result<Vec<u8>> {
    let curve = |name, value: fn(&TrainingCurvePoint) -> Option<f64>| Curve {
        name,
        values: history.iter().map(value).collect(),
    };
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

//! The figures of an evaluation, `metrics.json`.

use std::fmt;

use cifar_model::Views;
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::interval::wilson;
use crate::metrics::{Scores, by_class, macro_average, never_predicted};

/// The figures of one set of images. Accuracies and other fractions are in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetMetrics {
    /// Number of images.
    pub images: usize,
    /// Fraction of the images whose label has the highest probability.
    pub accuracy: f64,
    /// Lower end of the accuracy's 95 % interval (Wilson), for the sampling of images.
    pub accuracy_low: f64,
    /// Upper end of that interval.
    pub accuracy_high: f64,
    /// Fraction of the images whose label is among the two most probable classes.
    pub top2_accuracy: f64,
    /// Mean of −ln p(label), nats.
    pub cross_entropy: f64,
    /// Mean precision of the classes that occur or are predicted. A class that is never predicted
    /// counts as 0, as in scikit-learn.
    pub macro_precision: Option<f64>,
    /// Mean recall of the classes that occur or are predicted. A class without images counts as 0,
    /// as in scikit-learn.
    pub macro_recall: Option<f64>,
    /// Mean F1 of the classes that occur or are predicted.
    pub macro_f1: Option<f64>,
    /// Number of classes that have images and are never predicted. Each lowers `macro_precision`.
    #[serde(default)]
    pub never_predicted: usize,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Brier score, 0..2.
    pub brier: f64,
}

impl SetMetrics {
    /// Computes the figures of any model's predictions, with `bins` bins for the calibration error.
    ///
    /// ```
    /// use cifar_eval::evaluate::SetMetrics;
    /// use cifar_eval::metrics::Scores;
    ///
    /// let probabilities = [0.9, 0.1, 0.4, 0.6]; // of two images and two classes
    /// let metrics = SetMetrics::of(&Scores::new(&probabilities, &[0, 0], 2)?, 15);
    /// assert_eq!((metrics.images, metrics.accuracy), (2, 0.5));
    /// println!("{metrics}");
    /// # Ok::<(), cifar_eval::EvalError>(())
    /// ```
    pub fn of(scores: &Scores, bins: usize) -> Self {
        let classes = by_class(&scores.confusion());
        let interval = wilson(scores.correct(), scores.len());
        Self {
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
            calibration_error: Calibration::new(scores, bins).expected_error,
            brier: scores.brier(),
        }
    }
}

impl fmt::Display for SetMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |fraction: f64| format!("{:.2} %", fraction * 100.0);
        let optional = |figure: Option<f64>| figure.map_or_else(|| "undefined".into(), |f| format!("{f:.4}"));
        writeln!(
            f,
            "accuracy           {} (95 % interval {:.2} to {:.2}, n = {})",
            percent(self.accuracy),
            self.accuracy_low * 100.0,
            self.accuracy_high * 100.0,
            self.images
        )?;
        writeln!(f, "top-2 accuracy     {}", percent(self.top2_accuracy))?;
        writeln!(f, "macro precision    {}", optional(self.macro_precision))?;
        writeln!(f, "macro recall       {}", optional(self.macro_recall))?;
        writeln!(f, "macro F1           {}", optional(self.macro_f1))?;
        writeln!(f, "cross-entropy      {:.4} nats", self.cross_entropy)?;
        writeln!(f, "Brier score        {:.4}", self.brier)?;
        write!(f, "calibration error  {}", percent(self.calibration_error))
    }
}

/// The content of `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Figures of the test images.
    pub test: SetMetrics,
    /// Figures of the shared test images: those of all partitions, the same for every run.
    pub pool: SetMetrics,
    /// Test-time augmentation: the copies over which predictions were averaged.
    pub tta: Views,
    /// Figures of the test images without test-time augmentation, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_without_tta: Option<SetMetrics>,
    /// Figures of the shared test images without test-time augmentation, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_without_tta: Option<SetMetrics>,
    /// The source of the images.
    pub source: String,
    /// The partitions that the model was trained on.
    pub dataset_version: String,
    /// The run's seed.
    pub seed: u64,
    /// The epoch whose weights were scored.
    pub epoch: usize,
}

impl Metrics {
    /// Returns a few lines for people, on both sets of test images.
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
            line("test images       ", &self.test),
            without("  without test-time augmentation", &self.test_without_tta),
            line("shared test images", &self.pool),
            without("  without test-time augmentation", &self.pool_without_tta),
            self.source,
            if self.tta == Views::None {
                String::new()
            } else {
                format!("test-time augmentation: {}; ", self.tta.name())
            },
        )
    }
}

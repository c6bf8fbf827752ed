//! The figures of an evaluation, `metrics.json`.

use std::collections::BTreeMap;
use std::fmt;

use cifar_model::{Precision, Views};
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::interval::{mean_of_proportions, wilson};
use crate::metrics::{ClassMetrics, Scores, by_class, macro_average, never_predicted};

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
    /// Balanced accuracy: mean recall of the classes that have images. Unlike the accuracy, it does
    /// not depend on how many images a class has. `None` in files of earlier versions.
    #[serde(default)]
    pub balanced_accuracy: Option<f64>,
    /// Lower end of its 95 % interval ([`mean_of_proportions`]), for the sampling of images within
    /// classes.
    #[serde(default)]
    pub balanced_accuracy_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub balanced_accuracy_high: Option<f64>,
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
        let confusion = scores.confusion();
        let classes = by_class(&confusion);
        let interval = wilson(scores.correct(), scores.len());
        let recalls: Vec<(usize, usize)> = (0..confusion.classes())
            .map(|class| (confusion.get(class, class), confusion.row_sum(class)))
            .filter(|(_, images)| *images > 0)
            .collect();
        let (balanced, balanced_interval) = mean_of_proportions(&recalls);
        Self {
            images: scores.len(),
            accuracy: scores.correct() as f64 / scores.len() as f64,
            accuracy_low: interval.low,
            accuracy_high: interval.high,
            balanced_accuracy: Some(balanced),
            balanced_accuracy_low: Some(balanced_interval.low),
            balanced_accuracy_high: Some(balanced_interval.high),
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

impl SetMetrics {
    /// Returns the balanced accuracy as a fraction, and its interval in percent; none in files of
    /// earlier versions.
    fn balanced(&self) -> Option<(f64, [f64; 2])> {
        let interval = [self.balanced_accuracy_low?, self.balanced_accuracy_high?];
        Some((self.balanced_accuracy?, interval.map(|end| end * 100.0)))
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
        if let Some((balanced, [low, high])) = self.balanced() {
            writeln!(f, "balanced accuracy  {} (95 % interval {low:.2} to {high:.2})", percent(balanced))?;
        }
        writeln!(f, "top-2 accuracy     {}", percent(self.top2_accuracy))?;
        writeln!(f, "macro precision    {}", optional(self.macro_precision))?;
        writeln!(f, "macro recall       {}", optional(self.macro_recall))?;
        writeln!(f, "macro F1           {}", optional(self.macro_f1))?;
        writeln!(f, "cross-entropy      {:.4} nats", self.cross_entropy)?;
        writeln!(f, "Brier score        {:.4}", self.brier)?;
        write!(f, "calibration error  {}", percent(self.calibration_error))
    }
}

/// One class of the test images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Number of test images of this class.
    pub images: usize,
    /// Fraction of them that are predicted as this class; none without images.
    pub recall: Option<f64>,
}

/// Number of classes with the lowest recall that are shown.
const LOWEST: usize = 3;

/// Returns the classes with the lowest recall, with their number of test images, in words; none
/// without test images.
pub(super) fn lowest_recall<'a>(classes: impl Iterator<Item = (&'a str, ClassScore)>) -> Option<String> {
    let mut found: Vec<(f64, &str, usize)> =
        classes.filter_map(|(name, class)| Some((class.recall?, name, class.images))).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let shown = found.iter().take(LOWEST);
    let shown: Vec<String> =
        shown.map(|(recall, name, images)| format!("{name} {:.2} % (n = {images})", recall * 100.0)).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

impl From<&ClassMetrics> for ClassScore {
    fn from(class: &ClassMetrics) -> Self {
        Self { images: class.support, recall: class.recall }
    }
}

/// The content of `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Figures of the test images.
    pub test: SetMetrics,
    /// Number and recall of the test images of each class. Empty in files of earlier versions.
    #[serde(default)]
    pub classes: BTreeMap<String, ClassScore>,
    /// Figures of the shared test images: those of v1, v2 and v3, the same for every run.
    pub pool: SetMetrics,
    /// Test-time augmentation: the copies over which predictions were averaged.
    pub tta: Views,
    /// Figures of the test images without test-time augmentation, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_without_tta: Option<SetMetrics>,
    /// Figures of the shared test images without test-time augmentation, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_without_tta: Option<SetMetrics>,
    /// The precision of the network's products; left out for `f32`.
    #[serde(default, skip_serializing_if = "is_f32")]
    pub precision: Precision,
    /// The source of the images.
    pub source: String,
    /// The partitions that the model was trained on.
    pub dataset_version: String,
    /// The run's seed.
    pub seed: u64,
    /// The epoch whose weights were scored.
    pub epoch: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
fn is_f32(precision: &Precision) -> bool {
    *precision == Precision::F32
}

impl Metrics {
    /// Returns a few lines for people, on both sets of test images.
    pub fn in_words(&self) -> String {
        let line = |name: &str, set: &SetMetrics| {
            let balanced = set.balanced().map_or_else(String::new, |(balanced, [low, high])| {
                format!(", balanced accuracy {:.2} % ({low:.2} to {high:.2})", balanced * 100.0)
            });
            format!(
                "{name}: accuracy {:.2} % (95 % interval {:.2} to {:.2}){balanced}, top-2 {:.2} %, cross-entropy {:.3}, calibration error {:.2} %, n = {}",
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
        let lowest = lowest_recall(self.classes.iter().map(|(name, class)| (name.as_str(), *class)));
        let lowest = lowest.map(|text| format!("\n  lowest recall: {text}")).unwrap_or_default();
        format!(
            "{}{}{lowest}\n{}{}\n({}; {}{}intervals are for the sampling of images, not for the spread between seeds)",
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
            if self.precision == Precision::F32 { String::new() } else { format!("precision: {}; ", self.precision) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_accuracy_is_the_mean_recall_of_classes_with_images() {
        // Class 0: four of four right. Class 1: one of two. Class 2 has no image, but is predicted.
        let predicted = [0, 0, 0, 0, 1, 2];
        let probabilities: Vec<f32> =
            predicted.iter().flat_map(|class| [0, 1, 2].map(|k| f32::from(u8::from(k == *class)))).collect();
        let scores = Scores::new(&probabilities, &[0, 0, 0, 0, 1, 1], 3).unwrap();
        let found = SetMetrics::of(&scores, 15);
        assert!((found.accuracy - 5.0 / 6.0).abs() < 1e-12);
        assert!((found.balanced_accuracy.unwrap() - 0.75).abs() < 1e-12);
        assert!((found.macro_recall.unwrap() - 0.5).abs() < 1e-12, "which counts class 2 as 0");
        let (_, expected) = mean_of_proportions(&[(4, 4), (1, 2)]);
        assert_eq!(found.balanced_accuracy_low, Some(expected.low));
        assert_eq!(found.balanced_accuracy_high, Some(expected.high));
        assert!(found.to_string().contains("balanced accuracy  75.00 % (95 % interval "));
    }

    #[test]
    fn classes_with_the_lowest_recall_are_shown_with_their_number_of_images() {
        let class = |images, recall| ClassScore { images, recall };
        let classes =
            [("ant", class(9, Some(0.9))), ("bee", class(0, None)), ("cow", class(3, Some(0.25)))].into_iter();
        assert_eq!(lowest_recall(classes).unwrap(), "cow 25.00 % (n = 3), ant 90.00 % (n = 9)");
        assert_eq!(lowest_recall(std::iter::empty()), None);
    }

    #[test]
    fn files_of_earlier_versions_are_read() {
        let scores = Scores::new(&[0.9, 0.1], &[0], 2).unwrap();
        let mut json = serde_json::to_value(SetMetrics::of(&scores, 15)).unwrap();
        json.as_object_mut().unwrap().retain(|key, _| !key.starts_with("balanced"));
        let found: SetMetrics = serde_json::from_value(json).unwrap();
        assert_eq!(found.balanced_accuracy, None);
        assert!(!found.to_string().contains("balanced"));
    }
}

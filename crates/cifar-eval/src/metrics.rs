//! Figures from class probabilities and labels, of any model.
//!
//! ```
//! use cifar_eval::metrics::{Scores, by_class, macro_average};
//!
//! // Three images and two classes.
//! let scores = Scores::new(&[0.9, 0.1, 0.4, 0.6, 0.2, 0.8], &[0, 0, 1], 2)?;
//! assert_eq!((scores.correct(), scores.len()), (2, 3));
//! let classes = by_class(&scores.confusion());
//! assert_eq!(classes[1].recall, Some(1.0));
//! assert!((macro_average(&classes, |class| class.f1).unwrap() - 2.0 / 3.0).abs() < 1e-9);
//! # Ok::<(), cifar_eval::metrics::MetricsError>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::confusion::ConfusionMatrix;
use crate::predictions::predicted_class;

/// Why probabilities and labels cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be scored: {0}")]
pub struct MetricsError(String);

/// Probabilities (N × classes; each row sums to 1) and labels of N images, N ≥ 1.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    probabilities: &'a [f32],
    labels: &'a [u16],
    classes: usize,
}

/// Precision, recall and F1 of one class; `None` where the denominator is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Images with this label.
    pub support: usize,
    /// Images that are predicted as this class.
    pub predicted: usize,
    /// Fraction of the images predicted as this class that have its label.
    pub precision: Option<f64>,
    /// Fraction of the images with this label that are predicted as this class.
    pub recall: Option<f64>,
    /// Harmonic mean of both: 2 · correct / (support + predicted).
    pub f1: Option<f64>,
}

impl<'a> Scores<'a> {
    /// Checks probabilities and labels.
    ///
    /// # Errors
    /// If there are no images, the numbers of probabilities and labels do not match, a label is not
    /// below `classes`, or a row has a probability outside of 0..1 or does not sum to 1.
    pub fn new(probabilities: &'a [f32], labels: &'a [u16], classes: usize) -> Result<Self, MetricsError> {
        let wrong = |problem: String| Err(MetricsError(problem));
        if labels.is_empty() || classes == 0 {
            return wrong("there are no images".into());
        }
        if labels.len().checked_mul(classes) != Some(probabilities.len()) {
            return wrong(format!(
                "{} probabilities do not fit {} images and {classes} classes",
                probabilities.len(),
                labels.len()
            ));
        }
        if let Some(label) = labels.iter().find(|l| usize::from(**l) >= classes) {
            return wrong(format!("label {label} is not below {classes}"));
        }
        for (image, row) in probabilities.chunks_exact(classes).enumerate() {
            let sum: f32 = row.iter().sum();
            // The rounding error of f32 over at most 65,535 classes is far smaller.
            if !row.iter().all(|p| (0.0..=1.001).contains(p)) || (sum - 1.0).abs() > 1e-3 {
                return wrong(format!("the probabilities of image {image} add up to {sum}, not 1"));
            }
        }
        Ok(Self { probabilities, labels, classes })
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns false: a checked value has images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the probabilities and the label of each image.
    pub fn rows(&self) -> impl Iterator<Item = (&'a [f32], usize)> {
        self.probabilities.chunks_exact(self.classes).zip(self.labels.iter().map(|l| usize::from(*l)))
    }

    /// Returns the number of images whose label has the highest probability. Of equal probabilities
    /// the first counts.
    pub fn correct(&self) -> usize {
        self.rows().filter(|(row, label)| predicted_class(row) == *label).count()
    }

    /// Returns the fraction of the images whose label is among the `k` most probable classes, 0..1.
    /// Of equal probabilities the first count.
    pub fn top_k_accuracy(&self, k: usize) -> f64 {
        let within = |(row, label): &(&[f32], usize)| {
            let precedes = |(c, p): &(usize, &f32)| p.total_cmp(&row[*label]).then(label.cmp(c)).is_gt();
            row.iter().enumerate().filter(precedes).count() < k
        };
        self.rows().filter(within).count() as f64 / self.len() as f64
    }

    /// Returns the mean of −ln p(label), nats. A probability below the smallest normal `f32` counts
    /// as that number (a loss of 87.3).
    pub fn cross_entropy(&self) -> f64 {
        self.rows().map(|(row, label)| loss(row[label])).sum::<f64>() / self.len() as f64
    }

    /// Returns the Brier score, 0..2: the mean squared distance between the probabilities and the
    /// one-hot label (Brier 1950).
    pub fn brier(&self) -> f64 {
        let distance = |(row, label): (&[f32], usize)| {
            let term = |(c, p): (usize, &f32)| (f64::from(*p) - f64::from(u8::from(c == label))).powi(2);
            row.iter().enumerate().map(term).sum::<f64>()
        };
        self.rows().map(distance).sum::<f64>() / self.len() as f64
    }

    /// Returns the numbers of images by label and predicted class.
    pub fn confusion(&self) -> ConfusionMatrix {
        ConfusionMatrix::count(self.classes, self.rows().map(|(row, label)| (label, predicted_class(row))))
    }
}

/// Returns −ln `p`, nats. A probability below the smallest normal `f32` counts as that number.
///
/// ```
/// assert!((cifar_eval::metrics::loss(0.5) - 0.693_147).abs() < 1e-6);
/// ```
pub fn loss(p: f32) -> f64 {
    -libm::log(f64::from(p.max(f32::MIN_POSITIVE)))
}

/// Returns the entropy of an image's probabilities, nats, 0..ln(classes).
///
/// ```
/// assert!((cifar_eval::metrics::entropy(&[0.5, 0.5, 0.0]) - 0.693_147).abs() < 1e-6);
/// ```
pub fn entropy(row: &[f32]) -> f64 {
    -row.iter().map(|p| f64::from(*p)).filter(|p| *p > 0.0).map(|p| p * libm::log(p)).sum::<f64>()
}

/// Returns p(label) minus the highest other probability, −1..1. It is negative if another class is
/// predicted.
///
/// ```
/// assert!((cifar_eval::metrics::margin(&[0.7, 0.2, 0.1], 1) + 0.5).abs() < 1e-6);
/// ```
pub fn margin(row: &[f32], label: usize) -> f64 {
    let other = row.iter().enumerate().filter(|(c, _)| *c != label).map(|(_, p)| *p).fold(0.0, f32::max);
    f64::from(row[label]) - f64::from(other)
}

/// Returns the metrics of every class.
pub fn by_class(confusion: &ConfusionMatrix) -> Vec<ClassMetrics> {
    let fraction = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let class = |k| {
        let (correct, support, predicted) = (confusion.get(k, k), confusion.row_sum(k), confusion.column_sum(k));
        ClassMetrics {
            support,
            predicted,
            precision: fraction(correct, predicted),
            recall: fraction(correct, support),
            f1: fraction(2 * correct, support + predicted),
        }
    };
    (0..confusion.classes()).map(class).collect()
}

/// Returns the mean of a figure over the classes that have images or are predicted; `None` if there
/// are none.
///
/// An undefined figure counts as 0, as in scikit-learn (`average="macro"`, default
/// `zero_division`): the precision of a class that is never predicted, and the recall of a class
/// without images.
pub fn macro_average(classes: &[ClassMetrics], figure: impl Fn(&ClassMetrics) -> Option<f64>) -> Option<f64> {
    let present: Vec<f64> = (classes.iter())
        .filter(|class| class.support + class.predicted > 0)
        .map(|class| figure(class).unwrap_or(0.0))
        .collect();
    (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
}

/// Returns the number of classes that have images and are never predicted.
pub fn never_predicted(classes: &[ClassMetrics]) -> usize {
    classes.iter().filter(|class| class.support > 0 && class.predicted == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBABILITIES: [f32; 12] = [0.7, 0.2, 0.1, 0.3, 0.4, 0.3, 0.5, 0.25, 0.25, 0.1, 0.1, 0.8];
    const LABELS: [u16; 4] = [0, 2, 1, 2];

    #[test]
    fn figures_equal_those_computed_on_paper() {
        let scores = Scores::new(&PROBABILITIES, &LABELS, 3).unwrap();
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        assert_eq!(scores.correct(), 2);
        // Image 1: classes 1, then 0 (the first of two equal ones), then 2. Image 2: 0, then 1.
        close(scores.top_k_accuracy(2), 0.75);
        close(scores.top_k_accuracy(3), 1.0);
        close(scores.cross_entropy(), -(0.7f64.ln() + 0.3f64.ln() + 0.25f64.ln() + 0.8f64.ln()) / 4.0);
        close(scores.brier(), (0.14 + 0.74 + 0.875 + 0.06) / 4.0);
        let classes = by_class(&scores.confusion());
        assert_eq!((classes[0].precision, classes[0].recall), (Some(0.5), Some(1.0)));
        assert_eq!((classes[1].precision, classes[1].recall, classes[1].f1), (Some(0.0), Some(0.0), Some(0.0)));
        close(macro_average(&classes, |c| c.f1).unwrap(), (2.0 / 3.0 + 0.0 + 2.0 / 3.0) / 3.0);
    }

    #[test]
    fn undefined_figures_are_none() {
        let scores = Scores::new(&[1.0, 0.0, 0.0], &[0], 3).unwrap();
        let classes = by_class(&scores.confusion());
        assert_eq!((classes[2].precision, classes[2].recall, classes[2].f1), (None, None, None));
        assert_eq!(macro_average(&classes, |c| c.recall), Some(1.0), "classes that do not occur are left out");
        assert_eq!(macro_average(&classes[1..], |c| c.recall), None);
    }

    #[test]
    fn a_class_that_is_never_predicted_has_a_precision_of_0_as_in_scikit_learn() {
        // y_true = [0, 0, 1, 2], y_pred = [0, 0, 0, 2]. In scikit-learn, macro precision is
        // (⅔ + 0 + 1)/3, recall ⅔ and F1 (0.8 + 0 + 1)/3.
        let mut probabilities = [0.0; 12];
        [0, 0, 0, 2].iter().enumerate().for_each(|(image, class)| probabilities[image * 3 + class] = 1.0);
        let scores = Scores::new(&probabilities, &[0, 0, 1, 2], 3).unwrap();
        let classes = by_class(&scores.confusion());
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
        close(macro_average(&classes, |c| c.precision), (2.0 / 3.0 + 1.0) / 3.0);
        close(macro_average(&classes, |c| c.recall), 2.0 / 3.0);
        close(macro_average(&classes, |c| c.f1), 0.6);
        assert_eq!((classes[1].precision, never_predicted(&classes)), (None, 1));
    }

    #[test]
    fn figures_of_single_images() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        close(entropy(&[0.5, 0.5, 0.0]), 2f64.ln());
        close(entropy(&[1.0, 0.0]), 0.0);
        close(margin(&[0.7, 0.2, 0.1], 0), 0.5);
        close(margin(&[0.7, 0.2, 0.1], 2), -0.6);
        close(loss(0.0), 87.336_544);
    }

    #[test]
    fn invalid_probabilities_and_labels_are_refused() {
        for (probabilities, labels) in [
            (&[][..], &[][..]),
            (&[0.5, 0.5][..], &[0, 1][..]),
            (&[0.5, 0.5][..], &[2][..]),
            (&[0.5, 0.6][..], &[0][..]),
            (&[f32::NAN, 0.5][..], &[0][..]),
            (&[1.5, -0.5][..], &[0][..]),
        ] {
            assert!(Scores::new(probabilities, labels, 2).is_err(), "{probabilities:?}");
        }
    }
}

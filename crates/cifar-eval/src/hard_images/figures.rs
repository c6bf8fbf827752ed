//! The figures of one image, and the threshold on them.

use crate::measures::Trajectory;
use crate::predictions::predicted_class;

/// A label is likely wrong if the probability of that is above this. With 9 to 40 % of wrong labels
/// planted, 66 to 99.5 % of the labels above it were wrong (docs/measurements.md).
pub(super) const LIKELY_WRONG: f64 = 0.5;

/// The figures of one image.
///
/// *Class probabilities* are those that labels are judged by; see
/// [`SplitPredictions`](super::SplitPredictions).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// The class that the predictions give the highest probability.
    pub predicted: u16,
    /// The predicted probability of the label, 0..1.
    pub p_label: f32,
    /// Another class than the label, with its class probability: the most probable class given the
    /// label too or, if that is the label, the class with the highest class probability. If
    /// that is the label, too, it is the most probable other class if `p_wrong` is above 0.5, or
    /// `None`.
    pub suggested: Option<(u16, f32)>,
    /// Predicted probability of the label minus the highest other one, −1..1.
    pub margin: f64,
    /// Entropy of the predicted probabilities, nats.
    pub entropy: f64,
    /// −ln `p_label`, nats.
    pub loss: f64,
    /// Measures over the epochs of training.
    pub trajectory: Option<Trajectory>,
    /// From networks that were not trained on the image: the probability of the label, and its
    /// margin.
    pub out_of_fold: Option<(f32, f64)>,
    /// `label_issue_score`: percentile rank in the split of the odds that the label is wrong, 0..1.
    pub label_issue: f64,
    /// `hardness_score`: percentile rank in the split of how uncertain the class is, whatever the
    /// label, 0..1.
    pub hardness: f64,
    /// `outlier_score`: percentile rank in the split of the mean cosine distance to the nearest
    /// training images that are not copies, 0..1. `None` without features.
    pub outlier: Option<f64>,
    /// The probability that the label is wrong, 0..1.
    pub p_wrong: f64,
    /// Whether `p_wrong` is that of the validation image with the same rank, since networks were
    /// trained on this image.
    pub is_rank_matched: bool,
    /// If a class is suggested: the fraction of its images that carry this label, 0..1.
    pub rate: Option<f64>,
    /// The two classes with the highest class probabilities, with these.
    pub leading: [(u16, f32); 2],
    /// Class probability of the label.
    pub class_p_label: f32,
    /// Whether the predictions are good enough on the label's class to judge the label.
    pub knows_label: bool,
    /// Whether they are good enough on the suggested class, too.
    pub knows_suggested: bool,
}

/// Returns the probability that a label is wrong, from the log-odds.
pub(super) fn p_wrong(log_odds: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-log_odds))
}

/// Returns the indices of the two highest values, and the values. Of equal values the first counts.
pub(super) fn two_highest(row: &[f32]) -> [(u16, f32); 2] {
    let first = predicted_class(row);
    let second = (0..row.len()).filter(|k| *k != first).fold(None, |best: Option<usize>, k| match best {
        Some(best) if row[best] >= row[k] => Some(best),
        _ => Some(k),
    });
    let second = second.unwrap_or(first);
    [(first as u16, row[first]), (second as u16, row[second])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_values_the_first_counts() {
        assert_eq!(two_highest(&[0.2, 0.4, 0.4]), [(1, 0.4), (2, 0.4)]);
        assert_eq!(two_highest(&[0.4, 0.2, 0.4]), [(0, 0.4), (2, 0.4)]);
        assert_eq!(two_highest(&[1.0]), [(0, 1.0), (0, 1.0)]);
    }
}

//! Whether predictions are correct as often as their probabilities say (Guo et al. 2017, arXiv
//! 1706.04599).
//!
//! ```
//! use cifar_eval::calibration::Calibration;
//! use cifar_eval::metrics::Scores;
//!
//! // Two predictions with a confidence of 0.9, of which one is correct.
//! let scores = Scores::new(&[0.9, 0.1, 0.9, 0.1], &[0, 1], 2)?;
//! assert!((Calibration::new(&scores, 15).expected_error - 0.4).abs() < 1e-6);
//! # Ok::<(), cifar_eval::metrics::MetricsError>(())
//! ```

use crate::metrics::Scores;
use crate::predictions::predicted_class;

/// The images whose highest probability is in (low, high].
#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    /// Lower limit, excluded.
    pub low: f64,
    /// Upper limit, included.
    pub high: f64,
    /// Number of images.
    pub count: usize,
    /// Mean highest probability; `None` without images.
    pub confidence: Option<f64>,
    /// Fraction of the images that are classified correctly; `None` without images.
    pub accuracy: Option<f64>,
}

/// Calibration in bins of equal width.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The bins, from 0 to 1.
    pub bins: Vec<Bin>,
    /// Expected calibration error, 0..1: the mean over the images of their bin's
    /// |accuracy − confidence|.
    pub expected_error: f64,
    /// Maximum calibration error, 0..1: the largest |accuracy − confidence| of a bin.
    pub largest_error: f64,
}

impl Calibration {
    /// Computes the calibration of `scores` in `bins` bins; 0 counts as 1.
    pub fn new(scores: &Scores, bins: usize) -> Self {
        let bins = bins.max(1);
        let mut sums = vec![(0usize, 0.0f64, 0usize); bins];
        for (row, label) in scores.rows() {
            let predicted = predicted_class(row);
            let confidence = f64::from(row[predicted]).min(1.0);
            let bin = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
            sums[bin].0 += 1;
            sums[bin].1 += confidence;
            sums[bin].2 += usize::from(predicted == label);
        }
        let bin = |(index, (count, confidence, correct)): (usize, (usize, f64, usize))| Bin {
            low: index as f64 / bins as f64,
            high: (index + 1) as f64 / bins as f64,
            count,
            confidence: (count > 0).then(|| confidence / count as f64),
            accuracy: (count > 0).then(|| correct as f64 / count as f64),
        };
        let bins: Vec<Bin> = sums.into_iter().enumerate().map(bin).collect();
        let gap = |bin: &Bin| bin.accuracy.zip(bin.confidence).map_or(0.0, |(a, c)| (a - c).abs());
        let expected_error = bins.iter().map(|b| gap(b) * b.count as f64).sum::<f64>() / scores.len() as f64;
        let largest_error = bins.iter().map(gap).fold(0.0, f64::max);
        Self { bins, expected_error, largest_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_equal_those_computed_on_paper() {
        // Two images at 0.9, one of them correct: a gap of 0.4. Two at 0.5, the upper limit of its
        // bin, both correct: a gap of 0.5.
        let probabilities = [0.9, 0.1, 0.9, 0.1, 0.5, 0.5, 0.5, 0.5];
        let scores = Scores::new(&probabilities, &[0, 1, 0, 0], 2).unwrap();
        let found = Calibration::new(&scores, 2);
        assert!((found.expected_error - 0.45).abs() < 1e-7, "{found:?}");
        assert!((found.largest_error - 0.5).abs() < 1e-7);
        assert_eq!(found.bins.iter().map(|b| b.count).collect::<Vec<_>>(), [2, 2]);
        let empty = &Calibration::new(&scores, 10).bins[0];
        assert_eq!((empty.count, empty.accuracy), (0, None));
    }

    #[test]
    fn certain_and_correct_predictions_have_no_error() {
        let scores = Scores::new(&[1.0, 0.0, 0.0, 1.0], &[0, 1], 2).unwrap();
        assert!(Calibration::new(&scores, 15).expected_error.abs() < f64::EPSILON);
    }
}

//! Whether a network is as often right as it says (Guo et al. 2017, arXiv 1706.04599).

use crate::metrics::Scores;
use crate::predictions::predicted_class;

/// Images whose highest probability lies in (low, high].
#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    /// Lower end, excluded.
    pub low: f64,
    /// Upper end, included.
    pub high: f64,
    /// Number of images.
    pub count: usize,
    /// Mean highest probability; none without images.
    pub confidence: Option<f64>,
    /// Share that was right; none without images.
    pub accuracy: Option<f64>,
}

/// Calibration by bins of equal width.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The bins, from 0 to 1.
    pub bins: Vec<Bin>,
    /// Expected calibration error: mean over the images of |accuracy − confidence| of their bin, 0..1.
    pub expected_error: f64,
    /// The largest |accuracy − confidence| of a bin, 0..1.
    pub largest_error: f64,
}

impl Calibration {
    /// Sorts the images of `scores` into `bins` bins (at least one).
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
    fn errors_agree_with_those_by_hand() {
        // Two images at 0.9, one right: a gap of 0.4. Two at 0.5 (the upper end of its bin), both right: a gap of 0.5.
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
    fn a_network_that_is_always_surely_right_has_no_error() {
        let scores = Scores::new(&[1.0, 0.0, 0.0, 1.0], &[0, 1], 2).unwrap();
        assert!(Calibration::new(&scores, 15).expected_error.abs() < f64::EPSILON);
    }
}

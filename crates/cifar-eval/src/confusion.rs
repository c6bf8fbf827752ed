//! Which classes are predicted as which.
//!
//! ```
//! use cifar_eval::confusion::ConfusionMatrix;
//!
//! let matrix = ConfusionMatrix::count(2, [(0, 0), (0, 1), (1, 1)].into_iter());
//! assert_eq!((matrix.get(0, 1), matrix.row_sum(0), matrix.column_sum(1)), (1, 2, 2));
//! assert_eq!(matrix.confused_pairs()[0].predicted, 1);
//! ```

use cifar_data::{DataError, memory};

/// Numbers of images by label (row) and predicted class (column).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<usize>,
}

/// Images with one label that are predicted as another class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfusedPair {
    /// The label.
    pub label: usize,
    /// The predicted class.
    pub predicted: usize,
    /// Number of images.
    pub count: usize,
}

/// Bytes per pair of classes: the counts of two sets of images, as numbers and as text.
const BYTES_PER_PAIR: u64 = 64;

/// Checks that there is enough memory for tables with a row and a column per class.
///
/// # Errors
/// If there is not.
pub(crate) fn check_memory(classes: usize) -> Result<(), DataError> {
    let pairs = (classes as u64).saturating_mul(classes as u64);
    let what = format!("a table of {classes} by {classes} classes");
    memory::check(&what, pairs.saturating_mul(BYTES_PER_PAIR), "use a set of fewer classes")
}

impl ConfusionMatrix {
    /// Counts pairs of (label, predicted class).
    ///
    /// # Panics
    /// If a label or a prediction is not below `classes`.
    pub fn count(classes: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![0; classes * classes];
        for (label, predicted) in pairs {
            assert!(label < classes && predicted < classes, "labels and predictions are below the number of classes");
            counts[label * classes + predicted] += 1;
        }
        Self { classes, counts }
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the number of images labelled `label` that are predicted as `predicted`.
    pub fn get(&self, label: usize, predicted: usize) -> usize {
        self.counts[label * self.classes + predicted]
    }

    /// Returns the number of images labelled `label`.
    pub fn row_sum(&self, label: usize) -> usize {
        (0..self.classes).map(|k| self.get(label, k)).sum()
    }

    /// Returns the number of images predicted as `predicted`.
    pub fn column_sum(&self, predicted: usize) -> usize {
        (0..self.classes).map(|k| self.get(k, predicted)).sum()
    }

    /// Returns the pairs of different classes with their numbers of images. Pairs without images
    /// are left out. The most frequent come first; equally frequent ones are ordered by label and
    /// prediction.
    pub fn confused_pairs(&self) -> Vec<ConfusedPair> {
        let mut pairs: Vec<ConfusedPair> = (0..self.classes)
            .flat_map(|label| (0..self.classes).map(move |predicted| (label, predicted)))
            .filter(|(label, predicted)| label != predicted)
            .map(|(label, predicted)| ConfusedPair { label, predicted, count: self.get(label, predicted) })
            .filter(|pair| pair.count > 0)
            .collect();
        pairs.sort_by_key(|pair| (std::cmp::Reverse(pair.count), pair.label, pair.predicted));
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sums_and_pairs() {
        let matrix = ConfusionMatrix::count(3, [(0, 0), (0, 1), (2, 1), (2, 1), (1, 0)].into_iter());
        assert_eq!((matrix.get(0, 0), matrix.get(2, 1), matrix.get(1, 1)), (1, 2, 0));
        assert_eq!((matrix.row_sum(2), matrix.column_sum(1)), (2, 3));
        let pairs: Vec<_> = matrix.confused_pairs().into_iter().map(|p| (p.label, p.predicted, p.count)).collect();
        assert_eq!(pairs, [(2, 1, 2), (0, 1, 1), (1, 0, 1)]);
    }
}

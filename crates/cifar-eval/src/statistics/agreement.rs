//! How often runs that differ only in the seed predict the same class for an image.

use serde::{Deserialize, Serialize};

/// Agreement of the predictions of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunAgreement {
    /// Number of runs.
    pub runs: usize,
    /// Fraction of images for which two runs predict the same class, mean over all pairs of runs,
    /// 0 to 1.
    pub same: f64,
    /// Fleiss' kappa (1971): (agreement − chance agreement) / (1 − chance agreement). 1 for full
    /// agreement, 0 for no more than chance. None if all runs predict one class for all images.
    pub kappa: Option<f64>,
}

impl RunAgreement {
    /// Computes the agreement from the predicted classes, one list per run, all for the same
    /// images. Returns none for fewer than two runs or without images.
    ///
    /// ```
    /// use cifar_eval::statistics::agreement::RunAgreement;
    ///
    /// let runs: [&[u16]; 2] = [&[0, 1, 1, 0], &[0, 1, 0, 0]];
    /// assert_eq!(RunAgreement::of(&runs, 2).unwrap().same, 0.75);
    /// ```
    pub fn of(predictions: &[&[u16]], classes: usize) -> Option<Self> {
        let (runs, images) = (predictions.len(), predictions.first()?.len());
        if runs < 2 || images == 0 {
            return None;
        }
        let (mut same, mut totals) = (0.0, vec![0u64; classes]);
        let mut counts = vec![0u64; classes];
        for image in 0..images {
            counts.fill(0);
            for run in predictions {
                counts[usize::from(run[image])] += 1;
            }
            let pairs: u64 = counts.iter().map(|n| n * n.saturating_sub(1)).sum();
            same += pairs as f64 / (runs * (runs - 1)) as f64;
            totals.iter_mut().zip(&counts).for_each(|(total, n)| *total += n);
        }
        same /= images as f64;
        let chance: f64 = totals.iter().map(|n| (*n as f64 / (images * runs) as f64).powi(2)).sum();
        Some(Self { runs, same, kappa: (chance < 1.0).then(|| (same - chance) / (1.0 - chance)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_and_kappa_have_the_values_of_the_definition() {
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
        // Three runs, four images: 3, 1, 1 and 0 of 3 pairs agree. The classes are predicted 7, 4
        // and 1 times of 12.
        let runs: [&[u16]; 3] = [&[0, 0, 1, 0], &[0, 0, 1, 1], &[0, 1, 0, 2]];
        let found = RunAgreement::of(&runs, 3).unwrap();
        let same = (1.0 + 1.0 / 3.0 + 1.0 / 3.0) / 4.0;
        let chance = (49.0 + 16.0 + 1.0) / 144.0;
        close(Some(found.same), same);
        close(found.kappa, (same - chance) / (1.0 - chance));
        let equal = RunAgreement::of(&[&[0, 1], &[0, 1]], 2).unwrap();
        assert_eq!((equal.same, equal.kappa), (1.0, Some(1.0)));
    }

    #[test]
    fn undefined_values_are_none() {
        assert_eq!(RunAgreement::of(&[&[0, 1]], 2), None);
        assert_eq!(RunAgreement::of(&[], 2), None);
        assert_eq!(RunAgreement::of(&[&[], &[]], 2), None);
        assert_eq!(RunAgreement::of(&[&[1], &[1]], 2).unwrap().kappa, None);
    }
}

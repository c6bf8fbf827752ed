//! Whether runs that differ in the seed alone say the same of an image.

use serde::{Deserialize, Serialize};

/// Agreement of some runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Number of runs.
    pub runs: usize,
    /// Share of the images on which two of them say the same class, on average over all pairs, 0..1.
    pub same: f64,
    /// The same, less what chance would bring, as a share of what chance leaves (Fleiss 1971): 1 for full agreement, 0 for
    /// none beyond chance; none if all runs always say one class.
    pub kappa: Option<f64>,
}

impl Agreement {
    /// Of the predictions of some runs on the same images; none for fewer than two runs, or no image.
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
    fn figures_agree_with_those_by_hand() {
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
        // Three runs, four images: 3 of 3, 1 of 3, 1 of 3 and 0 of 3 pairs agree; classes are said 7, 4 and 1 times of 12.
        let runs: [&[u16]; 3] = [&[0, 0, 1, 0], &[0, 0, 1, 1], &[0, 1, 0, 2]];
        let found = Agreement::of(&runs, 3).unwrap();
        let same = (1.0 + 1.0 / 3.0 + 1.0 / 3.0) / 4.0;
        let chance = (49.0 + 16.0 + 1.0) / 144.0;
        close(Some(found.same), same);
        close(found.kappa, (same - chance) / (1.0 - chance));
        let equal = Agreement::of(&[&[0, 1], &[0, 1]], 2).unwrap();
        assert_eq!((equal.same, equal.kappa), (1.0, Some(1.0)));
    }

    #[test]
    fn what_is_undefined_is_none() {
        assert_eq!(Agreement::of(&[&[0, 1]], 2), None);
        assert_eq!(Agreement::of(&[], 2), None);
        assert_eq!(Agreement::of(&[&[], &[]], 2), None);
        assert_eq!(Agreement::of(&[&[1], &[1]], 2).unwrap().kappa, None);
    }
}

//! The bootstrap over images (Efron 1979), with all runs' answers on an image kept together: an image is a cluster.

use cifar_data::random::{Purpose, stream};
use serde::{Deserialize, Serialize};

/// Number of resamples.
pub const RESAMPLES: usize = 10_000;

/// A difference, or another figure that is 0 if there is nothing to tell, with its interval and probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On the images at hand.
    pub value: f64,
    /// Lower end of the 95 % interval for the sampling of images (percentiles of the resamples).
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Two-sided: how often resamples lie on the other side of 0, at least 2/(resamples + 1).
    pub p: f64,
}

impl Estimate {
    /// From the value on the images at hand and those of the resamples.
    pub fn new(value: f64, mut resampled: Vec<f64>) -> Self {
        let total = resampled.len() as f64 + 1.0;
        let tail = |outside: usize| (outside as f64 + 1.0) / total;
        let below = tail(resampled.iter().filter(|d| **d <= 0.0).count());
        let above = tail(resampled.iter().filter(|d| **d >= 0.0).count());
        resampled.sort_unstable_by(f64::total_cmp);
        let [low, high] = [0.025, 0.975].map(|share| quantile(&resampled, share).unwrap_or(value));
        Self { value, low, high, p: (2.0 * below.min(above)).min(1.0) }
    }
}

/// The quantile of sorted values, between two of them in proportion (Hyndman & Fan's type 7); none of no values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)? as f64);
    let (below, part) = (place.floor(), place.fract());
    let low = *sorted.get(below as usize)?;
    let high = *sorted.get(place.ceil() as usize)?;
    Some(low + part * (high - low))
}

/// Means of columns over resampled rows: one list a column, with a value a resample. `rows` holds one row an image, `columns`
/// values each; the draws of a resample depend on `key`, its number and how many rows there are.
///
/// # Panics
/// If `rows` is empty or no multiple of `columns`.
pub fn resampled_means(rows: &[f64], columns: usize, key: u64, resamples: usize) -> Vec<Vec<f64>> {
    assert!(!rows.is_empty() && rows.len().is_multiple_of(columns), "rows have as many values as there are columns");
    let images = rows.len() / columns;
    let mut means = vec![Vec::with_capacity(resamples); columns];
    let mut times = vec![0u32; images];
    for resample in 0..resamples {
        let mut draws = stream(key, Purpose::Bootstrap, resample as u64, images as u64);
        times.fill(0);
        for _ in 0..images {
            times[draws.below(images as u64) as usize] += 1;
        }
        let mut sums = vec![0.0; columns];
        for (row, times) in rows.chunks_exact(columns).zip(&times) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*times) * value;
            }
        }
        for (mean, sum) in means.iter_mut().zip(sums) {
            mean.push(sum / images as f64);
        }
    }
    means
}

/// Probabilities corrected for the number of tests (Holm 1979), in their order.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut corrected, mut highest) = (vec![0.0; p.len()], 0.0f64);
    for (rank, index) in order.into_iter().enumerate() {
        highest = highest.max(((p.len() - rank) as f64 * p[index]).min(1.0));
        corrected[index] = highest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holm_agrees_with_the_definition() {
        let check = |p: &[f64], expected: &[f64]| {
            for (found, expected) in holm(p).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{p:?}: {:?}", holm(p));
            }
        };
        // By hand: 4·0.005; 3·0.01; 2·0.03; 0.04, which must not be below the one before.
        check(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
        check(&[0.5, 0.6], &[1.0, 1.0]);
        check(&[], &[]);
    }

    #[test]
    fn quantiles_lie_between_values() {
        let values = [1.0, 2.0, 4.0];
        for (share, expected) in [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)] {
            assert!((quantile(&values, share).unwrap() - expected).abs() < 1e-12, "{share}");
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn probabilities_count_both_sides() {
        let below = Estimate::new(1.0, vec![1.0; 99]);
        assert!((below.p - 0.02).abs() < 1e-12);
        assert!((Estimate::new(0.0, vec![0.0; 99]).p - 1.0).abs() < 1e-12);
        let some = Estimate::new(1.0, [vec![-1.0; 9], vec![1.0; 90]].concat());
        assert!((some.p - 0.2).abs() < 1e-12, "{some:?}");
    }

    /// Two classifiers on `images` images with errors that go together, and a true difference: does the interval cover it?
    fn covers(trial: u64, images: usize) -> (bool, f64) {
        let mut draws = stream(trial, Purpose::Synthetic, 0, 0);
        let difference = 0.05;
        let rows: Vec<f64> = (0..images)
            .flat_map(|_| {
                // Two seeds each: right on an easy image, mostly wrong on a hard one, and the first a little more often.
                let easy = draws.chance(0.7);
                let mut right = |p: f64| f64::from(u8::from(draws.chance(p)));
                let p = if easy { 0.9 } else { 0.3 };
                [p + difference, p].map(|p| f64::midpoint(right(p), right(p)))
            })
            .collect();
        let means = resampled_means(&rows, 2, trial, 600);
        let differences: Vec<f64> = means[0].iter().zip(&means[1]).map(|(a, b)| a - b).collect();
        let value = rows.chunks_exact(2).map(|r| r[0] - r[1]).sum::<f64>() / images as f64;
        let found = Estimate::new(value, differences);
        (found.low <= difference && difference <= found.high, found.p)
    }

    #[test]
    fn nineteen_of_twenty_intervals_cover_the_difference() {
        let trials = 800;
        let share = (0..trials).filter(|t| covers(*t, 200).0).count() as f64 / trials as f64;
        // Four standard errors of a share of 0.95 in 800 are 0.031.
        assert!((share - 0.95).abs() < 0.031, "{share}");
    }

    #[test]
    fn resamples_are_those_of_their_key() {
        let rows: Vec<f64> = (0..50).map(f64::from).collect();
        let first = resampled_means(&rows, 1, 1, 20);
        assert_eq!(first, resampled_means(&rows, 1, 1, 20));
        assert_ne!(first, resampled_means(&rows, 1, 2, 20));
        assert_eq!(first[0].len(), 20);
    }
}

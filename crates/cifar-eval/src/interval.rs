//! Confidence intervals of proportions.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Returns the 95 % score interval of `successes` in `n` trials (Wilson 1927); 0..1 for no trials.
///
/// For an accuracy it covers the sampling of the images only, not the spread between seeds.
///
/// ```
/// let interval = cifar_eval::interval::wilson(81, 263);
/// assert!((interval.low - 0.2553).abs() < 5e-5 && (interval.high - 0.3662).abs() < 5e-5);
/// ```
pub fn wilson(successes: usize, n: usize) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (p, n) = (successes as f64 / n as f64, n as f64);
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Interval { low: ((centre - half) / scale).max(0.0), high: ((centre + half) / scale).min(1.0) }
}

/// Returns the mean of the proportions of independent groups, and its 95 % interval. Each group is
/// (successes, n) with n ≥ 1, and all have the same weight; 0..1 around 0.5 for no groups.
///
/// The groups' [`wilson`] intervals are combined by variance recovery (MOVER; Zou & Donner 2008,
/// Statistics in Medicine 27:1693). Unlike a bootstrap, this has the right width for small groups
/// without a failure.
///
/// ```
/// let (mean, interval) = cifar_eval::interval::mean_of_proportions(&[(81, 263), (15, 148), (20, 20)]);
/// assert!((mean - 0.469779).abs() < 5e-7);
/// assert!((interval.low - 0.411797).abs() < 5e-7 && (interval.high - 0.497442).abs() < 5e-7);
/// ```
pub fn mean_of_proportions(groups: &[(usize, usize)]) -> (f64, Interval) {
    if groups.is_empty() {
        return (0.5, Interval { low: 0.0, high: 1.0 });
    }
    let count = groups.len() as f64;
    let (mut mean, mut below, mut above) = (0.0, 0.0, 0.0);
    for &(successes, n) in groups {
        let (proportion, interval) = (successes as f64 / n.max(1) as f64, wilson(successes, n));
        mean += proportion / count;
        below += (proportion - interval.low).powi(2);
        above += (interval.high - proportion).powi(2);
    }
    let (low, high) = (mean - below.sqrt() / count, mean + above.sqrt() / count);
    (mean, Interval { low: low.max(0.0), high: high.min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(successes: usize, n: usize, low: f64, high: f64) {
        let found = wilson(successes, n);
        // The published table has four digits.
        assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
    }

    #[test]
    fn the_mean_of_one_proportion_has_its_own_interval() {
        for (successes, n) in [(0, 20), (81, 263), (10, 10)] {
            let (mean, found) = mean_of_proportions(&[(successes, n)]);
            let expected = wilson(successes, n);
            assert!((mean - successes as f64 / n as f64).abs() < 1e-12);
            assert!((found.low - expected.low).abs() < 1e-12 && (found.high - expected.high).abs() < 1e-12);
        }
        // Ten equal groups: the interval is about √10 times as short.
        let (_, ten) = mean_of_proportions(&[(80, 100); 10]);
        let one = wilson(80, 100);
        assert!(((one.high - one.low) / (ten.high - ten.low) - 10f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn intervals_equal_published_ones() {
        // Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        check(81, 263, 0.2553, 0.3662);
        check(15, 148, 0.0624, 0.1605);
        check(0, 20, 0.0, 0.1611);
        check(1, 29, 0.0061, 0.1718);
        check(0, 0, 0.0, 1.0);
        check(10, 10, 0.7225, 1.0);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(successes: usize, n: usize, low: f64, high: f64) {
        let found = wilson(successes, n);
        // The published table has four digits.
        assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
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

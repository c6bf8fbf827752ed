//! Describes two runs on the same images by the images that only one of them classifies correctly.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF as _};

/// `McNemar`'s test of two runs (1947).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Number of images that only the first run classifies correctly.
    pub only_first: u64,
    /// Number of images that only the second run classifies correctly.
    pub only_second: u64,
    /// Two-sided p-value under the hypothesis that both are equally good (exact binomial test).
    pub p: f64,
}

impl McNemar {
    /// Tests pairs of (first is correct, second is correct), one per image.
    ///
    /// ```
    /// use cifar_eval::statistics::comparison::McNemar;
    ///
    /// let images = [(true, false), (true, false), (true, true), (false, true), (true, false)];
    /// let found = McNemar::of(images.into_iter());
    /// assert_eq!((found.only_first, found.only_second), (3, 1));
    /// assert!((found.p - 0.625).abs() < 1e-12);
    /// ```
    pub fn of(pairs: impl Iterator<Item = (bool, bool)>) -> Self {
        let (mut only_first, mut only_second) = (0, 0);
        for (first, second) in pairs {
            only_first += u64::from(first && !second);
            only_second += u64::from(second && !first);
        }
        let n = only_first + only_second;
        let tail = Binomial::new(0.5, n).map_or(0.5, |d| d.cdf(only_first.min(only_second)));
        Self { only_first, only_second, p: (2.0 * tail).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(only_first: usize, only_second: usize, p: f64) {
        let pairs = [vec![(true, false); only_first], vec![(false, true); only_second], vec![(true, true); 7]];
        let found = McNemar::of(pairs.concat().into_iter());
        assert_eq!((found.only_first, found.only_second), (only_first as u64, only_second as u64));
        assert!((found.p - p).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn p_values_agree_with_the_formula_and_scipy() {
        // 2·(1 + 10)/2¹⁰.
        check(1, 9, 22.0 / 1024.0);
        check(9, 1, 22.0 / 1024.0);
        check(0, 5, 2.0 / 32.0);
        check(4, 4, 1.0);
        check(0, 0, 1.0);
        // goldens.py, `mcnemar`.
        check(310, 250, MANY);
    }
    const MANY: f64 = 0.012_590_475_149_380_293;
}

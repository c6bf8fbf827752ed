//! Agreement between a score and known values, with bootstrap intervals.

use std::cmp::Ordering;

use cifar_data::random::{Purpose, stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::statistics::bootstrap::quantile;

/// Number of resamples for an interval.
pub const RESAMPLES: u64 = 1000;
/// Minimum number of images of either kind for an interval, or of images if the truth is a number.
/// Resamples of fewer images say little about other images: a single positive image is the same in
/// all of them.
const MIN_IMAGES: usize = 10;

/// A value with its 95 % bootstrap interval: the 2.5 % and 97.5 % quantiles over [`RESAMPLES`]
/// samples of the images, drawn with replacement.
///
/// There is no interval with fewer than 10 images whose truth is 1 or fewer than 10 whose truth is
/// 0; if the truth is a number, with fewer than 10 images. There is none either if all samples give
/// the same value, as for an AUROC of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BootstrapEstimate {
    /// Value on the images themselves.
    pub value: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

/// The kind of values that a truth has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TruthKind {
    /// 0 and 1. Measures are sorted by AUROC.
    Binary,
    /// Numbers. Measures are sorted by Spearman's ρ.
    Number,
}

impl TruthKind {
    /// Returns the kind of a column with these values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let is_binary = values.into_iter().all(|value| is_equal(value, 0.0) || is_equal(value, 1.0));
        if is_binary { Self::Binary } else { Self::Number }
    }
}

/// Agreement of a measure with a truth. All values but Spearman's ρ need a binary truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureAgreement {
    /// Number of images that have both.
    pub images: usize,
    /// Number of positives, n: images whose truth is 1.
    pub positives: Option<usize>,
    /// Probability that a positive image scores higher than another image, ties counted half.
    pub auroc: Option<BootstrapEstimate>,
    /// Mean over the positives of the precision at their score. Images with equal scores are taken
    /// together.
    pub average_precision: Option<BootstrapEstimate>,
    /// Fraction of positives among the 100 images with the highest scores, or among all if there
    /// are fewer. Ties at the end count proportionally.
    pub precision_at_100: Option<BootstrapEstimate>,
    /// Fraction of the positives that are among the n images with the highest scores.
    pub recall_at_n: Option<BootstrapEstimate>,
    /// Spearman's rank correlation, −1 to 1; 0 if the score or the truth is constant.
    pub spearman: BootstrapEstimate,
}

/// AUROC, average precision, precision at 100, recall at n, Spearman's ρ.
type Figures = [f64; 5];

impl MeasureAgreement {
    /// Computes the agreement of pairs of (score, truth), where higher scores are harder. Returns
    /// none if the truth is the same for all images. No value may be NaN. `seed` is that of the
    /// resamples.
    ///
    /// ```
    /// use cifar_eval::truth::{MeasureAgreement, TruthKind};
    ///
    /// let pairs = [(0.9, 1.0), (0.7, 0.0), (0.6, 1.0), (0.1, 0.0)];
    /// let found = MeasureAgreement::of(&pairs, TruthKind::Binary, 1).unwrap();
    /// let auroc = found.auroc.unwrap();
    /// assert_eq!((found.positives, auroc.value), (Some(2), 0.75));
    /// assert_eq!(auroc.low, None, "four images are too few for an interval");
    /// ```
    pub fn of(pairs: &[(f64, f64)], kind: TruthKind, seed: u64) -> Option<Self> {
        let first = pairs.first()?.1;
        if pairs.iter().all(|(_, truth)| is_equal(*truth, first)) {
            return None;
        }
        let is_binary = kind == TruthKind::Binary;
        let positives = pairs.iter().filter(|(_, truth)| is_equal(*truth, 1.0)).count();
        let smaller_group = if is_binary { positives.min(pairs.len() - positives) } else { pairs.len() };
        let sorted = Sorted::new(pairs);
        let value = sorted.figures(&vec![1; pairs.len()]);
        let samples: Vec<Figures> = (0..if smaller_group < MIN_IMAGES { 0 } else { RESAMPLES })
            .into_par_iter()
            .map(|round| {
                let mut random = stream(seed, Purpose::Bootstrap, round, pairs.len() as u64);
                let mut weights = vec![0; pairs.len()];
                for _ in 0..pairs.len() {
                    weights[random.below(pairs.len() as u64) as usize] += 1;
                }
                sorted.figures(&weights)
            })
            .collect();
        let estimate = |which: usize| {
            // A sample in which all images are positive, or none is, has no AUROC.
            let mut values: Vec<f64> = samples.iter().map(|s| s[which]).filter(|v| v.is_finite()).collect();
            values.sort_by(f64::total_cmp);
            let varies = values.first() < values.last();
            let [low, high] = [0.025, 0.975].map(|level| quantile(&values, level).filter(|_| varies));
            BootstrapEstimate { value: value[which], low, high }
        };
        let binary = |which| is_binary.then(|| estimate(which));
        Some(Self {
            images: pairs.len(),
            positives: is_binary.then_some(positives),
            auroc: binary(0),
            average_precision: binary(1),
            precision_at_100: binary(2),
            recall_at_n: binary(3),
            spearman: estimate(4),
        })
    }

    /// Returns the value that measures are sorted by: AUROC, or Spearman's ρ if the truth is a
    /// number.
    pub fn primary(&self) -> &BootstrapEstimate {
        self.auroc.as_ref().unwrap_or(&self.spearman)
    }
}

/// Pairs, grouped by equal score and by equal truth, both in descending order.
struct Sorted<'a> {
    pairs: &'a [(f64, f64)],
    by_score: Ties,
    by_truth: Ties,
}

impl<'a> Sorted<'a> {
    fn new(pairs: &'a [(f64, f64)]) -> Self {
        Self {
            pairs,
            by_score: Ties::new(pairs.len(), |i| pairs[i].0),
            by_truth: Ties::new(pairs.len(), |i| pairs[i].1),
        }
    }

    /// Computes the figures of a sample in which each pair occurs `weights[pair]` times.
    fn figures(&self, weights: &[u32]) -> Figures {
        let weight = |i: usize| f64::from(weights[i]);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let positives: f64 = (0..weights.len()).map(|i| weight(i) * self.pairs[i].1).sum();
        let (mut seen, mut found) = (0.0, 0.0);
        let (mut area, mut precision, mut at_100, mut at_n) = (0.0, 0.0, 0.0, 0.0);
        for group in self.by_score.iter() {
            let size: f64 = group.iter().map(|i| weight(*i)).sum();
            let hits: f64 = group.iter().map(|i| weight(*i) * self.pairs[*i].1).sum();
            if size == 0.0 {
                continue;
            }
            area += (size - hits) * (found + hits / 2.0);
            precision += hits * (found + hits) / (seen + size);
            // Expected number of positives of this group among the first `limit` images.
            let within = |limit: f64| hits * ((limit - seen).clamp(0.0, size) / size);
            at_100 += within(100.0);
            at_n += within(positives);
            (seen, found) = (seen + size, found + hits);
        }
        [
            area / (positives * (total - positives)),
            precision / positives,
            at_100 / total.min(100.0),
            at_n / positives,
            spearman(&mean_ranks(&self.by_score, weights), &mean_ranks(&self.by_truth, weights), weights),
        ]
    }
}

/// Returns whether two numbers are equal.
pub(super) fn is_equal(a: f64, b: f64) -> bool {
    a.partial_cmp(&b) == Some(Ordering::Equal)
}

/// Indices in descending order of their values, in groups of equal values.
struct Ties {
    order: Vec<usize>,
    /// End of each group in `order`.
    ends: Vec<usize>,
}

impl Ties {
    fn new(count: usize, value: impl Fn(usize) -> f64) -> Self {
        // Adding 0 turns −0 into 0, so that the two are adjacent.
        let key = |i: usize| value(i) + 0.0;
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| key(*b).total_cmp(&key(*a)).then(a.cmp(b)));
        let groups = order.chunk_by(|a, b| is_equal(key(*a), key(*b))).map(<[usize]>::len);
        let ends = groups.scan(0, |end, size| {
            *end += size;
            Some(*end)
        });
        let ends = ends.collect();
        Self { order, ends }
    }

    fn iter(&self) -> impl Iterator<Item = &[usize]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.order[start..*end])
    }
}

/// Returns the mean rank of each pair in the weighted sample.
fn mean_ranks(ties: &Ties, weights: &[u32]) -> Vec<f64> {
    let mut ranks = vec![0.0; weights.len()];
    let mut seen = 0.0;
    for group in ties.iter() {
        let size: f64 = group.iter().map(|i| f64::from(weights[*i])).sum();
        for i in group {
            ranks[*i] = seen + size / 2.0;
        }
        seen += size;
    }
    ranks
}

/// Returns Pearson's correlation of ranks.
fn spearman(score: &[f64], truth: &[f64], weights: &[u32]) -> f64 {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    // The mean rank is half the total, whatever the ties.
    let middle = total / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        (a.iter().zip(b).zip(weights)).map(|((a, b), w)| f64::from(*w) * (a - middle) * (b - middle)).sum()
    };
    let scale = (product(score, score) * product(truth, truth)).sqrt();
    if scale > 0.0 { product(score, truth) / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(f64, f64)], expected: Figures) {
        let found = Sorted::new(pairs).figures(&vec![1; pairs.len()]);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
    }

    #[test]
    fn figures_have_the_values_of_the_definitions() {
        // All positives first.
        check(&[(4.0, 1.0), (3.0, 1.0), (2.0, 0.0), (1.0, 0.0)], [1.0, 1.0, 0.5, 1.0, 0.8_f64.sqrt()]);
        // Order 1 0 1 0: three of four pairs are in order; the precisions are 1/1 and 2/3.
        let mixed = [(4.0, 1.0), (3.0, 0.0), (2.0, 1.0), (1.0, 0.0)];
        check(&mixed, [0.75, 5.0 / 6.0, 0.5, 0.5, 1.0 / 5.0_f64.sqrt()]);
        // A constant score carries no information.
        check(&[(1.0, 1.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)], [0.5, 0.25, 0.25, 0.25, 0.0]);
    }

    #[test]
    fn weights_are_repetitions() {
        let pairs = [(0.3, 1.0), (0.7, 0.0), (0.7, 1.0), (0.1, 0.0), (0.9, 1.0)];
        let weights = [2, 0, 1, 3, 1];
        let repeated: Vec<(f64, f64)> =
            pairs.iter().zip(weights).flat_map(|(pair, n)| std::iter::repeat_n(*pair, n as usize)).collect();
        let expected = Sorted::new(&repeated).figures(&vec![1; repeated.len()]);
        let found = Sorted::new(&pairs).figures(&weights);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
    }

    #[test]
    fn intervals_contain_the_value_and_numbers_have_only_a_correlation() {
        let pairs: Vec<(f64, f64)> = (0..200).map(|i| (f64::from(i % 17), f64::from(u8::from(i % 5 == 0)))).collect();
        let of =
            |pairs: &[(f64, f64)]| MeasureAgreement::of(pairs, TruthKind::of(pairs.iter().map(|(_, truth)| *truth)), 1);
        let found = of(&pairs).unwrap();
        assert_eq!((found.images, found.positives), (200, Some(40)));
        let auroc = found.auroc.unwrap();
        let (low, high) = (auroc.low.unwrap(), auroc.high.unwrap());
        assert!(low < auroc.value && auroc.value < high && high - low < 0.3, "{auroc:?}");
        assert_eq!((&found, found.primary()), (&of(&pairs).unwrap(), &auroc));
        let numbers: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(i * 7 % 50 + i))).collect();
        let found = of(&numbers).unwrap();
        let rho = *found.primary();
        assert!(found.auroc.is_none() && rho == found.spearman, "{found:?}");
        assert!(rho.low.unwrap() < rho.value && rho.value < rho.high.unwrap(), "{rho:?}");
        assert_eq!(of(&[(1.0, 1.0), (2.0, 1.0)]), None);
        // A column of numbers stays one, even if a split of it contains only 0 and 1.
        assert!(MeasureAgreement::of(&pairs, TruthKind::Number, 1).unwrap().auroc.is_none());
        assert!(of(&[(0.0, 0.0), (-0.0, 1.0)]).is_some_and(|a| is_equal(a.auroc.unwrap().value, 0.5)), "−0 equals 0");
    }

    #[test]
    fn too_few_images_and_perfect_order_give_no_interval() {
        let interval = |positives: i32, others: i32| {
            let positive = (0..positives).map(|i| (f64::from(i % 2), 1.0));
            let pairs: Vec<(f64, f64)> = positive.chain((0..others).map(|i| (f64::from(i % 3) - 1.0, 0.0))).collect();
            let auroc = MeasureAgreement::of(&pairs, TruthKind::Binary, 1).unwrap().auroc.unwrap();
            auroc.low.zip(auroc.high)
        };
        for (positives, others) in [(1, 500), (9, 500), (500, 9)] {
            assert_eq!(interval(positives, others), None, "{positives} and {others}");
        }
        assert!(interval(10, 500).is_some_and(|(low, high)| low < high));
        // Perfect order is perfect in every resample, so resamples say nothing about other images.
        let perfect: Vec<(f64, f64)> = (0..40).map(|i| (f64::from(i), f64::from(u8::from(i > 19)))).collect();
        let auroc = MeasureAgreement::of(&perfect, TruthKind::Binary, 1).unwrap().auroc.unwrap();
        assert_eq!((auroc.low, auroc.high), (None, None));
    }

    #[test]
    fn nineteen_of_twenty_intervals_cover_the_true_auroc() {
        // Scores are normal with means 1 apart, so the AUROC is Φ(1/√2).
        let truth = 0.760_249_938_906_523;
        let covers = |trial: u64| {
            let mut draws = stream(trial, Purpose::Synthetic, 2, 0);
            let pairs: Vec<(f64, f64)> = (0..120)
                .map(|i| {
                    let positive = f64::from(u8::from(i % 3 == 0));
                    (draws.normal() + positive, positive)
                })
                .collect();
            let auroc = MeasureAgreement::of(&pairs, TruthKind::Binary, trial).unwrap().auroc.unwrap();
            auroc.low.unwrap() <= truth && truth <= auroc.high.unwrap()
        };
        let trials = 400;
        let fraction = (0..trials).filter(|t| covers(*t)).count() as f64 / trials as f64;
        // Percentile intervals of 40 and 80 images cover slightly less than 95 %. Three standard
        // errors are 0.033.
        assert!((0.90..=0.985).contains(&fraction), "{fraction}");
    }
}

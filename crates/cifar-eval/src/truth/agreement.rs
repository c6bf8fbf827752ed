//! Figures of agreement between a score and a truth, with bootstrap intervals.

use std::cmp::Ordering;

use cifar_data::random::{Purpose, stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::statistics::bootstrap::quantile;

/// Resamples of an interval.
pub const RESAMPLES: u64 = 1000;
/// An interval needs as many images of either kind, or as many images where the truth is a number.
/// Resamples of fewer say hardly anything of other images: one positive image is the same in all of them.
const LEAST: usize = 10;

/// A figure with its 95 % interval: the 2.5 % and 97.5 % quantiles over [`RESAMPLES`] samples of the
/// images, drawn with replacement.
///
/// There is no interval with fewer than 10 images whose truth is 1, or fewer than 10 whose truth is 0
/// (fewer than 10 images where the truth is a number), and none where all samples give the same figure,
/// as with an AUROC of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On the images themselves.
    pub value: f64,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// What a truth is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 0 and 1: measures are ordered by AUROC.
    Binary,
    /// Numbers: measures are ordered by Spearman's ρ.
    Number,
}

impl Kind {
    /// The kind of a column with these values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let is_binary = values.into_iter().all(|value| is(value, 0.0) || is(value, 1.0));
        if is_binary { Self::Binary } else { Self::Number }
    }
}

/// How a score agrees with a truth. All but Spearman's ρ need a truth of 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Number of images with both.
    pub images: usize,
    /// Those whose truth is 1, n.
    pub positives: Option<usize>,
    /// Probability that an image whose truth is 1 scores higher than one whose truth is 0, ties counted half.
    pub auroc: Option<Estimate>,
    /// Mean of the precision over the positives, each at its own score; images with the same score come together.
    pub average_precision: Option<Estimate>,
    /// Share of positives among the 100 that score highest (of all, if there are fewer); of ties at the end a share counts.
    pub precision_at_100: Option<Estimate>,
    /// Share of the positives among the n that score highest.
    pub recall_at_n: Option<Estimate>,
    /// Spearman's rank correlation, −1 to 1; 0 where one of both is constant.
    pub spearman: Estimate,
}

/// AUROC, average precision, precision at 100, recall at n, Spearman's ρ.
type Figures = [f64; 5];

impl Agreement {
    /// Returns the agreement of pairs of score (higher is harder) and truth; none if the truth is the same
    /// for all of them. No value may be NaN.
    pub fn of(pairs: &[(f64, f64)], kind: Kind, seed: u64) -> Option<Self> {
        let first = pairs.first()?.1;
        if pairs.iter().all(|(_, truth)| is(*truth, first)) {
            return None;
        }
        let is_binary = kind == Kind::Binary;
        let positives = pairs.iter().filter(|(_, truth)| is(*truth, 1.0)).count();
        let least = if is_binary { positives.min(pairs.len() - positives) } else { pairs.len() };
        let sorted = Sorted::new(pairs);
        let value = sorted.figures(&vec![1; pairs.len()]);
        let samples: Vec<Figures> = (0..if least < LEAST { 0 } else { RESAMPLES })
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
            // A sample without a positive image, or without another, has no AUROC.
            let mut values: Vec<f64> = samples.iter().map(|s| s[which]).filter(|v| v.is_finite()).collect();
            values.sort_by(f64::total_cmp);
            let varies = values.first() < values.last();
            let [low, high] = [0.025, 0.975].map(|share| quantile(&values, share).filter(|_| varies));
            Estimate { value: value[which], low, high }
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

    /// The figure that measures are ordered by: AUROC, or Spearman's ρ where the truth is a number.
    pub fn key(&self) -> &Estimate {
        self.auroc.as_ref().unwrap_or(&self.spearman)
    }
}

/// Pairs in the order of their scores, highest first, and in that of their truth.
struct Sorted<'a> {
    pairs: &'a [(f64, f64)],
    by_score: Groups,
    by_truth: Groups,
}

impl<'a> Sorted<'a> {
    fn new(pairs: &'a [(f64, f64)]) -> Self {
        Self {
            pairs,
            by_score: Groups::new(pairs.len(), |i| pairs[i].0),
            by_truth: Groups::new(pairs.len(), |i| pairs[i].1),
        }
    }

    /// With each pair as many times as its weight says.
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
            // The part of the group that still belongs to the first `limit`.
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
            spearman(&places(&self.by_score, weights), &places(&self.by_truth, weights), weights),
        ]
    }
}

/// Whether two numbers are the same.
pub(super) fn is(one: f64, other: f64) -> bool {
    one.partial_cmp(&other) == Some(Ordering::Equal)
}

/// Places in descending order of their values, with equal values in one group.
struct Groups {
    order: Vec<usize>,
    /// Where each group ends in `order`.
    ends: Vec<usize>,
}

impl Groups {
    fn new(count: usize, value: impl Fn(usize) -> f64) -> Self {
        // So that −0 and 0, which are equal, are neighbours.
        let key = |i: usize| value(i) + 0.0;
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| key(*b).total_cmp(&key(*a)).then(a.cmp(b)));
        let groups = order.chunk_by(|a, b| is(key(*a), key(*b))).map(<[usize]>::len);
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

/// The mean place of each pair.
fn places(groups: &Groups, weights: &[u32]) -> Vec<f64> {
    let mut places = vec![0.0; weights.len()];
    let mut seen = 0.0;
    for group in groups.iter() {
        let size: f64 = group.iter().map(|i| f64::from(weights[*i])).sum();
        for i in group {
            places[*i] = seen + size / 2.0;
        }
        seen += size;
    }
    places
}

/// Pearson's correlation of places.
fn spearman(one: &[f64], other: &[f64], weights: &[u32]) -> f64 {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    // The mean place is half of all, whatever the ties.
    let middle = total / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        (a.iter().zip(b).zip(weights)).map(|((a, b), w)| f64::from(*w) * (a - middle) * (b - middle)).sum()
    };
    let scale = (product(one, one) * product(other, other)).sqrt();
    if scale > 0.0 { product(one, other) / scale } else { 0.0 }
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
    fn figures_by_hand() {
        // All positives first.
        check(&[(4.0, 1.0), (3.0, 1.0), (2.0, 0.0), (1.0, 0.0)], [1.0, 1.0, 0.5, 1.0, 0.8_f64.sqrt()]);
        // Order 1 0 1 0: three of four pairs are right; precision 1/1 and 2/3.
        let mixed = [(4.0, 1.0), (3.0, 0.0), (2.0, 1.0), (1.0, 0.0)];
        check(&mixed, [0.75, 5.0 / 6.0, 0.5, 0.5, 1.0 / 5.0_f64.sqrt()]);
        // A constant score knows nothing.
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
    fn intervals_hold_the_value_and_numbers_have_a_correlation_only() {
        let pairs: Vec<(f64, f64)> = (0..200).map(|i| (f64::from(i % 17), f64::from(u8::from(i % 5 == 0)))).collect();
        let of = |pairs: &[(f64, f64)]| Agreement::of(pairs, Kind::of(pairs.iter().map(|(_, truth)| *truth)), 1);
        let found = of(&pairs).unwrap();
        assert_eq!((found.images, found.positives), (200, Some(40)));
        let auroc = found.auroc.unwrap();
        let (low, high) = (auroc.low.unwrap(), auroc.high.unwrap());
        assert!(low < auroc.value && auroc.value < high && high - low < 0.3, "{auroc:?}");
        assert_eq!((&found, found.key()), (&of(&pairs).unwrap(), &auroc));
        let numbers: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(i * 7 % 50 + i))).collect();
        let found = of(&numbers).unwrap();
        let key = *found.key();
        assert!(found.auroc.is_none() && key == found.spearman, "{found:?}");
        assert!(key.low.unwrap() < key.value && key.value < key.high.unwrap(), "{key:?}");
        assert_eq!(of(&[(1.0, 1.0), (2.0, 1.0)]), None);
        // A part of a column of numbers that happens to hold 0 and 1 alone is still one of numbers.
        assert!(Agreement::of(&pairs, Kind::Number, 1).unwrap().auroc.is_none());
        assert!(of(&[(0.0, 0.0), (-0.0, 1.0)]).is_some_and(|a| is(a.auroc.unwrap().value, 0.5)), "−0 is 0");
    }

    #[test]
    fn what_resamples_cannot_tell_has_no_interval() {
        let interval = |positives: i32, others: i32| {
            let one = (0..positives).map(|i| (f64::from(i % 2), 1.0));
            let pairs: Vec<(f64, f64)> = one.chain((0..others).map(|i| (f64::from(i % 3) - 1.0, 0.0))).collect();
            let auroc = Agreement::of(&pairs, Kind::Binary, 1).unwrap().auroc.unwrap();
            auroc.low.zip(auroc.high)
        };
        for (positives, others) in [(1, 500), (9, 500), (500, 9)] {
            assert_eq!(interval(positives, others), None, "{positives} and {others}");
        }
        assert!(interval(10, 500).is_some_and(|(low, high)| low < high));
        // Perfect order is perfect in every resample, whatever other images would show.
        let perfect: Vec<(f64, f64)> = (0..40).map(|i| (f64::from(i), f64::from(u8::from(i > 19)))).collect();
        let auroc = Agreement::of(&perfect, Kind::Binary, 1).unwrap().auroc.unwrap();
        assert_eq!((auroc.low, auroc.high), (None, None));
    }

    #[test]
    fn nineteen_of_twenty_intervals_cover_the_true_auroc() {
        // Scores of normal draws one apart: the AUROC is Φ(1/√2).
        let truth = 0.760_249_938_906_523;
        let covers = |trial: u64| {
            let mut draws = stream(trial, Purpose::Synthetic, 2, 0);
            let pairs: Vec<(f64, f64)> = (0..120)
                .map(|i| {
                    let positive = f64::from(u8::from(i % 3 == 0));
                    (draws.normal() + positive, positive)
                })
                .collect();
            let auroc = Agreement::of(&pairs, Kind::Binary, trial).unwrap().auroc.unwrap();
            auroc.low.unwrap() <= truth && truth <= auroc.high.unwrap()
        };
        let trials = 400;
        let share = (0..trials).filter(|t| covers(*t)).count() as f64 / trials as f64;
        // Percentile intervals of 40 and 80 images cover a little less; three standard errors are 0.033.
        assert!((0.90..=0.985).contains(&share), "{share}");
    }
}

//! Figures of agreement between a score and a truth, with bootstrap intervals.

use std::cmp::Ordering;

use cifar_data::random::{Purpose, stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Resamples of an interval.
const RESAMPLES: u64 = 200;

/// A figure with its 95 % interval: the 2.5 % and 97.5 % quantiles over 200 samples of the images, drawn with replacement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On the images themselves.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
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
    /// Of pairs of score (higher is harder) and truth. None if the truth is the same for all.
    pub fn of(pairs: &[(f64, f64)], seed: u64) -> Option<Self> {
        let first = pairs.first()?.1;
        if pairs.iter().all(|(_, truth)| is(*truth, first)) {
            return None;
        }
        let is_binary = pairs.iter().all(|(_, truth)| is(*truth, 0.0) || is(*truth, 1.0));
        let sorted = Sorted::new(pairs);
        let value = sorted.figures(&vec![1; pairs.len()]);
        let samples: Vec<Figures> = (0..RESAMPLES)
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
            let quantile = |q: f64| values.get((q * values.len() as f64) as usize).copied().unwrap_or(value[which]);
            Estimate { value: value[which], low: quantile(0.025), high: quantile(0.975) }
        };
        let binary = |which| is_binary.then(|| estimate(which));
        Some(Self {
            images: pairs.len(),
            positives: is_binary.then(|| pairs.iter().filter(|(_, truth)| is(*truth, 1.0)).count()),
            auroc: binary(0),
            average_precision: binary(1),
            precision_at_100: binary(2),
            recall_at_n: binary(3),
            spearman: estimate(4),
        })
    }
}

/// Pairs in the order of their scores, highest first, and in that of their truth.
struct Sorted<'a> {
    pairs: &'a [(f64, f64)],
    by_score: Vec<Vec<usize>>,
    by_truth: Vec<Vec<usize>>,
}

impl<'a> Sorted<'a> {
    fn new(pairs: &'a [(f64, f64)]) -> Self {
        Self { pairs, by_score: ties(pairs.len(), |i| pairs[i].0), by_truth: ties(pairs.len(), |i| pairs[i].1) }
    }

    /// With each pair as many times as its weight says.
    fn figures(&self, weights: &[u32]) -> Figures {
        let weight = |i: usize| f64::from(weights[i]);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let positives: f64 = (0..weights.len()).map(|i| weight(i) * self.pairs[i].1).sum();
        let (mut seen, mut found) = (0.0, 0.0);
        let (mut area, mut precision, mut at_100, mut at_n) = (0.0, 0.0, 0.0, 0.0);
        for group in &self.by_score {
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

/// Places in descending order of their values; equal values stand in one group.
fn ties(count: usize, value: impl Fn(usize) -> f64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| value(*b).total_cmp(&value(*a)).then(a.cmp(b)));
    let is_equal = |a: &usize, b: &usize| is(value(*a), value(*b));
    order.chunk_by(is_equal).map(<[usize]>::to_vec).collect()
}

/// The mean place of each pair.
fn places(groups: &[Vec<usize>], weights: &[u32]) -> Vec<f64> {
    let mut places = vec![0.0; weights.len()];
    let mut seen = 0.0;
    for group in groups {
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
        let found = Agreement::of(&pairs, 1).unwrap();
        assert_eq!((found.images, found.positives), (200, Some(40)));
        let auroc = found.auroc.unwrap();
        assert!(auroc.low < auroc.value && auroc.value < auroc.high && auroc.high - auroc.low < 0.3, "{auroc:?}");
        assert_eq!(found, Agreement::of(&pairs, 1).unwrap());
        let numbers: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(i * i))).collect();
        let found = Agreement::of(&numbers, 1).unwrap();
        assert!(found.auroc.is_none() && (found.spearman.value - 1.0).abs() < 1e-12);
        assert_eq!(Agreement::of(&[(1.0, 1.0), (2.0, 1.0)], 1), None);
    }
}

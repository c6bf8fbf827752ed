//! The number of images of each class and partition that a fraction takes.

use std::collections::BTreeMap;

use crate::partitions::Partition;
use crate::random::{Purpose, stream};

/// The images of one class in one partition.
pub(super) type Stratum = (Partition, u16);

/// Smallest difference from an exact number that is corrected: this number of images, and this
/// fraction of it.
const OF_CLASS: (f64, f64) = (1.0, 0.05);
/// The same for a shortfall of all classes together.
const OF_ALL: (f64, f64) = (2.0, 0.05);

/// Returns the number of images of each stratum that `fraction` takes, given the strata's sizes.
///
/// Every stratum is rounded on its own, so its count depends on no other. There are two exceptions:
/// - a class whose count is off by at least one image and 5 %, or that has no image although at
///   least half of one is due: the class is rounded as a whole, and its count is divided over its
///   partitions by largest remainders;
/// - all classes together are short by at least two images and 5 %, or have no image: the total is
///   divided over the classes by largest remainders.
///
/// So classes of any size get their due. Classes with more than 30 due images never meet the first
/// exception, since three roundings differ by 1.5 at most. `seed` decides between equal remainders.
pub(super) fn of(sizes: &BTreeMap<Stratum, usize>, fraction: f64, seed: u64) -> BTreeMap<Stratum, usize> {
    let share = |size: usize| size as f64 * fraction;
    let mut counts: BTreeMap<Stratum, usize> =
        sizes.iter().map(|(stratum, size)| (*stratum, share(*size).round() as usize)).collect();
    let by_class = |of: &BTreeMap<Stratum, usize>| {
        let mut sums: BTreeMap<u16, usize> = BTreeMap::new();
        for ((_, class), n) in of {
            *sums.entry(*class).or_default() += n;
        }
        sums
    };
    let rounded = by_class(&counts);
    let exact: BTreeMap<u16, f64> = by_class(sizes).into_iter().map(|(class, size)| (class, share(size))).collect();
    let mut wanted: BTreeMap<u16, usize> = (rounded.iter())
        .map(|(class, count)| {
            let exact = exact[class];
            let is_near = (*count as f64 - exact).abs() < least(OF_CLASS, exact) && !is_missing(*count, exact);
            (*class, if is_near { *count } else { exact.round() as usize })
        })
        .collect();
    let whole = share(sizes.values().sum());
    let sum: usize = wanted.values().sum();
    if whole - sum as f64 >= least(OF_ALL, whole) || is_missing(sum, whole) {
        wanted = by_largest_remainder(&exact, whole.round() as usize, |class| draw(seed, None, *class));
    }
    for (class, count) in wanted {
        if rounded[&class] != count {
            let of_class = sizes.iter().filter(|((_, other), _)| *other == class);
            let exact: BTreeMap<Stratum, f64> = of_class.map(|(stratum, size)| (*stratum, share(*size))).collect();
            counts
                .extend(by_largest_remainder(&exact, count, |(partition, class)| draw(seed, Some(*partition), *class)));
        }
    }
    counts
}

fn least((images, fraction): (f64, f64), exact: f64) -> f64 {
    images.max(fraction * exact)
}

/// Returns whether there is no image although at least half of one is due.
fn is_missing(count: usize, exact: f64) -> bool {
    count == 0 && exact >= 0.5
}

/// Rounds each exact number down, and adds one to those with the largest remainders until the sum
/// is `total`. `draw` decides between equal remainders.
fn by_largest_remainder<K: Ord + Copy>(
    exact: &BTreeMap<K, f64>,
    total: usize,
    draw: impl Fn(&K) -> u64,
) -> BTreeMap<K, usize> {
    let mut counts: BTreeMap<K, usize> = exact.iter().map(|(key, exact)| (*key, exact.floor() as usize)).collect();
    // Remainders that differ by less than rounding errors count as equal.
    let remainder = |exact: f64| ((exact - exact.floor()) * 1e9).round() as u64;
    let mut order: Vec<(u64, u64, K)> = exact.iter().map(|(key, exact)| (remainder(*exact), draw(key), *key)).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    let left = total.saturating_sub(counts.values().sum());
    for (.., key) in order.into_iter().take(left) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Returns a draw for a class, or for one of its partitions.
fn draw(seed: u64, partition: Option<Partition>, class: u16) -> u64 {
    let place = partition.map_or(0, |partition| u64::from(partition.number()));
    stream(seed, Purpose::Split, 2 + place, u64::from(class)).bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns counts by partition and class, of sizes by class and partition.
    fn counts(sizes: &[[usize; 3]], fraction: f64, seed: u64) -> Vec<[usize; 3]> {
        let strata = (0..)
            .zip(sizes)
            .flat_map(|(class, sizes)| Partition::FIRST.map(|p| ((p, class), sizes[usize::from(p.number() - 1)])));
        let found = of(&strata.collect(), fraction, seed);
        (0..).zip(sizes).map(|(class, _)| Partition::FIRST.map(|p| found[&(p, class)])).collect()
    }

    fn totals(counts: &[[usize; 3]]) -> Vec<usize> {
        counts.iter().map(|counts| counts.iter().sum()).collect()
    }

    #[test]
    fn every_class_gets_its_fraction() {
        // A fifth of 3, 5, 8, 12, 21 and 24 images. By strata alone it would be 0, 0, 0, 3, 3 and
        // 6.
        let sizes = [[1, 1, 1], [2, 2, 1], [3, 3, 2], [4, 4, 4], [7, 7, 7], [8, 8, 8]];
        for seed in 0..20 {
            let found = counts(&sizes, 0.2, seed);
            assert_eq!(totals(&found), [1, 1, 2, 3, 4, 5]);
            for (found, sizes) in found.iter().zip(sizes) {
                assert!((0..3).all(|p| (found[p] as f64 - sizes[p] as f64 * 0.2).abs() < 1.0), "{found:?}");
            }
        }
        let first = |seed| counts(&sizes, 0.2, seed)[0];
        assert!((1..20).any(|seed| first(seed) != first(0)), "the seed decides between equal partitions");
    }

    #[test]
    fn tiny_classes_share_their_combined_number_of_images() {
        // 100 classes of two images: 0.4 images of each, 40 of all.
        let sizes: Vec<[usize; 3]> = (0..100).map(|c| if c % 2 == 0 { [1, 1, 0] } else { [0, 1, 1] }).collect();
        let found = totals(&counts(&sizes, 0.2, 0));
        assert_eq!((found.iter().sum::<usize>(), found.iter().max()), (40, Some(&1)));
        assert!(found[..40].contains(&0) && found[60..].contains(&1), "not the first ones: {found:?}");
        assert_ne!(found, totals(&counts(&sizes, 0.2, 1)));
        assert_eq!(totals(&counts(&[[1, 1, 0], [1, 0, 0]], 0.9, 0)), [2, 1]);
        assert_eq!(totals(&counts(&sizes, 0.0, 0)), vec![0; 100]);
        // Two classes of two images: 0.8 images of all.
        assert_eq!(totals(&counts(&[[1, 1, 0], [1, 1, 0]], 0.2, 0)).iter().sum::<usize>(), 1);
        // Three images: 0.6 of each, so each gets one.
        assert_eq!(totals(&counts(&vec![[1, 1, 1]; 100], 0.2, 0)), vec![1; 100]);
    }

    #[test]
    fn large_classes_are_rounded_by_strata() {
        // Rounding by strata gives the third class 1.2 images more than its exact number.
        let large = [[1987, 2013, 1999], [2001, 1996, 2002], [203, 203, 203]];
        let by_strata = large.map(|sizes| sizes.map(|n| (n as f64 * 0.2).round() as usize));
        assert_eq!(counts(&large, 0.2, 0), by_strata);
        let mixed: Vec<[usize; 3]> = large.into_iter().chain([[1, 1, 1], [2, 2, 1]]).collect();
        assert_eq!(counts(&mixed, 0.2, 0)[..3], by_strata);
    }
}

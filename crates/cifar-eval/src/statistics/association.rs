//! Tests whether a property goes along with an outcome: a rank test for numbers, Fisher's test for
//! yes and no, and corrections for many tests.

use std::cmp::Ordering;

use statrs::distribution::{ContinuousCDF as _, Discrete as _, Hypergeometric, Normal};

/// The result of a test for association.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Association {
    /// Size of the effect, as the test defines it.
    pub effect: f64,
    /// Number of observations.
    pub n: usize,
    /// Two-sided p-value under the hypothesis of no association.
    pub p: f64,
}

/// Tests whether numbers are greater where the outcome holds (van Elteren 1960): the test of
/// Wilcoxon, Mann and Whitney within each stratum, summed with the weights 1/(N + 1). Ties get
/// their mean rank; the p-value is from the normal approximation.
///
/// Each stratum has pairs of (number, outcome). The effect is an AUROC: the probability that a
/// number with the outcome is greater than a number of the same stratum without it, with the
/// weights of the test and ties counted half. It is ½ without association. Returns none if no
/// stratum has both outcomes and two different numbers.
///
/// ```
/// use cifar_eval::statistics::association::rank_test;
///
/// let stratum: Vec<(f64, bool)> = (0..20).map(|i| (f64::from(i), i >= 10)).collect();
/// let found = rank_test(&[stratum]).unwrap();
/// assert!(found.effect == 1.0 && found.p < 0.001);
/// ```
pub fn rank_test(strata: &[Vec<(f64, bool)>]) -> Option<Association> {
    let (mut greater_pairs, mut pairs, mut difference, mut variance) = (0.0, 0.0, 0.0, 0.0);
    for stratum in strata {
        let mut sorted = stratum.clone();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let n = sorted.len() as f64;
        let with = sorted.iter().filter(|(_, outcome)| *outcome).count() as f64;
        let product = with * (n - with);
        if product == 0.0 {
            continue;
        }
        let (mut ranks, mut ties, mut seen) = (0.0, 0.0, 0.0);
        for equal in sorted.chunk_by(|a, b| a.0.partial_cmp(&b.0) == Some(Ordering::Equal)) {
            let size = equal.len() as f64;
            let hits = equal.iter().filter(|(_, outcome)| *outcome).count() as f64;
            ranks += hits * (seen + f64::midpoint(size, 1.0));
            ties += size * size * size - size;
            seen += size;
        }
        let greater = ranks - with * (with + 1.0) / 2.0;
        let weight = 1.0 / (n + 1.0);
        greater_pairs += weight * greater;
        pairs += weight * product;
        difference += weight * (greater - product / 2.0);
        variance += weight * weight * product / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    }
    if variance <= 0.0 {
        return None;
    }
    let n = strata.iter().map(Vec::len).sum();
    Some(Association { effect: greater_pairs / pairs, n, p: two_sided(difference / variance.sqrt()) })
}

/// Tests whether an outcome is more frequent with a property than without (Fisher's exact test,
/// 1922). The two-sided p-value is the probability of all tables that are at most as probable.
///
/// `with` and `without` are (number of outcomes, number of observations). The effect is the odds
/// ratio, with ½ added to every cell so that it is finite (Haldane 1956). Returns none if only one
/// table has these margins.
///
/// ```
/// use cifar_eval::statistics::association::fisher_test;
///
/// // 3 of 4 dark images are misclassified, and 1 of 4 others.
/// let found = fisher_test((3, 4), (1, 4)).unwrap();
/// assert!((found.p - 0.486).abs() < 0.001 && found.effect > 5.0);
/// ```
pub fn fisher_test(with: (usize, usize), without: (usize, usize)) -> Option<Association> {
    let n = with.1 + without.1;
    let outcomes = with.0 + without.0;
    if with.1 == 0 || without.1 == 0 || outcomes == 0 || outcomes == n {
        return None;
    }
    let [a, b, c, d] = [with.0, with.1 - with.0, without.0, without.1 - without.0].map(|count| count as f64 + 0.5);
    let tables = Hypergeometric::new(n as u64, outcomes as u64, with.1 as u64).ok()?;
    let (fewest, most) = (outcomes.saturating_sub(without.1), outcomes.min(with.1));
    // The tolerance keeps equally probable tables in, whatever their rounding.
    let at_most = tables.ln_pmf(with.0 as u64) + 1e-7;
    let p: f64 = (fewest..=most).map(|k| tables.ln_pmf(k as u64)).filter(|ln| *ln <= at_most).map(libm::exp).sum();
    Some(Association { effect: (a * d) / (b * c), n, p: p.min(1.0) })
}

/// Returns p-values corrected for the number of tests (Holm 1979), in the order of `p`.
///
/// If all tests below a level are reported, the probability of any false report is at most that
/// level, however the tests depend on each other.
///
/// ```
/// use cifar_eval::statistics::association::holm;
///
/// assert_eq!(holm(&[0.5, 0.01]), [0.5, 0.02]);
/// ```
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

/// Returns q-values (Benjamini & Hochberg 1995), in the order of `p`.
///
/// If all tests with q up to a level are reported, the expected fraction of false reports is at
/// most that level. Tests must be independent or positively dependent (Benjamini & Yekutieli 2001).
///
/// ```
/// use cifar_eval::statistics::association::benjamini_hochberg;
///
/// assert_eq!(benjamini_hochberg(&[0.5, 0.01]), [0.5, 0.02]);
/// ```
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    let (mut corrected, mut lowest) = (vec![0.0; p.len()], 1.0f64);
    for (larger, index) in order.into_iter().enumerate() {
        let rank = (p.len() - larger) as f64;
        lowest = lowest.min(p[index] * p.len() as f64 / rank);
        corrected[index] = lowest;
    }
    corrected
}

fn two_sided(z: f64) -> f64 {
    Normal::standard().sf(z.abs()) * 2.0
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{found} {expected}");
    }

    /// The observations of goldens.py, `mann_whitney`.
    fn observations() -> Vec<(f64, bool)> {
        (0..40).map(|i| (f64::from(i * 7 % 13), i % 3 == 0)).collect()
    }

    #[test]
    fn one_stratum_gives_the_mann_whitney_test() {
        let found = rank_test(&[observations()]).unwrap();
        close(found.effect, MANN_WHITNEY.0);
        close(found.p, MANN_WHITNEY.1);
        assert_eq!(found.n, 40);
    }
    const MANN_WHITNEY: (f64, f64) = (0.467_032_967_032_967_04, 0.732_950_108_356_891_4);

    #[test]
    fn strata_are_added_and_those_with_one_outcome_are_ignored() {
        let twice = rank_test(&[observations(), observations()]).unwrap();
        let once = rank_test(&[observations()]).unwrap();
        close(twice.effect, once.effect);
        assert!(twice.p < once.p, "doubled observations are stronger evidence");
        let one_outcome = vec![(1.0, true), (2.0, true)];
        close(rank_test(&[observations(), one_outcome.clone()]).unwrap().p, once.p);
        assert_eq!(rank_test(&[one_outcome]), None);
        assert_eq!(rank_test(&[vec![(1.0, true), (1.0, false)]]), None, "equal numbers carry no information");
        // A difference between strata is not a difference within them.
        let low = vec![(1.0, true), (2.0, false), (1.0, false), (2.0, true)];
        let high = vec![(101.0, true), (102.0, true), (101.0, true), (102.0, true), (101.0, false), (102.0, false)];
        close(rank_test(&[low, high]).unwrap().p, 1.0);
    }

    #[test]
    fn fisher_agrees_with_scipy() {
        // goldens.py, `fisher`.
        let check = |with, without, p| close(fisher_test(with, without).unwrap().p, p);
        check((3, 4), (1, 4), 0.485_714_285_714_285_65);
        check((60, 385), (300, 3616), 1.289_201_847_379_652e-5);
        check((0, 10), (5, 12), 0.039_644_565_960_355_434);
        check((900, 3000), (850, 3000), 0.163_990_956_242_058_26);
        close(fisher_test((3, 4), (1, 4)).unwrap().effect, (3.5 * 3.5) / (1.5 * 1.5));
        for (with, without) in [((0, 0), (1, 2)), ((0, 3), (0, 3)), ((2, 2), (5, 5))] {
            assert_eq!(fisher_test(with, without), None);
        }
    }

    #[test]
    fn holm_agrees_with_the_definition() {
        let check = |p: &[f64], expected: &[f64]| {
            for (found, expected) in holm(p).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{p:?}: {:?}", holm(p));
            }
        };
        // 4·0.005; 3·0.01; 2·0.03; 0.04, which must not be below the previous value.
        check(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
        check(&[0.5, 0.6], &[1.0, 1.0]);
        check(&[], &[]);
    }

    #[test]
    fn benjamini_hochberg_agrees_with_the_definition() {
        let check = |p: &[f64], expected: &[f64]| {
            benjamini_hochberg(p).iter().zip(expected).for_each(|(found, expected)| close(*found, *expected));
        };
        // 4·0.01/2; min(4·0.04/4, …); 4·0.03/3 = 0.04; 4·0.005/1.
        check(&[0.01, 0.04, 0.03, 0.005], &[0.02, 0.04, 0.04, 0.02]);
        check(&[0.9, 0.5], &[0.9, 0.9]);
        check(&[], &[]);
    }

    #[test]
    fn without_association_one_test_in_twenty_is_significant() {
        let trials = 2000;
        let mut draws = stream(5, Purpose::Synthetic, 0, 0);
        let mut false_alarms = 0;
        for _ in 0..trials {
            let strata: Vec<Vec<(f64, bool)>> =
                (0..3).map(|_| (0..40).map(|_| (draws.normal(), draws.chance(0.3))).collect()).collect();
            false_alarms += usize::from(rank_test(&strata).is_some_and(|found| found.p < 0.05));
        }
        let fraction = false_alarms as f64 / f64::from(trials);
        // Four standard errors of a fraction of 0.05 in 2,000 are 0.019.
        assert!((fraction - 0.05).abs() < 0.02, "{fraction}");
    }
}

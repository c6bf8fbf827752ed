//! Whether a property goes with an outcome: rank tests for numbers, Fisher's test for yes and no, and
//! corrections for many tests.

use std::cmp::Ordering;

use statrs::distribution::{ContinuousCDF as _, Discrete as _, Hypergeometric, Normal};

/// A tested association.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Association {
    /// How strong it is: see the test.
    pub effect: f64,
    /// Observations.
    pub n: usize,
    /// Two-sided probability of one so strong if there was none.
    pub p: f64,
}

/// Whether a number is greater where the outcome holds: van Elteren's test (1960), which is Wilcoxon's and Mann & Whitney's
/// within each stratum, added up with the weights 1/(N + 1); ties at their mean rank, normal approximation.
///
/// `strata` holds pairs of number and outcome. The effect is an AUROC: the probability that a number with the outcome is
/// greater than one of its stratum without it, ties counted half, in the test's weights; ½ if there is nothing to tell. None if no
/// stratum has both outcomes and two different numbers.
pub fn rank_test(strata: &[Vec<(f64, bool)>]) -> Option<Association> {
    let (mut above, mut pairs, mut difference, mut variance) = (0.0, 0.0, 0.0, 0.0);
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
        above += weight * greater;
        pairs += weight * product;
        difference += weight * (greater - product / 2.0);
        variance += weight * weight * product / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    }
    if variance <= 0.0 {
        return None;
    }
    let n = strata.iter().map(Vec::len).sum();
    Some(Association { effect: above / pairs, n, p: two_sided(difference / variance.sqrt()) })
}

/// Whether an outcome is more frequent with a property than without: Fisher's exact test (1922), two-sided over all tables that
/// are at most as probable.
///
/// `with` and `without` are (outcomes, observations). The effect is the odds ratio, with ½ added to every cell (Haldane
/// 1956), so that it is finite. None if the margins leave one table only.
pub fn fisher_test(with: (usize, usize), without: (usize, usize)) -> Option<Association> {
    let n = with.1 + without.1;
    let outcomes = with.0 + without.0;
    if with.1 == 0 || without.1 == 0 || outcomes == 0 || outcomes == n {
        return None;
    }
    let [a, b, c, d] = [with.0, with.1 - with.0, without.0, without.1 - without.0].map(|count| count as f64 + 0.5);
    let tables = Hypergeometric::new(n as u64, outcomes as u64, with.1 as u64).ok()?;
    let (least, most) = (outcomes.saturating_sub(without.1), outcomes.min(with.1));
    // Room for rounding among tables that are equally probable.
    let at_most = tables.ln_pmf(with.0 as u64) + 1e-7;
    let p: f64 = (least..=most).map(|k| tables.ln_pmf(k as u64)).filter(|ln| *ln <= at_most).map(libm::exp).sum();
    Some(Association { effect: (a * d) / (b * c), n, p: p.min(1.0) })
}

/// Returns probabilities corrected for the number of tests (Holm 1979), in their order: reporting all tests below a level keeps
/// the probability of any false one to that level, however the tests depend on each other.
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

/// Returns q values in the order of `p`: reporting all tests with q up to a level keeps the expected fraction of false ones
/// among those reported to that level (Benjamini & Hochberg 1995), if tests are independent or depend positively on each
/// other (Benjamini & Yekutieli 2001).
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    let (mut corrected, mut lowest) = (vec![0.0; p.len()], 1.0f64);
    for (above, index) in order.into_iter().enumerate() {
        let rank = (p.len() - above) as f64;
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

    /// The numbers of goldens.py, `mann_whitney`.
    fn numbers() -> Vec<(f64, bool)> {
        (0..40).map(|i| (f64::from(i * 7 % 13), i % 3 == 0)).collect()
    }

    #[test]
    fn one_stratum_is_the_test_of_mann_and_whitney() {
        let found = rank_test(&[numbers()]).unwrap();
        close(found.effect, MANN_WHITNEY.0);
        close(found.p, MANN_WHITNEY.1);
        assert_eq!(found.n, 40);
    }
    const MANN_WHITNEY: (f64, f64) = (0.467_032_967_032_967_04, 0.732_950_108_356_891_4);

    #[test]
    fn strata_are_added_and_those_without_both_outcomes_say_nothing() {
        let twice = rank_test(&[numbers(), numbers()]).unwrap();
        let once = rank_test(&[numbers()]).unwrap();
        close(twice.effect, once.effect);
        assert!(twice.p < once.p, "the same again is more evidence");
        let silent = vec![(1.0, true), (2.0, true)];
        close(rank_test(&[numbers(), silent.clone()]).unwrap().p, once.p);
        assert_eq!(rank_test(&[silent]), None);
        assert_eq!(rank_test(&[vec![(1.0, true), (1.0, false)]]), None, "equal numbers tell nothing");
        // A difference between strata alone is none within them.
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
        // By hand: 4·0.005; 3·0.01; 2·0.03; 0.04, which must not be below the one before.
        check(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
        check(&[0.5, 0.6], &[1.0, 1.0]);
        check(&[], &[]);
    }

    #[test]
    fn benjamini_and_hochberg_by_hand() {
        let check = |p: &[f64], expected: &[f64]| {
            benjamini_hochberg(p).iter().zip(expected).for_each(|(found, expected)| close(*found, *expected));
        };
        // 4·0.01/2; min(4·0.04/4, …); 4·0.03/3 = 0.04; 4·0.005/1.
        check(&[0.01, 0.04, 0.03, 0.005], &[0.02, 0.04, 0.04, 0.02]);
        check(&[0.9, 0.5], &[0.9, 0.9]);
        check(&[], &[]);
    }

    #[test]
    fn without_anything_to_tell_one_test_in_twenty_says_otherwise() {
        let trials = 2000;
        let mut draws = stream(5, Purpose::Synthetic, 0, 0);
        let mut false_alarms = 0;
        for _ in 0..trials {
            let strata: Vec<Vec<(f64, bool)>> =
                (0..3).map(|_| (0..40).map(|_| (draws.normal(), draws.chance(0.3))).collect()).collect();
            false_alarms += usize::from(rank_test(&strata).is_some_and(|found| found.p < 0.05));
        }
        let share = false_alarms as f64 / f64::from(trials);
        // Four standard errors of a share of 0.05 in 2,000 are 0.019.
        assert!((share - 0.05).abs() < 0.02, "{share}");
    }
}

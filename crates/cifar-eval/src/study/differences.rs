//! How much better or worse the arms are than the base, with intervals for all arms at once.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// Accuracy of an arm minus that of the base, mean over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Number of seeds.
    pub n: usize,
    /// The mean.
    pub mean: f64,
    /// Lower end of its interval; none for one seed. With a probability of 95 %, the intervals of
    /// *all* arms contain the expected differences (over the choice of seeds).
    pub low: Option<f64>,
    /// Upper end of its interval.
    pub high: Option<f64>,
}

/// Compares arms with the base. `accuracy` has one row per arm, with one value per seed. The first
/// row is the base, and all rows have the same seeds in the same order. Returns one difference for
/// each of the other rows.
///
/// The seeds are blocks: accuracy = arm + seed + error, with errors of one variance (two-way
/// analysis of variance without interaction; Fisher 1935). That variance is estimated from all arms
/// together, with (arms − 1) · (seeds − 1) degrees of freedom, because three seeds of one arm
/// estimate it poorly. Each interval is Student's t at the level 1 − 0.05 / (number of differences)
/// (Bonferroni), so that all of them hold at once. If the base varies twice as much as the arms,
/// they hold in 90 % of studies; if one arm does, in 95 %. With one arm besides the base, this is
/// the paired t interval.
pub(super) fn from_base(accuracy: &[Vec<f64>]) -> Vec<Difference> {
    let Some((base, others)) = accuracy.split_first() else { return Vec::new() };
    let (arms, n) = (accuracy.len(), base.len());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let all = mean(&accuracy.iter().map(|row| mean(row)).collect::<Vec<_>>());
    let of_seed: Vec<f64> =
        (0..n).map(|seed| mean(&accuracy.iter().map(|row| row[seed]).collect::<Vec<_>>())).collect();
    let squares: f64 = (accuracy.iter())
        .flat_map(|row| row.iter().zip(&of_seed).map(|(value, seed)| (value - mean(row) - seed + all).powi(2)))
        .sum();
    let degrees = ((arms - 1) * n.saturating_sub(1)) as f64;
    let t = StudentsT::new(0.0, 1.0, degrees).ok().filter(|_| n > 1 && arms > 1);
    let quantile = t.map(|t| t.inverse_cdf(1.0 - 0.025 / others.len() as f64));
    let half = quantile.map(|t| t * (2.0 * squares / degrees / n as f64).sqrt());
    let differences = others.iter().map(|row| {
        let mean = mean(row) - mean(base);
        Difference { n, mean, low: half.map(|half| mean - half), high: half.map(|half| mean + half) }
    });
    differences.collect()
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    #[track_caller]
    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{found:?} {expected}");
    }

    #[test]
    fn one_difference_has_the_paired_t_interval() {
        // Differences 1, 2 and 6: mean 3, standard deviation √7, t of 2 degrees 4.302652729911275.
        let found = from_base(&[vec![0.0, 10.0, 20.0], vec![1.0, 12.0, 26.0]]);
        let half = 4.302_652_729_911_275 * (7.0f64 / 3.0).sqrt();
        assert_eq!((found.len(), found[0].n), (1, 3));
        close(Some(found[0].mean), 3.0);
        close(found[0].low, 3.0 - half);
        close(found[0].high, 3.0 + half);
    }

    #[test]
    fn more_arms_give_wider_intervals() {
        // Seed means 2, 4 and arm means 1, 3, 5 leave the residuals ±1, 0, ∓1 in two columns: a sum
        // of squares of 4 with 2 degrees of freedom.
        let found = from_base(&[vec![-1.0, 3.0], vec![2.0, 4.0], vec![5.0, 5.0]]);
        // The 98.75 % quantile of Student's t with 2 degrees: u·√(2/(4α(1−α))), u = 2·0.9875 − 1.
        let t = 0.975 * (2.0f64 / (4.0 * 0.9875 * 0.0125)).sqrt();
        let half = t * (2.0f64 * 4.0 / 2.0 / 2.0).sqrt();
        assert_eq!(found.iter().map(|d| d.mean).collect::<Vec<_>>(), [2.0, 4.0]);
        for (found, mean) in found.iter().zip([2.0, 4.0]) {
            assert!((found.low.unwrap() - (mean - half)).abs() < 1e-6, "{found:?} {half}");
            assert!((found.high.unwrap() - (mean + half)).abs() < 1e-6, "{found:?} {half}");
        }
    }

    #[test]
    fn one_seed_gives_no_interval_and_no_arm_no_difference() {
        assert_eq!(from_base(&[vec![0.5], vec![0.75]]), [Difference { n: 1, mean: 0.25, low: None, high: None }]);
        assert_eq!(from_base(&[vec![0.5, 0.6]]), []);
        assert_eq!(from_base(&[]), []);
    }

    #[test]
    fn one_study_in_twenty_reports_a_difference_between_equal_arms() {
        // Five arms and three seeds, with equal standard deviations, or twice that in one arm or in
        // the base.
        for (noisy_arm, limit) in [(None, 0.05), (Some(3), 0.065), (Some(0), 0.12)] {
            let trials = 4000;
            let is_false_alarm = |trial: u64| {
                let mut draws = stream(trial, Purpose::Synthetic, 4, noisy_arm.map_or(9, |arm| arm as u64));
                let seeds: Vec<f64> = (0..3).map(|_| draws.normal()).collect();
                let mut row = |arm: usize| -> Vec<f64> {
                    let sd = if Some(arm) == noisy_arm { 2.0 } else { 1.0 };
                    seeds.iter().map(|seed| 80.0 + 3.0 * seed + sd * draws.normal()).collect()
                };
                let accuracy: Vec<Vec<f64>> = (0..6).map(&mut row).collect();
                from_base(&accuracy).iter().any(|d| d.low.unwrap() > 0.0 || d.high.unwrap() < 0.0)
            };
            let fraction = (0..trials).filter(|trial| is_false_alarm(*trial)).count() as f64 / trials as f64;
            assert!(fraction < limit, "{noisy_arm:?}: {fraction}");
        }
    }
}

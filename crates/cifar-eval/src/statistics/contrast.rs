//! Differences between groups of runs on the same images, with intervals over images and seeds.
//!
//! A run is a list that says for each image whether it is classified correctly. A contrast is a
//! weighted sum over groups (runs that differ only in the seed) and strata (disjoint sets of
//! images). Its variance is the sum of two parts:
//!
//! - **images**: the variance over images of the weighted mean over runs, divided by the number of
//!   images. All runs are scored on the same images, so what they have in common cancels in a
//!   difference.
//! - **seeds**: for each group, the variance of the contrast over its runs, less the part that the
//!   first term contains already, divided by the number of runs. That part is the disagreement of
//!   the runs on single images. It is known well, because all images contribute.
//!
//! The degrees of freedom are like those of Welch (1947) and Satterthwaite (1946), but with
//! variances to the power of 1.5 instead of squared. Squares trust a small variance of three seeds
//! too much. If seeds vary unequally, 6 % of grids with five equal combinations then report a
//! difference; with the power of 1.5 at most 4 % do. A power of 1 would be safe too, but would find
//! less than half of the differences. A test of `cifar-experiments` checks these rates.
//!
//! The structure is that of multi-reader multi-case studies (Obuchowski & Rockette 1995; Hillis
//! 2007), with seeds as readers nested in combinations. A bootstrap over three seeds would
//! underestimate variances by a third, and would have the tails of a normal distribution.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::student;

/// Exponent of variances in the degrees of freedom; see the module documentation.
const EXPONENT: f64 = 1.5;

/// Runs that differ only in the seed, with their weight in a contrast.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<'a> {
    /// Factor of the mean over the runs.
    pub weight: f64,
    /// For each run, whether each image is classified correctly.
    pub runs: Vec<&'a [bool]>,
}

impl<'a> Group<'a> {
    /// Creates a group of these runs.
    pub fn new(weight: f64, runs: &'a [Vec<bool>]) -> Self {
        Self { weight, runs: runs.iter().map(Vec::as_slice).collect() }
    }
}

/// Images that are sampled together, with their weight in a contrast.
#[derive(Debug, Clone, PartialEq)]
pub struct Stratum {
    /// Factor of the mean over the images.
    pub weight: f64,
    /// Indices of the images.
    pub images: Vec<usize>,
}

/// An estimated contrast with its interval and p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Value on the given runs and images.
    pub value: f64,
    /// Lower end of the 95 % interval (Student's t) over the choice of images and, if `se_seeds` is
    /// known, of seeds.
    pub low: f64,
    /// Upper end of that interval.
    pub high: f64,
    /// Two-sided p-value under the hypothesis that the expected value is 0.
    pub p: f64,
    /// Standard error due to the choice of images.
    pub se_images: f64,
    /// Additional standard error due to the choice of seeds; none if a group has one run. The
    /// estimate then applies to the given runs only, not to training in general.
    pub se_seeds: Option<f64>,
    /// Degrees of freedom of the total standard error.
    pub degrees: f64,
}

impl Estimate {
    /// Returns whether the interval covers the choice of seeds, so that the estimate applies to
    /// training in general and not only to the given runs.
    pub fn covers_seeds(&self) -> bool {
        self.se_seeds.is_some()
    }

    /// Returns the standard error due to images and seeds.
    pub fn se(&self) -> f64 {
        (self.se_images.powi(2) + self.se_seeds.unwrap_or(0.0).powi(2)).sqrt()
    }

    /// Returns half the width of the 95 % interval, before it is clamped to the possible range.
    pub fn half_width(&self) -> f64 {
        student(self.degrees) * self.se()
    }
}

/// Estimates the sum over groups and strata of group weight × stratum weight × accuracy. Returns
/// none without groups, strata, runs or images.
///
/// Two images are added to each stratum, one at either end of what an image can contribute (Agresti
/// & Caffo 2000 for one group, Bonett & Price 2012 for the difference of two). The variance is thus
/// above 0 even if all runs agree or are always correct. `value` does not contain these two images.
///
/// ```
/// use cifar_eval::statistics::contrast::{Group, Stratum, contrast};
///
/// // Three seeds of two settings on 100 images: 90 and 60 are classified correctly.
/// let run = |correct: usize| (0..100).map(|image| image < correct).collect::<Vec<bool>>();
/// let (better, worse) = (vec![run(90); 3], vec![run(60); 3]);
/// let groups = [Group::new(1.0, &better), Group::new(-1.0, &worse)];
/// let all = [Stratum { weight: 1.0, images: (0..100).collect() }];
/// let difference = contrast(&groups, &all).unwrap();
/// assert!((difference.value - 0.3).abs() < 1e-12 && difference.low > 0.1 && difference.p < 0.001);
/// ```
pub fn contrast(groups: &[Group], strata: &[Stratum]) -> Option<Estimate> {
    let is_empty = groups.iter().any(|g| g.runs.is_empty()) || strata.iter().any(|s| s.images.is_empty());
    if groups.is_empty() || strata.is_empty() || is_empty {
        return None;
    }
    // The largest and smallest value that one image can contribute.
    let highest: f64 = groups.iter().map(|g| g.weight.max(0.0)).sum();
    let lowest: f64 = groups.iter().map(|g| g.weight.min(0.0)).sum();
    let (mut value, mut centre, mut image_variance) = (0.0, 0.0, 0.0);
    let mut range = [0.0; 2];
    let mut values: Vec<Vec<f64>> = groups.iter().map(|g| vec![0.0; g.runs.len()]).collect();
    let mut disagreement = vec![0.0; groups.len()];
    for Stratum { weight, images } in strata {
        let n = images.len() as f64;
        let (mut sum, mut squares) = (0.0, 0.0);
        for image in images {
            let mut contribution = 0.0;
            for ((group, values), disagreement) in groups.iter().zip(&mut values).zip(&mut disagreement) {
                let runs = group.runs.len() as f64;
                let mut correct = 0.0;
                for (run, value) in group.runs.iter().zip(values) {
                    if run[*image] {
                        correct += 1.0;
                        *value += weight / n;
                    }
                }
                let mean = correct / runs;
                contribution += group.weight * mean;
                if group.runs.len() > 1 {
                    *disagreement += (weight / n).powi(2) * mean * (1.0 - mean) * runs / (runs - 1.0);
                }
            }
            sum += contribution;
            squares += contribution * contribution;
        }
        let mean = (sum + highest + lowest) / (n + 2.0);
        let variance = ((squares + highest * highest + lowest * lowest) / (n + 2.0) - mean * mean).max(0.0);
        value += weight * sum / n;
        centre += weight * mean;
        image_variance += weight * weight * variance / (n + 2.0);
        range[0] += (weight * highest).min(weight * lowest);
        range[1] += (weight * highest).max(weight * lowest);
    }
    let (mut seed_variance, mut over_degrees) = (Some(0.0), 0.0);
    for ((group, values), disagreement) in groups.iter().zip(&values).zip(disagreement) {
        let runs = values.len() as f64;
        if values.len() < 2 {
            seed_variance = None;
            break;
        }
        let mean = values.iter().sum::<f64>() / runs;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (runs - 1.0);
        let factor = group.weight * group.weight / runs;
        seed_variance = seed_variance.map(|sum| sum + factor * (variance - disagreement).max(0.0));
        over_degrees += libm::pow(factor * variance, EXPONENT) / (runs - 1.0);
    }
    let images: usize = strata.iter().map(|s| s.images.len()).sum();
    let image_degrees = images.saturating_sub(strata.len()).max(1) as f64;
    let degrees = seed_variance.map_or(image_degrees, |seeds| {
        let total = libm::pow(image_variance + seeds, EXPONENT);
        (total / (libm::pow(image_variance, EXPONENT) / image_degrees + over_degrees)).clamp(1.0, image_degrees)
    });
    let (se_images, se_seeds) = (image_variance.sqrt(), seed_variance.map(f64::sqrt));
    let estimate = Estimate { value, low: value, high: value, p: 1.0, se_images, se_seeds, degrees };
    let half = estimate.half_width();
    let [low, high] = [centre - half, centre + half].map(|end| end.clamp(range[0], range[1]));
    // With weights of 0 nothing varies.
    let p = if estimate.se() > 0.0 { two_sided(centre / estimate.se(), degrees) } else { 1.0 };
    Some(Estimate { low, high, p, ..estimate })
}

/// Returns the two-sided p-value of `t` under Student's t.
fn two_sided(t: f64, degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(1.0, |d| (2.0 * d.sf(t.abs())).min(1.0))
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, Stream, stream};

    use super::*;

    fn all(images: usize) -> [Stratum; 1] {
        [Stratum { weight: 1.0, images: (0..images).collect() }]
    }

    fn difference(first: &[Vec<bool>], second: &[Vec<bool>]) -> Estimate {
        contrast(&[Group::new(1.0, first), Group::new(-1.0, second)], &all(first[0].len())).unwrap()
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{found} {expected}");
    }

    #[test]
    fn an_estimate_has_the_values_of_the_definition() {
        // Eight images, two runs each: 6, 4 and 3, 3 correct.
        let run = |correct: &str| correct.chars().map(|c| c == '1').collect::<Vec<bool>>();
        let first = [run("11111100"), run("11110000")];
        let second = [run("11100000"), run("11000001")];
        let found = difference(&first, &second);
        close(found.value, 5.0 / 8.0 - 3.0 / 8.0);
        // Means over runs: 1 1 1 1 ½ ½ 0 0 less 1 1 ½ 0 0 0 0 ½; then the two added images, 1 and
        // −1.
        let differences: [f64; 10] = [0.0, 0.0, 0.5, 1.0, 0.5, 0.5, 0.0, -0.5, 1.0, -1.0];
        let mean = differences.iter().sum::<f64>() / 10.0;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 10.0;
        let images = variance / 10.0;
        close(found.se_images, images.sqrt());
        // Accuracies ¾ and ½ have the variance 1/32. Disagreement on two of eight images explains
        // 2·½/64 of it.
        let (of_first, explained) = (1.0 / 32.0, 2.0 * 0.5 / 64.0);
        // The accuracies of the second group are equal and contribute nothing.
        let seeds: f64 = (of_first - explained) / 2.0;
        close(found.se_seeds.unwrap(), seeds.sqrt());
        // One degree of freedom for the accuracies of each group, of which the second does not
        // vary; 7 for the images.
        let degrees = (images + seeds).powf(1.5) / (images.powf(1.5) / 7.0 + (of_first / 2.0).powf(1.5));
        close(found.degrees, degrees);
        close(found.se(), (images + seeds).sqrt());
        close(found.low, mean - student(degrees) * found.se());
        close(found.p, two_sided(mean / found.se(), degrees));
    }

    #[test]
    fn quantiles_and_p_values_are_those_of_published_tables() {
        for (degrees, quantile) in [(1.0, 12.706_204_736), (4.0, 2.776_445_105), (10.0, 2.228_138_852)] {
            close(student(degrees), quantile);
            close(two_sided(quantile, degrees), 0.05);
        }
        // Far in the tail, where 1 − cdf would be 0: with 4 degrees of freedom it falls with the
        // fourth power.
        assert!((two_sided(1e5, 4.0) * 1e20 / 6.0 - 1.0).abs() < 1e-6, "{}", two_sided(1e5, 4.0));
    }

    #[test]
    fn one_group_of_one_run_has_the_interval_of_agresti_and_caffo() {
        let run = vec![(0..100).map(|i| i < 84).collect::<Vec<bool>>()];
        let found = contrast(&[Group::new(1.0, &run)], &all(100)).unwrap();
        let p: f64 = 85.0 / 102.0;
        close(found.value, 0.84);
        close(found.se_images, (p * (1.0 - p) / 102.0).sqrt());
        close(found.degrees, 99.0);
        assert!(!found.covers_seeds() && found.low < 0.77 && found.low > 0.75, "{found:?}");
    }

    #[test]
    fn extremes_have_an_interval_and_a_p_value() {
        let (correct, wrong) = (vec![vec![true; 50]; 3], vec![vec![false; 50]; 3]);
        let same = difference(&correct, &correct);
        assert_eq!((same.value, same.p), (0.0, 1.0));
        assert!(same.low < -0.02 && same.high > 0.02, "{same:?}");
        let opposite = difference(&correct, &wrong);
        assert!(opposite.p < 1e-10 && opposite.low > 0.8 && opposite.high <= 1.0, "{opposite:?}");
        let single = difference(&[vec![true]], &[vec![false]]);
        assert!(single.p > 0.5, "a single image is no evidence: {single:?}");
        let perfect = contrast(&[Group::new(1.0, &correct)], &all(50)).unwrap();
        assert!(perfect.low < 0.96 && perfect.high <= 1.0, "{perfect:?}");
        for (groups, strata) in [(vec![], all(1).to_vec()), (vec![Group::new(1.0, &correct)], vec![])] {
            assert_eq!(contrast(&groups, &strata), None);
        }
        assert_eq!(contrast(&[Group::new(1.0, &correct)], &all(0)), None);
        let weightless = contrast(&[Group::new(0.0, &correct)], &all(50)).unwrap();
        assert_eq!((weightless.value, weightless.p), (0.0, 1.0));
    }

    /// Seeds have equal accuracy, but disagree on images. The disagreement counts once.
    #[test]
    fn disagreement_on_images_is_not_counted_twice() {
        let mut draws = stream(1, Purpose::Synthetic, 7, 0);
        let mut run = || (0..20_000).map(|_| draws.chance(0.8)).collect::<Vec<bool>>();
        let (first, second) = ([run(), run(), run()], [run(), run(), run()]);
        let found = difference(&first, &second);
        // All predictions are independent: the variance of the difference of two means of 60,000.
        let expected = (2.0 * 0.16 / 60_000.0f64).sqrt();
        assert!((found.se_images / expected - 1.0).abs() < 0.02, "{found:?}");
        assert!(found.se() / expected < 2.0, "{found:?}");
    }

    /// Simulates two combinations of `runs` runs each on the same images. Their expected accuracies
    /// are equal, or differ by `shift`.
    fn draw(draws: &mut Stream, runs: usize, images: usize, seeds: [f64; 2], shift: f64) -> [Vec<Vec<bool>>; 2] {
        // In probits: each image has a difficulty, each run a random effect, and each prediction
        // some noise.
        let difficulty: Vec<f64> = (0..images).map(|_| 1.5 * draws.normal()).collect();
        [0, 1].map(|which| {
            let of_combination: Vec<f64> = (0..images).map(|_| 0.3 * draws.normal()).collect();
            // The expectation does not depend on the variance of the seeds.
            let total = (1.5f64.powi(2) + 0.3f64.powi(2) + 0.5f64.powi(2) + seeds[which].powi(2)).sqrt();
            let middle = (0.8 + if which == 0 { shift } else { 0.0 }) * total;
            (0..runs)
                .map(|_| {
                    let luck = seeds[which] * draws.normal();
                    let is_correct = |(a, b): (&f64, &f64)| middle + luck + a + b + 0.5 * draws.normal() > 0.0;
                    difficulty.iter().zip(&of_combination).map(is_correct).collect()
                })
                .collect()
        })
    }

    #[test]
    fn equal_combinations_differ_significantly_in_about_one_of_twenty_tests_at_most() {
        let trials = 2000;
        for (runs, seeds) in
            [(3, [0.0, 0.0]), (3, [0.1, 0.1]), (3, [0.4, 0.4]), (3, [0.4, 0.05]), (2, [0.2, 0.2]), (8, [0.2, 0.2])]
        {
            let mut draws = stream(3, Purpose::Synthetic, runs as u64, (seeds[1] * 100.0) as u64);
            let mut found = 0;
            for _ in 0..trials {
                let [first, second] = draw(&mut draws, runs, 300, seeds, 0.0);
                found += u32::from(difference(&first, &second).p < 0.05);
            }
            let fraction = f64::from(found) / f64::from(trials);
            // Three standard errors of a fraction of 0.05 in 2,000 are 0.015. The worst case, with
            // unequal variances, is 0.06.
            assert!(fraction < 0.065, "{runs} runs, {seeds:?}: {fraction}");
        }
    }
}

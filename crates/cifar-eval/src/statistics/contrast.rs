//! Differences between groups of runs on the same images, with both sources of chance: images and seeds.
//!
//! A run is a list of right and wrong answers. A figure is a weighted sum of groups (runs that differ in the seed alone) and of
//! strata (disjoint sets of images). Its variance is the sum of two parts:
//!
//! - **images**: the variance over images of the weighted mean over runs, divided by the number of images. All runs answer
//!   the same images, so what is common to all runs cancels in a difference.
//! - **seeds**: for each group, the variance over its runs of the figure, less the part that the first term already has, divided
//!   by the number of runs. That part is the disagreement of the runs on single images; it is known well, from all images.
//!
//! The degrees of freedom are like those of Welch (1947) and Satterthwaite (1946), with variances to the power of 1.5 in the
//! place of squares. Squares trust a small variance of three seeds too much: if seeds scatter unequally, 6 % of the grids of five
//! combinations without a difference conclude something, with the power of 1.5 4 % at most. A power of 1 would be safe too, and
//! find less than half of the differences that are found so. A test of `cifar-experiments` holds this.
//!
//! The structure is that of multi-reader multi-case studies (Obuchowski & Rockette 1995; Hillis 2007), with seeds as readers nested
//! in combinations. A bootstrap over three seeds would have variances that are too small by a third, and tails of a normal
//! distribution.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::student;

/// Exponent of variances in the degrees of freedom; see the module's text.
const WEIGHT: f64 = 1.5;

/// Runs that differ in the seed alone, with the group's weight in a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<'a> {
    /// Factor on the group's mean over its runs.
    pub weight: f64,
    /// For each run, whether each image is classified correctly.
    pub runs: Vec<&'a [bool]>,
}

impl<'a> Group<'a> {
    /// A group of these runs.
    pub fn new(weight: f64, runs: &'a [Vec<bool>]) -> Self {
        Self { weight, runs: runs.iter().map(Vec::as_slice).collect() }
    }
}

/// Images that are sampled together, with their weight in a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Stratum {
    /// Factor on the mean over the images.
    pub weight: f64,
    /// Indices of the images.
    pub images: Vec<usize>,
}

/// A figure with its interval and probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// For the runs and images at hand.
    pub value: f64,
    /// Lower end of the 95 % interval for other images and, if `se_seeds` is known, other seeds (Student's t).
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Two-sided probability of a value at least this far from 0 if the expected value is 0.
    pub p: f64,
    /// Standard error from the sampling of images.
    pub se_images: f64,
    /// Standard error from the choice of seeds, beyond that of images; none if a group has one run. The estimate is
    /// about these very runs then, not about training.
    pub se_seeds: Option<f64>,
    /// Degrees of freedom of the whole standard error.
    pub degrees: f64,
}

impl Estimate {
    /// Whether the interval covers the choice of seeds, so that the estimate is about training, not about these very runs.
    pub fn covers_seeds(&self) -> bool {
        self.se_seeds.is_some()
    }

    /// The standard error from images and seeds.
    pub fn se(&self) -> f64 {
        (self.se_images.powi(2) + self.se_seeds.unwrap_or(0.0).powi(2)).sqrt()
    }

    /// Half of the width of the 95 % interval, before it is cut to the possible range.
    pub fn half_width(&self) -> f64 {
        student(self.degrees) * self.se()
    }
}

/// The sum over groups and strata of weight × weight × mean; none without groups, runs or images.
///
/// Two images are added to each stratum, one at either end of what an image can contribute (Agresti & Caffo 2000 for one
/// group, Bonett & Price 2012 for the difference of two): so no variance is 0, also if all runs agree or all images are right.
/// `value` is without them.
pub fn contrast(groups: &[Group], strata: &[Stratum]) -> Option<Estimate> {
    let is_empty = groups.iter().any(|g| g.runs.is_empty()) || strata.iter().any(|s| s.images.is_empty());
    if groups.is_empty() || strata.is_empty() || is_empty {
        return None;
    }
    let most: f64 = groups.iter().map(|g| g.weight.max(0.0)).sum();
    let least: f64 = groups.iter().map(|g| g.weight.min(0.0)).sum();
    let (mut value, mut centre, mut image_variance) = (0.0, 0.0, 0.0);
    let mut range = [0.0; 2];
    let mut figures: Vec<Vec<f64>> = groups.iter().map(|g| vec![0.0; g.runs.len()]).collect();
    let mut disagreement = vec![0.0; groups.len()];
    for Stratum { weight, images } in strata {
        let n = images.len() as f64;
        let (mut sum, mut squares) = (0.0, 0.0);
        for image in images {
            let mut all = 0.0;
            for ((group, figures), disagreement) in groups.iter().zip(&mut figures).zip(&mut disagreement) {
                let runs = group.runs.len() as f64;
                let mut right = 0.0;
                for (run, figure) in group.runs.iter().zip(figures) {
                    if run[*image] {
                        right += 1.0;
                        *figure += weight / n;
                    }
                }
                let mean = right / runs;
                all += group.weight * mean;
                if group.runs.len() > 1 {
                    *disagreement += (weight / n).powi(2) * mean * (1.0 - mean) * runs / (runs - 1.0);
                }
            }
            sum += all;
            squares += all * all;
        }
        let mean = (sum + most + least) / (n + 2.0);
        let variance = ((squares + most * most + least * least) / (n + 2.0) - mean * mean).max(0.0);
        value += weight * sum / n;
        centre += weight * mean;
        image_variance += weight * weight * variance / (n + 2.0);
        range[0] += (weight * most).min(weight * least);
        range[1] += (weight * most).max(weight * least);
    }
    let (mut seed_variance, mut over_degrees) = (Some(0.0), 0.0);
    for ((group, figures), disagreement) in groups.iter().zip(&figures).zip(disagreement) {
        let runs = figures.len() as f64;
        if figures.len() < 2 {
            seed_variance = None;
            break;
        }
        let mean = figures.iter().sum::<f64>() / runs;
        let variance = figures.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / (runs - 1.0);
        let factor = group.weight * group.weight / runs;
        seed_variance = seed_variance.map(|sum| sum + factor * (variance - disagreement).max(0.0));
        over_degrees += libm::pow(factor * variance, WEIGHT) / (runs - 1.0);
    }
    let images: usize = strata.iter().map(|s| s.images.len()).sum();
    let image_degrees = images.saturating_sub(strata.len()).max(1) as f64;
    let degrees = seed_variance.map_or(image_degrees, |seeds| {
        let whole = libm::pow(image_variance + seeds, WEIGHT);
        (whole / (libm::pow(image_variance, WEIGHT) / image_degrees + over_degrees)).clamp(1.0, image_degrees)
    });
    let (se_images, se_seeds) = (image_variance.sqrt(), seed_variance.map(f64::sqrt));
    let bare = Estimate { value, low: value, high: value, p: 1.0, se_images, se_seeds, degrees };
    let half = bare.half_width();
    let [low, high] = [centre - half, centre + half].map(|end| end.clamp(range[0], range[1]));
    // Weights of 0 leave nothing that could vary.
    let p = if bare.se() > 0.0 { two_sided(centre / bare.se(), degrees) } else { 1.0 };
    Some(Estimate { low, high, p, ..bare })
}

/// Two-sided probability of `t` under Student's t.
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
    fn figures_agree_with_those_by_hand() {
        // Eight images, two runs each: 6, 4 and 3, 3 right.
        let run = |right: &str| right.chars().map(|c| c == '1').collect::<Vec<bool>>();
        let first = [run("11111100"), run("11110000")];
        let second = [run("11100000"), run("11000001")];
        let found = difference(&first, &second);
        close(found.value, 5.0 / 8.0 - 3.0 / 8.0);
        // Means over runs: 1 1 1 1 ½ ½ 0 0 less 1 1 ½ 0 0 0 0 ½; with the two added images 1 and −1.
        let differences: [f64; 10] = [0.0, 0.0, 0.5, 1.0, 0.5, 0.5, 0.0, -0.5, 1.0, -1.0];
        let mean = differences.iter().sum::<f64>() / 10.0;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 10.0;
        let images = variance / 10.0;
        close(found.se_images, images.sqrt());
        // Accuracies ¾ and ½: variance 1/32, of which disagreement on two images of eight explains 2·½/64.
        let (of_first, explained) = (1.0 / 32.0, 2.0 * 0.5 / 64.0);
        // The second's are equal, so nothing is left.
        let seeds: f64 = (of_first - explained) / 2.0;
        close(found.se_seeds.unwrap(), seeds.sqrt());
        // One degree of freedom for each group's accuracies, of which the second's do not scatter; 7 for images.
        let degrees = (images + seeds).powf(1.5) / (images.powf(1.5) / 7.0 + (of_first / 2.0).powf(1.5));
        close(found.degrees, degrees);
        close(found.se(), (images + seeds).sqrt());
        close(found.low, mean - student(degrees) * found.se());
        close(found.p, two_sided(mean / found.se(), degrees));
    }

    #[test]
    fn quantiles_and_probabilities_are_those_of_published_tables() {
        for (degrees, quantile) in [(1.0, 12.706_204_736), (4.0, 2.776_445_105), (10.0, 2.228_138_852)] {
            close(student(degrees), quantile);
            close(two_sided(quantile, degrees), 0.05);
        }
        // Far out, where 1 − cdf would be 0: 4 degrees of freedom fall with the fourth power.
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
    fn extremes_have_an_interval_and_a_probability() {
        let (right, wrong) = (vec![vec![true; 50]; 3], vec![vec![false; 50]; 3]);
        let same = difference(&right, &right);
        assert_eq!((same.value, same.p), (0.0, 1.0));
        assert!(same.low < -0.02 && same.high > 0.02, "{same:?}");
        let apart = difference(&right, &wrong);
        assert!(apart.p < 1e-10 && apart.low > 0.8 && apart.high <= 1.0, "{apart:?}");
        let one = difference(&[vec![true]], &[vec![false]]);
        assert!(one.p > 0.5, "a single image tells nothing: {one:?}");
        let perfect = contrast(&[Group::new(1.0, &right)], &all(50)).unwrap();
        assert!(perfect.low < 0.96 && perfect.high <= 1.0, "{perfect:?}");
        for (groups, strata) in [(vec![], all(1).to_vec()), (vec![Group::new(1.0, &right)], vec![])] {
            assert_eq!(contrast(&groups, &strata), None);
        }
        assert_eq!(contrast(&[Group::new(1.0, &right)], &all(0)), None);
        let nothing = contrast(&[Group::new(0.0, &right)], &all(50)).unwrap();
        assert_eq!((nothing.value, nothing.p), (0.0, 1.0));
    }

    /// Seeds that agree in accuracy and disagree on images: what they disagree by is counted once.
    #[test]
    fn disagreement_on_images_is_not_counted_twice() {
        let mut draws = stream(1, Purpose::Synthetic, 7, 0);
        let mut run = || (0..20_000).map(|_| draws.chance(0.8)).collect::<Vec<bool>>();
        let (first, second) = ([run(), run(), run()], [run(), run(), run()]);
        let found = difference(&first, &second);
        // Independent answers: the variance of the difference of two means over 60,000 answers.
        let expected = (2.0 * 0.16 / 60_000.0f64).sqrt();
        assert!((found.se_images / expected - 1.0).abs() < 0.02, "{found:?}");
        assert!(found.se() / expected < 2.0, "{found:?}");
    }

    /// Two combinations of `runs` runs each on the same images; accuracies differ in nothing but chance, or by `shift`.
    fn draw(draws: &mut Stream, runs: usize, images: usize, seeds: [f64; 2], shift: f64) -> [Vec<Vec<bool>>; 2] {
        // An image has a difficulty, a run a luck, and an answer some noise; all in units of a probit.
        let difficulty: Vec<f64> = (0..images).map(|_| 1.5 * draws.normal()).collect();
        [0, 1].map(|which| {
            let own: Vec<f64> = (0..images).map(|_| 0.3 * draws.normal()).collect();
            // Equal expectations whatever the variance of the seeds.
            let total = (1.5f64.powi(2) + 0.3f64.powi(2) + 0.5f64.powi(2) + seeds[which].powi(2)).sqrt();
            let middle = (0.8 + if which == 0 { shift } else { 0.0 }) * total;
            (0..runs)
                .map(|_| {
                    let luck = seeds[which] * draws.normal();
                    let answer = |(a, b): (&f64, &f64)| middle + luck + a + b + 0.5 * draws.normal() > 0.0;
                    difficulty.iter().zip(&own).map(answer).collect()
                })
                .collect()
        })
    }

    #[test]
    fn about_one_in_twenty_differences_at_most_is_found_where_there_is_none() {
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
            let share = f64::from(found) / f64::from(trials);
            // Three standard errors of a share of 0.05 in 2,000 are 0.015; the worst, of unequal scatter, is 0.06.
            assert!(share < 0.065, "{runs} runs, {seeds:?}: {share}");
        }
    }
}

//! Compares the best trial with the baseline under seeds that did not choose it.
//!
//! The best of many scores is biased upwards: under the search's seed, the best of 20 identical
//! settings nearly always beats the baseline. So only scores under other seeds are compared, in
//! pairs: both networks of a pair have the same seed.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::{Score, Trial};

/// The smallest difference in accuracy that counts, as a fraction: 0.1 percentage points.
const MARGIN: f64 = 0.001;

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is above the margin.
    Better,
    /// The interval overlaps the margin around 0, or there is no interval.
    NotShown,
    /// The whole interval is below the negative margin.
    Worse,
}

/// The best trial and the baseline under the seeds of `tune.rescore_seeds`.
///
/// Accuracies are fractions of the validation images, 0..1, after all epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The seeds, without the search's own.
    pub seeds: Vec<u64>,
    /// Accuracies of the trial by seed; none where training failed.
    pub accuracies: Vec<Option<f64>>,
    /// Accuracies of the baseline by seed; none where training failed.
    pub baseline_accuracies: Vec<Option<f64>>,
    /// Mean difference, trial minus baseline; none without seeds. A failed training counts as
    /// accuracy 0.
    pub difference: Option<f64>,
    /// 95 % interval of the difference over seeds, on these validation images (Student's t, paired
    /// by seed); none with fewer than two seeds.
    pub interval: Option<[f64; 2]>,
    /// The smallest difference that counts: 0.001, or one validation image if that is more.
    pub margin: f64,
    /// What the interval shows.
    pub verdict: Verdict,
}

impl Comparison {
    /// Compares `trial` and `baseline` by their scores under the other seeds that both have, on
    /// `images` validation images.
    pub fn of(trial: &Trial, baseline: &Trial, images: usize) -> Self {
        let accuracy = |score: &Score| Some(score.accuracy()).filter(|accuracy| accuracy.is_finite());
        let of_baseline = |seed| baseline.rescored.iter().find(|(other, _)| *other == seed).map(|(_, score)| score);
        let pairs: Vec<(u64, Option<f64>, Option<f64>)> = (trial.rescored.iter())
            .filter_map(|(seed, score)| Some((*seed, accuracy(score), accuracy(of_baseline(*seed)?))))
            .collect();
        // A failed training is a bad result under its seed. Dropping the pair would hide it.
        let differences: Vec<f64> = pairs.iter().map(|(_, a, b)| a.unwrap_or(0.0) - b.unwrap_or(0.0)).collect();
        let n = differences.len() as f64;
        let difference = (!differences.is_empty()).then(|| differences.iter().sum::<f64>() / n);
        let image = 1.0 / images.max(1) as f64;
        let margin = MARGIN.max(image);
        let interval = difference.and_then(|mean| {
            let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.975);
            let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
            // Accuracies are counts of images, so equal differences do not mean zero variance. Each
            // count is exact to half an image; a difference of two has at least this variance.
            let half = t * (variance.max(image * image / 6.0) / n).sqrt();
            Some([mean - half, mean + half])
        });
        let verdict = match interval {
            Some([low, _]) if low > margin => Verdict::Better,
            Some([_, high]) if high < -margin => Verdict::Worse,
            _ => Verdict::NotShown,
        };
        Self {
            seeds: pairs.iter().map(|(seed, ..)| *seed).collect(),
            accuracies: pairs.iter().map(|(_, a, _)| *a).collect(),
            baseline_accuracies: pairs.iter().map(|(.., b)| *b).collect(),
            difference,
            interval,
            margin,
            verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};
    use serde_json::json;

    use super::*;
    use crate::tune::halving::halve;
    use crate::tune::{Setting, TuneParams};

    /// A trial with these accuracies under the seeds from 1; none for a training that failed.
    fn trial(accuracies: &[Option<f64>]) -> Trial {
        let score = |a: &Option<f64>| match a {
            Some(accuracy) => Score::Trained { accuracy: *accuracy, loss: 1.0 },
            None => Score::Failed("the loss is NaN".into()),
        };
        // Under the search's seed the trial looks far better than it is.
        let rungs = vec![(9, Score::Trained { accuracy: 0.99, loss: 0.1 })];
        let rescored = (1..).zip(accuracies.iter().map(score)).collect();
        Trial { number: 1, point: Vec::new(), setting: Setting::new(), rungs, rescored }
    }

    fn compare(of_trial: &[Option<f64>], of_baseline: &[Option<f64>]) -> Comparison {
        Comparison::of(&trial(of_trial), &trial(of_baseline), 2000)
    }

    #[test]
    fn the_interval_is_that_of_a_paired_t_test() {
        let found = compare(&[Some(0.781), Some(0.786), Some(0.779)], &[Some(0.752), Some(0.749), Some(0.756)]);
        // Differences 0.029, 0.037, 0.023: mean 0.089/3, standard deviation √(0.0000493…), t(2) =
        // 4.302653.
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-8, "{found} is not {expected}");
        close(found.difference.unwrap(), 0.089 / 3.0);
        let variance = (0.029f64.powi(2) + 0.037f64.powi(2) + 0.023f64.powi(2) - 0.089f64.powi(2) / 3.0) / 2.0;
        let half = 4.302_652_729_749_462 * (variance / 3.0).sqrt();
        close(found.interval.unwrap()[0], 0.089 / 3.0 - half);
        close(found.interval.unwrap()[1], 0.089 / 3.0 + half);
        assert_eq!((found.verdict, found.seeds), (Verdict::Better, vec![1, 2, 3]));
    }

    #[test]
    fn verdicts_need_an_interval_beyond_the_margin() {
        let base = [Some(0.75), Some(0.76), Some(0.74)];
        let moved = |by: f64| compare(&base.map(|a| a.map(|a| a + by)), &base).verdict;
        assert_eq!(moved(0.02), Verdict::Better);
        assert_eq!(moved(-0.02), Verdict::Worse);
        assert_eq!(moved(0.0), Verdict::NotShown);
        // The differences are below the margin, or within the rounding of the counts, however
        // similar they are.
        assert_eq!(moved(0.0009), Verdict::NotShown);
        let few_images = Comparison::of(&trial(&[Some(0.80), Some(0.70)]), &trial(&[Some(0.75), Some(0.65)]), 20);
        assert_eq!((few_images.verdict, few_images.margin), (Verdict::NotShown, 0.05));
        // The mean is equally large, but the seeds disagree.
        assert_eq!(compare(&[Some(0.80), Some(0.75)], &base[..2]).verdict, Verdict::NotShown);
    }

    #[test]
    fn one_seed_gives_no_interval() {
        let found = compare(&[Some(0.9)], &[Some(0.1)]);
        assert_eq!((found.interval, found.verdict), (None, Verdict::NotShown));
        assert!((found.difference.unwrap() - 0.8).abs() < 1e-12);
        let none = compare(&[], &[]);
        assert_eq!((none.difference, none.interval, none.verdict), (None, None, Verdict::NotShown));
    }

    #[test]
    fn failed_trainings_count_as_accuracy_0() {
        let good = [Some(0.78), Some(0.79), Some(0.77)];
        let worse = [Some(0.70), Some(0.71), Some(0.69)];
        let once = compare(&[Some(0.78), None, Some(0.77)], &worse);
        assert_eq!((once.verdict, once.accuracies[1]), (Verdict::NotShown, None), "it fails under one seed of three");
        assert!(once.difference.unwrap() < 0.0);
        assert_eq!(compare(&good, &[None, None, None]).verdict, Verdict::Better);
        assert_eq!(compare(&[None, None, None], &good).verdict, Verdict::Worse);
        assert_eq!(compare(&[None, None], &[None, None]).verdict, Verdict::NotShown);
    }

    #[test]
    fn only_seeds_that_both_have_are_paired() {
        let mut baseline = trial(&[Some(0.7), Some(0.8), Some(0.9)]);
        baseline.rescored.remove(0);
        baseline.rescored.reverse();
        let found = Comparison::of(&trial(&[Some(0.7), Some(0.8), Some(0.9)]), &baseline, 2000);
        assert_eq!((found.seeds, found.difference), (vec![2, 3], Some(0.0)));
    }

    fn params(trials: usize, rescore_seeds: usize) -> TuneParams {
        let space = json!({"train.learning_rate": {"log_uniform": [0.01, 1.0]}});
        TuneParams { trials, rescore_seeds, space: serde_json::from_value(space).unwrap(), ..TuneParams::default() }
    }

    /// The verdict of a noisy search: a trial's accuracy is `quality` of its learning rate plus a
    /// normal draw with standard deviation `sd`, rounded to a count of `images` images.
    fn verdict(
        search: u64,
        params: &TuneParams,
        images: usize,
        sd: f64,
        quality: impl Fn(Option<f64>) -> f64,
    ) -> Verdict {
        let outcome = halve(params, 42, 3, &mut |trial, seed, epochs| {
            let key = seed << 40 | (epochs as u64) << 32 | trial.number as u64;
            let noise = sd * stream(search, Purpose::Bootstrap, 0, key).normal();
            let rate = trial.setting.get("train.learning_rate").and_then(serde_json::Value::as_f64);
            let accuracy = ((quality(rate) + noise) * images as f64).round() / images as f64;
            Ok(Score::Trained { accuracy, loss: 1.0 })
        });
        let outcome = outcome.unwrap();
        if outcome.best == 0 {
            return Verdict::NotShown;
        }
        Comparison::of(&outcome.trials[outcome.best], &outcome.trials[0], images).verdict
    }

    #[test]
    fn identical_settings_are_rarely_called_better() {
        const SEARCHES: u64 = 1000;
        for (images, sd) in [(2000, 0.004), (2000, 0.0005), (100, 0.04), (20, 0.09)] {
            for rescore_seeds in [0, 1, 2, 3, 5] {
                let params = params(8, rescore_seeds);
                let better = (0..SEARCHES).filter(|s| verdict(*s, &params, images, sd, |_| 0.8) == Verdict::Better);
                let share = better.count() as f64 / SEARCHES as f64;
                // At most 2.5 % are expected; three standard errors of a fraction of 0.025 in 1,000
                // are 0.015.
                let most = if rescore_seeds < 2 { 0.0 } else { 0.04 };
                assert!(share <= most, "{images} images, {rescore_seeds} seeds: {share}");
            }
        }
    }

    #[test]
    fn a_better_setting_is_found_and_called_better() {
        const SEARCHES: u64 = 300;
        // The baseline has 0.75; the best learning rate, 0.1, has three points more.
        let quality = |rate: Option<f64>| rate.map_or(0.75, |rate| 0.78 - 0.02 * (rate / 0.1f64).ln().abs());
        let share = |rescore_seeds: usize| {
            let params = params(18, rescore_seeds);
            let better = (0..SEARCHES).filter(|s| verdict(*s, &params, 2000, 0.003, quality) == Verdict::Better);
            better.count() as f64 / SEARCHES as f64
        };
        let (three, five) = (share(3), share(5));
        assert!(three > 0.9 && five > 0.99, "{three} {five}");
    }
}

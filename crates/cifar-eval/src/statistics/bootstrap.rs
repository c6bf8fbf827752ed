//! The bootstrap over images and seeds (Efron 1979), for statistics without a closed formula.

use cifar_data::random::{Purpose, stream};

/// Returns the quantile of sorted values at `level` (0 to 1), interpolated linearly (Hyndman &
/// Fan's type 7); none without values.
pub(crate) fn quantile(sorted: &[f64], level: f64) -> Option<f64> {
    let position = level * (sorted.len().checked_sub(1)? as f64);
    let low = *sorted.get(position.floor() as usize)?;
    let high = *sorted.get(position.ceil() as usize)?;
    Some(low + position.fract() * (high - low))
}

/// Number of resamples.
pub const RESAMPLES: usize = 2000;

/// Returns the accuracy of each run on resampled images: one list per run with one value per
/// resample, 0 to 1.
///
/// A run says for each image whether it is classified correctly. `images` are the indices that are
/// drawn from; without any, every accuracy is 0. All runs get the same draws, which depend only on
/// `key`, the number of the resample and the number of images.
///
/// ```
/// use cifar_eval::statistics::bootstrap::{RESAMPLES, resampled_accuracies};
///
/// let run = [true, false, true, true];
/// let accuracies = resampled_accuracies(&[&run], &[0, 1, 2, 3], 7);
/// assert_eq!((accuracies.len(), accuracies[0].len()), (1, RESAMPLES));
/// let mean = accuracies[0].iter().sum::<f64>() / RESAMPLES as f64;
/// assert!((mean - 0.75).abs() < 0.05);
/// ```
pub fn resampled_accuracies(runs: &[&[bool]], images: &[usize], key: u64) -> Vec<Vec<f64>> {
    let n = images.len();
    let mut accuracies = vec![Vec::with_capacity(RESAMPLES); runs.len()];
    let mut times = vec![0u32; n];
    for resample in 0..RESAMPLES {
        let mut draws = stream(key, Purpose::Bootstrap, resample as u64, n as u64);
        times.fill(0);
        for _ in 0..n {
            times[draws.below(n as u64) as usize] += 1;
        }
        for (run, accuracies) in runs.iter().zip(&mut accuracies) {
            let correct: u32 = images.iter().zip(&times).map(|(image, times)| u32::from(run[*image]) * times).sum();
            accuracies.push(f64::from(correct) / n.max(1) as f64);
        }
    }
    accuracies
}

/// Returns the indices of the runs that a resample draws from `runs` runs, with replacement; 0 if
/// there is one run.
///
/// It draws `runs − 1` runs: their mean has the variance of the mean over all runs (Rao & Wu 1988).
/// With `runs` draws the variance would be too small, by a third for three runs.
///
/// ```
/// let drawn = cifar_eval::statistics::bootstrap::resampled_seeds(3, 7, 0);
/// assert!(drawn.len() == 2 && drawn.iter().all(|run| *run < 3));
/// ```
pub fn resampled_seeds(runs: usize, key: u64, resample: usize) -> Vec<usize> {
    let mut draws = stream(key, Purpose::Bootstrap, resample as u64, runs as u64);
    (0..runs.saturating_sub(1).max(1)).map(|_| draws.below(runs as u64) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resamples_depend_on_the_key_and_are_shared_by_all_runs() {
        let run: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
        let other: Vec<bool> = run.iter().map(|is_correct| !is_correct).collect();
        let images: Vec<usize> = (10..60).collect();
        let first = resampled_accuracies(&[&run, &other], &images, 1);
        assert_eq!(first, resampled_accuracies(&[&run, &other], &images, 1));
        assert_ne!(first, resampled_accuracies(&[&run, &other], &images, 2));
        assert_eq!((first.len(), first[0].len()), (2, RESAMPLES));
        assert!(first[0].iter().zip(&first[1]).all(|(a, b)| (a + b - 1.0).abs() < 1e-12));
    }

    #[test]
    fn resampled_means_have_the_variance_of_means() {
        let variance = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
        };
        let run: Vec<bool> = (0..400).map(|i| i % 5 != 0).collect();
        let images: Vec<usize> = (0..400).collect();
        let found = variance(&resampled_accuracies(&[&run], &images, 3)[0]);
        // The standard error of a variance over 2,000 resamples is 3 % of it.
        assert!((found / (0.16 / 400.0) - 1.0).abs() < 0.13, "{found}");
        // Three runs with a variance of 1: that of their mean is a third.
        let accuracies = [-1.0, 0.0, 1.0];
        let means: Vec<f64> = (0..RESAMPLES)
            .map(|resample| {
                let drawn = resampled_seeds(3, 3, resample);
                drawn.iter().map(|run| accuracies[*run]).sum::<f64>() / drawn.len() as f64
            })
            .collect();
        assert!((variance(&means) * 3.0 - 1.0).abs() < 0.13, "{}", variance(&means));
        assert_eq!(resampled_seeds(1, 3, 9), [0]);
    }
}

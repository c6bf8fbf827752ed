//! The bootstrap over images and seeds (Efron 1979), for figures that have no formula.

use cifar_data::random::{Purpose, stream};

/// Returns the quantile of sorted values, between two of them in proportion (Hyndman & Fan's type 7); none of no values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)? as f64);
    let (below, part) = (place.floor(), place.fract());
    let low = *sorted.get(below as usize)?;
    let high = *sorted.get(place.ceil() as usize)?;
    Some(low + part * (high - low))
}

/// Number of resamples.
pub const RESAMPLES: usize = 2000;

/// Returns the mean of each run's answers over resampled images: one list per run, one value per resample, 0..1.
///
/// All runs see the same draw of images. The draws of a resample depend on `key`, its number and the number of images.
/// `images` are the indices that are drawn from; without any, every mean is 0.
pub fn resampled_accuracies(runs: &[&[bool]], images: &[usize], key: u64) -> Vec<Vec<f64>> {
    let n = images.len();
    let mut means = vec![Vec::with_capacity(RESAMPLES); runs.len()];
    let mut times = vec![0u32; n];
    for resample in 0..RESAMPLES {
        let mut draws = stream(key, Purpose::Bootstrap, resample as u64, n as u64);
        times.fill(0);
        for _ in 0..n {
            times[draws.below(n as u64) as usize] += 1;
        }
        for (run, means) in runs.iter().zip(&mut means) {
            let right: u32 = images.iter().zip(&times).map(|(image, times)| u32::from(run[*image]) * times).sum();
            means.push(f64::from(right) / n.max(1) as f64);
        }
    }
    means
}

/// Returns which of `runs` runs of one combination a resample takes, with repetition; the only one of one.
///
/// It draws one run less than there are: the mean over so many has the variance of the mean over all (Rao & Wu 1988), where as many
/// as there are would have too little by a third of three runs.
pub fn resampled_seeds(runs: usize, key: u64, resample: usize) -> Vec<usize> {
    let mut draws = stream(key, Purpose::Bootstrap, resample as u64, runs as u64);
    (0..runs.saturating_sub(1).max(1)).map(|_| draws.below(runs as u64) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resamples_are_those_of_their_key_and_the_same_for_all_runs() {
        let run: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
        let other: Vec<bool> = run.iter().map(|right| !right).collect();
        let images: Vec<usize> = (10..60).collect();
        let first = resampled_accuracies(&[&run, &other], &images, 1);
        assert_eq!(first, resampled_accuracies(&[&run, &other], &images, 1));
        assert_ne!(first, resampled_accuracies(&[&run, &other], &images, 2));
        assert_eq!((first.len(), first[0].len()), (2, RESAMPLES));
        assert!(first[0].iter().zip(&first[1]).all(|(a, b)| (a + b - 1.0).abs() < 1e-12));
    }

    #[test]
    fn resampled_means_spread_as_means_do() {
        let spread = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
        };
        let run: Vec<bool> = (0..400).map(|i| i % 5 != 0).collect();
        let images: Vec<usize> = (0..400).collect();
        let found = spread(&resampled_accuracies(&[&run], &images, 3)[0]);
        // The variance of a variance over 2,000 resamples: 3 % of it.
        assert!((found / (0.16 / 400.0) - 1.0).abs() < 0.13, "{found}");
        // Three runs with a variance of 1: their mean has a third.
        let accuracies = [-1.0, 0.0, 1.0];
        let means: Vec<f64> = (0..RESAMPLES)
            .map(|resample| {
                let drawn = resampled_seeds(3, 3, resample);
                drawn.iter().map(|run| accuracies[*run]).sum::<f64>() / drawn.len() as f64
            })
            .collect();
        assert!((spread(&means) * 3.0 - 1.0).abs() < 0.13, "{}", spread(&means));
        assert_eq!(resampled_seeds(1, 3, 9), [0]);
    }
}

//! Mean, standard deviation and interval of a value over several runs.

use serde::{Deserialize, Serialize};

use super::student;
use crate::interval::{Interval, wilson};

/// Mean and spread of a value over runs that differ only in the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of runs.
    pub n: usize,
    /// Mean over the runs.
    pub mean: f64,
    /// Sample standard deviation (divisor n − 1); none for one run.
    pub sd: Option<f64>,
    /// Lower end of the 95 % interval of the mean (Student's t) over the choice of seeds; none for
    /// one run.
    pub low: Option<f64>,
    /// Upper end of that interval.
    pub high: Option<f64>,
}

impl Spread {
    /// Computes the spread of one value per run; none without values.
    ///
    /// ```
    /// use cifar_eval::statistics::Spread;
    ///
    /// let accuracy = Spread::of(&[0.78, 0.80, 0.79]).unwrap();
    /// assert!((accuracy.mean - 0.79).abs() < 1e-12);
    /// assert!((accuracy.sd.unwrap() - 0.01).abs() < 1e-12);
    /// // On 1,000 test images the interval for other seeds and images is wider.
    /// let interval = accuracy.accuracy_interval(1000);
    /// assert!(interval.low < accuracy.low.unwrap() && interval.high > accuracy.high.unwrap());
    /// ```
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let sd = (n > 1).then(|| (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n as f64 - 1.0)).sqrt());
        let half = sd.map(|sd| student(n as f64 - 1.0) * sd / (n as f64).sqrt());
        Some(Self { n, mean, sd, low: half.map(|h| mean - h), high: half.map(|h| mean + h) })
    }

    /// Returns the 95 % interval of a mean accuracy (0 to 1) over the choice of seeds and of
    /// `images` test images. For one run, the interval covers the choice of images only (Wilson).
    ///
    /// The variance due to images is that of one run, p·(1 − p)/images: an upper bound for a mean
    /// over runs. Two images are added, one correct and one wrong (Agresti & Caffo 2000). The
    /// degrees of freedom are those of Satterthwaite.
    pub fn accuracy_interval(&self, images: usize) -> Interval {
        let n = images as f64;
        let Some(sd) = self.sd else { return wilson((self.mean * n).round() as usize, images) };
        let centre = (self.mean * n + 1.0) / (n + 2.0);
        let of_images = centre * (1.0 - centre) / (n + 2.0);
        let of_seeds = sd * sd / self.n as f64;
        let variance = of_images + of_seeds;
        let over_degrees = of_images.powi(2) / (n - 1.0).max(1.0) + of_seeds.powi(2) / (self.n as f64 - 1.0);
        let half = student(variance * variance / over_degrees) * variance.sqrt();
        Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    #[test]
    fn figures_agree_with_scipy() {
        // goldens.py, `spread`.
        let found = Spread::of(&[0.781, 0.786, 0.779]).unwrap();
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}");
        close(Some(found.mean), 0.782);
        close(found.sd, SD);
        close(found.low, LOW);
        close(found.high, HIGH);
    }
    const SD: f64 = 0.003_605_551_275_463_992_6;
    const LOW: f64 = 0.773_043_314_104_970_4;
    const HIGH: f64 = 0.790_956_685_895_029_7;

    #[test]
    fn one_run_has_no_interval_and_no_run_no_spread() {
        assert_eq!(Spread::of(&[0.5]), Some(Spread { n: 1, mean: 0.5, sd: None, low: None, high: None }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn intervals_of_accuracies_cover_seeds_and_images() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        // One run: Wilson's interval of 84 in 100.
        let one = Spread::of(&[0.84]).unwrap().accuracy_interval(100);
        assert_eq!(one, wilson(84, 100));
        // Equal seeds: only the variance of the images is left, with 999 degrees of freedom.
        let same = Spread::of(&[0.9, 0.9, 0.9]).unwrap().accuracy_interval(1000);
        let (p, t) = (901.0 / 1002.0, 1.962_341_5);
        close(same.low, p - t * (p * (1.0 - p) / 1002.0f64).sqrt());
        // Many images: only the variance of the seeds is left.
        let many = Spread::of(&[0.781, 0.786, 0.779]).unwrap().accuracy_interval(2_000_000_000);
        assert!((many.low - LOW).abs() < 1e-5 && (many.high - HIGH).abs() < 1e-5, "{many:?}");
        let perfect = Spread::of(&[1.0, 1.0]).unwrap().accuracy_interval(50);
        assert!(perfect.low < 0.95 && perfect.high <= 1.0, "{perfect:?}");
    }

    #[test]
    fn nineteen_of_twenty_intervals_cover_the_mean() {
        for n in [2, 3, 10] {
            let trials = 4000;
            let covers = |trial: u64| {
                let mut draws = stream(1, Purpose::Bootstrap, trial, n as u64);
                let values: Vec<f64> = (0..n).map(|_| 0.8 + 0.01 * draws.normal()).collect();
                let found = Spread::of(&values).unwrap();
                found.low.unwrap() <= 0.8 && 0.8 <= found.high.unwrap()
            };
            let fraction = (0..trials).filter(|t| covers(*t)).count() as f64 / trials as f64;
            // Four standard errors of a fraction of 0.95 in 4,000 are 0.014.
            assert!((fraction - 0.95).abs() < 0.014, "n = {n}: {fraction}");
        }
    }
}

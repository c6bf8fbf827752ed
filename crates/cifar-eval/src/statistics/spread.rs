//! Mean, standard deviation and interval of some runs' figures.

use serde::{Deserialize, Serialize};

use super::student;
use crate::interval::{Interval, wilson};

/// The figures of some runs that differ in the seed alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of runs.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Standard deviation (n − 1); none for one run.
    pub sd: Option<f64>,
    /// Lower end of the mean's 95 % interval (Student's t) for the choice of seeds; none for one run.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
}

impl Spread {
    /// Of these values; none if there are none.
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

    /// Returns the 95 % interval of a mean accuracy (0..1) for other seeds and other images, of which there are `images`; that of
    /// the images alone (Wilson) for one run.
    ///
    /// The variance of the images is that of one run, p·(1 − p)/images: an upper bound for a mean over runs. Two images are
    /// added, one right and one wrong (Agresti & Caffo 2000), and degrees of freedom are Satterthwaite's.
    pub fn accuracy_interval(&self, images: usize) -> Interval {
        let n = images as f64;
        let Some(sd) = self.sd else { return wilson((self.mean * n).round() as usize, images) };
        let centre = (self.mean * n + 1.0) / (n + 2.0);
        let of_images = centre * (1.0 - centre) / (n + 2.0);
        let of_seeds = sd * sd / self.n as f64;
        let variance = of_images + of_seeds;
        let by_degrees = of_images.powi(2) / (n - 1.0).max(1.0) + of_seeds.powi(2) / (self.n as f64 - 1.0);
        let half = student(variance * variance / by_degrees) * variance.sqrt();
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
    fn one_run_has_no_interval_and_none_has_nothing() {
        assert_eq!(Spread::of(&[0.5]), Some(Spread { n: 1, mean: 0.5, sd: None, low: None, high: None }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn intervals_of_accuracies_hold_seeds_and_images() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        // One run: Wilson's of 84 of 100.
        let one = Spread::of(&[0.84]).unwrap().accuracy_interval(100);
        assert_eq!(one, wilson(84, 100));
        // Seeds that agree: the images' interval is left, with 999 degrees of freedom.
        let same = Spread::of(&[0.9, 0.9, 0.9]).unwrap().accuracy_interval(1000);
        let (p, t) = (901.0 / 1002.0, 1.962_341_5);
        close(same.low, p - t * (p * (1.0 - p) / 1002.0f64).sqrt());
        // Many images: the seeds' interval is left.
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
            let share = (0..trials).filter(|t| covers(*t)).count() as f64 / trials as f64;
            // Four standard errors of a share of 0.95 in 4,000 are 0.014.
            assert!((share - 0.95).abs() < 0.014, "n = {n}: {share}");
        }
    }
}

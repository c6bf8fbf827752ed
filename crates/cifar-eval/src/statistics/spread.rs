//! Mean, standard deviation and interval of some runs' figures.

use serde::{Deserialize, Serialize};

use super::student;

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
        let half = sd.and_then(|sd| Some(student(n - 1)? * sd / (n as f64).sqrt()));
        Some(Self { n, mean, sd, low: half.map(|h| mean - h), high: half.map(|h| mean + h) })
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

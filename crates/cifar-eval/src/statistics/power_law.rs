//! A learning curve with two parameters: error = scale · n^(−exponent), a straight line in logarithms (Hestness et al. 2017,
//! arXiv 1712.00409).

use serde::{Deserialize, Serialize};

use super::student;

/// The line through points of (ln n, ln error), by least squares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// Number of points.
    pub points: usize,
    /// The error at n = 1, were the law to hold that far.
    pub scale: f64,
    /// How fast the error falls: twice the data take it to 2^(−exponent) of itself.
    pub exponent: f64,
    /// Lower end of the exponent's 95 % interval (Student's t, points − 2 degrees of freedom); none for two points.
    pub exponent_low: Option<f64>,
    /// Its upper end.
    pub exponent_high: Option<f64>,
    /// Standard deviation of points about the line, in ln(error); none for two points.
    pub residual_sd: Option<f64>,
    mean_ln_n: f64,
    sum_of_squares_ln_n: f64,
}

/// What the law says of a number of images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The error, 0..1.
    pub error: f64,
    /// Lower end of the 95 % interval in which another point would lie; none for a law of two points.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
}

impl PowerLaw {
    /// Through points of (number of images, error); none unless two numbers differ and all are above 0.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        if !points.iter().all(|(n, error)| *n > 0.0 && *error > 0.0) {
            return None;
        }
        let logs: Vec<(f64, f64)> = points.iter().map(|(n, error)| (libm::log(*n), libm::log(*error))).collect();
        let m = logs.len() as f64;
        let (mean_x, mean_y) = (logs.iter().map(|p| p.0).sum::<f64>() / m, logs.iter().map(|p| p.1).sum::<f64>() / m);
        let sxx: f64 = logs.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
        // Equal numbers leave rounding errors of their mean.
        let distinct = points.iter().any(|p| (p.0 - points[0].0).abs() > 1e-9 * p.0);
        if !distinct {
            return None;
        }
        let slope = logs.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>() / sxx;
        let squares: f64 = logs.iter().map(|p| (p.1 - mean_y - slope * (p.0 - mean_x)).powi(2)).sum();
        let residual_sd = (logs.len() > 2).then(|| (squares / (m - 2.0)).sqrt());
        let half = residual_sd.and_then(|sd| Some(student(logs.len() - 2)? * sd / sxx.sqrt()));
        Some(Self {
            points: logs.len(),
            scale: libm::exp(mean_y - slope * mean_x),
            exponent: -slope,
            exponent_low: half.map(|h| -slope - h),
            exponent_high: half.map(|h| -slope + h),
            residual_sd,
            mean_ln_n: mean_x,
            sum_of_squares_ln_n: sxx,
        })
    }

    /// For `n` images, with the interval for another point.
    pub fn at(&self, n: f64) -> Predicted {
        let line = libm::log(self.scale) - self.exponent * libm::log(n);
        let half = self.residual_sd.and_then(|sd| {
            let distance = (libm::log(n) - self.mean_ln_n).powi(2) / self.sum_of_squares_ln_n;
            Some(student(self.points - 2)? * sd * (1.0 + 1.0 / self.points as f64 + distance).sqrt())
        });
        let error = |x: f64| libm::exp(x).min(1.0);
        Predicted { error: error(line), low: half.map(|h| error(line - h)), high: half.map(|h| error(line + h)) }
    }
}

#[cfg(test)]
mod tests {
    use cifar_data::random::{Purpose, stream};

    use super::*;

    const POINTS: [(f64, f64); 6] =
        [(5000.0, 0.41), (10_000.0, 0.33), (14_000.0, 0.29), (14_000.0, 0.3), (28_000.0, 0.235), (42_000.0, 0.2)];

    #[test]
    fn figures_agree_with_scipy() {
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-8, "{found} {expected}");
        let law = PowerLaw::fit(&POINTS).unwrap();
        let twice = law.at(84_000.0);
        let found = [
            law.scale,
            law.exponent,
            law.exponent_low.unwrap(),
            law.exponent_high.unwrap(),
            twice.error,
            twice.low.unwrap(),
            twice.high.unwrap(),
        ];
        for (found, expected) in found.into_iter().zip(GOLDEN) {
            close(found, expected);
        }
    }
    // goldens.py, `power_law`: scale, exponent with its interval, error at 84,000 with its interval.
    const GOLDEN: [f64; 7] = [
        7.199_888_245_932_626,
        0.335_215_167_054_384_14,
        0.307_900_617_113_869_07,
        0.362_529_716_994_899_2,
        0.160_928_384_661_742_43,
        0.150_294_906_840_249_32,
        0.172_314_189_044_145_41,
    ];

    #[test]
    fn two_points_have_a_line_and_no_interval() {
        let law = PowerLaw::fit(&[(100.0, 0.4), (400.0, 0.2)]).unwrap();
        assert!((law.exponent - 0.5).abs() < 1e-12 && (law.scale - 4.0).abs() < 1e-9);
        assert_eq!((law.exponent_low, law.residual_sd, law.at(800.0).high), (None, None, None));
        assert!((law.at(1600.0).error - 0.1).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_line_is_none() {
        for points in [&[][..], &[(100.0, 0.3)], &[(100.0, 0.3), (100.0, 0.2)], &[(100.0, 0.3), (200.0, 0.0)]] {
            assert_eq!(PowerLaw::fit(points), None, "{points:?}");
        }
    }

    #[test]
    fn nineteen_of_twenty_intervals_cover() {
        let trials = 4000u64;
        let (mut exponents, mut others) = (0, 0);
        for trial in 0..trials {
            let mut draws = stream(trial, Purpose::Synthetic, 1, 0);
            let mut error = |n: f64| (8.0 * n.powf(-0.35)) * (0.03 * draws.normal()).exp();
            let points: Vec<(f64, f64)> = POINTS.iter().map(|(n, _)| (*n, error(*n))).collect();
            let law = PowerLaw::fit(&points).unwrap();
            let (twice, truth) = (law.at(84_000.0), error(84_000.0));
            exponents += u32::from(law.exponent_low.unwrap() <= 0.35 && 0.35 <= law.exponent_high.unwrap());
            others += u32::from(twice.low.unwrap() <= truth && truth <= twice.high.unwrap());
        }
        // Four standard errors of a share of 0.95 in 4,000 are 0.014.
        for count in [exponents, others] {
            let share = f64::from(count) / trials as f64;
            assert!((share - 0.95).abs() < 0.014, "{share}");
        }
    }
}

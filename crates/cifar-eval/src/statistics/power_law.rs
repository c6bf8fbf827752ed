//! A learning curve with two parameters: error = scale · n^(−exponent), a straight line in
//! logarithms (Hestness et al. 2017, arXiv 1712.00409).

use serde::{Deserialize, Serialize};

/// The least-squares line through the points (ln n, ln error).
///
/// It has no interval: the textbook interval assumes independent points. Those of a grid are not
/// independent, since all are scored on the same images, and training sets contain each other.
/// [`PowerLaw::gradient`] propagates errors of the points to the exponent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// Number of points.
    pub points: usize,
    /// The error at n = 1, extrapolated.
    pub scale: f64,
    /// How fast the error falls: twice the data multiply it by 2^(−exponent).
    pub exponent: f64,
    /// Residual standard deviation of ln(error), with points − 2 degrees of freedom. None for two
    /// points, which always lie on a line.
    pub residual_sd: Option<f64>,
}

impl PowerLaw {
    /// Fits points of (number of images, error). Returns none unless all are above 0 and two
    /// numbers of images differ.
    ///
    /// ```
    /// use cifar_eval::statistics::power_law::PowerLaw;
    ///
    /// // Four times the data halve the error.
    /// let law = PowerLaw::fit(&[(100.0, 0.4), (400.0, 0.2)]).unwrap();
    /// assert!((law.exponent - 0.5).abs() < 1e-12 && (law.at(1600.0) - 0.1).abs() < 1e-12);
    /// ```
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        if !points.iter().all(|(n, error)| *n > 0.0 && *error > 0.0) {
            return None;
        }
        let logs: Vec<(f64, f64)> = points.iter().map(|(n, error)| (libm::log(*n), libm::log(*error))).collect();
        let m = logs.len() as f64;
        // Equal numbers of images leave rounding errors in sxx.
        let distinct = points.iter().any(|p| (p.0 - points[0].0).abs() > 1e-9 * p.0);
        if !distinct {
            return None;
        }
        let (mean_x, mean_y) = (logs.iter().map(|p| p.0).sum::<f64>() / m, logs.iter().map(|p| p.1).sum::<f64>() / m);
        let sxx: f64 = logs.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
        let slope = logs.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>() / sxx;
        let squares: f64 = logs.iter().map(|p| (p.1 - mean_y - slope * (p.0 - mean_x)).powi(2)).sum();
        Some(Self {
            points: logs.len(),
            scale: libm::exp(mean_y - slope * mean_x),
            exponent: -slope,
            residual_sd: (logs.len() > 2).then(|| (squares / (m - 2.0)).sqrt()),
        })
    }

    /// Returns the derivative of the fitted exponent with respect to the accuracy (1 − error) of
    /// each point. Small changes of accuracies change the exponent by the sum of derivative ×
    /// change. The points must be valid for [`PowerLaw::fit`].
    ///
    /// ```
    /// use cifar_eval::statistics::power_law::PowerLaw;
    ///
    /// // Fewer errors at the right end make the curve steeper, fewer at the left end flatter.
    /// let gradient = PowerLaw::gradient(&[(100.0, 0.4), (400.0, 0.2)]);
    /// assert!(gradient[0] < 0.0 && gradient[1] > 0.0);
    /// ```
    pub fn gradient(points: &[(f64, f64)]) -> Vec<f64> {
        let m = points.len() as f64;
        let mean_x = points.iter().map(|p| libm::log(p.0)).sum::<f64>() / m;
        let sxx: f64 = points.iter().map(|p| (libm::log(p.0) - mean_x).powi(2)).sum();
        points.iter().map(|(n, error)| (libm::log(*n) - mean_x) / sxx / error).collect()
    }

    /// Returns the error for `n` images, at most 1.
    pub fn at(&self, n: f64) -> f64 {
        libm::exp(libm::log(self.scale) - self.exponent * libm::log(n)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [(f64, f64); 6] =
        [(5000.0, 0.41), (10_000.0, 0.33), (14_000.0, 0.29), (14_000.0, 0.3), (28_000.0, 0.235), (42_000.0, 0.2)];

    #[test]
    fn figures_agree_with_scipy() {
        let law = PowerLaw::fit(&POINTS).unwrap();
        let found = [law.scale, law.exponent, law.at(84_000.0)];
        for (found, expected) in found.into_iter().zip(GOLDEN) {
            assert!((found / expected - 1.0).abs() < 1e-8, "{found} {expected}");
        }
    }
    // goldens.py, `power_law`: scale, exponent, error at 84,000.
    const GOLDEN: [f64; 3] = [7.199_888_245_932_626, 0.335_215_167_054_384_14, 0.160_928_384_661_742_43];

    #[test]
    fn two_points_have_a_line_and_no_residual() {
        let law = PowerLaw::fit(&[(100.0, 0.4), (400.0, 0.2)]).unwrap();
        assert!((law.exponent - 0.5).abs() < 1e-12 && (law.scale - 4.0).abs() < 1e-9);
        assert_eq!(law.residual_sd, None);
        assert!((law.at(1600.0) - 0.1).abs() < 1e-12 && (law.at(1.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn too_few_or_perfect_points_give_none() {
        for points in [&[][..], &[(100.0, 0.3)], &[(100.0, 0.3), (100.0, 0.2)], &[(100.0, 0.3), (200.0, 0.0)]] {
            assert_eq!(PowerLaw::fit(points), None, "{points:?}");
        }
    }

    #[test]
    fn the_gradient_agrees_with_small_changes() {
        let exponent = |points: &[(f64, f64)]| PowerLaw::fit(points).unwrap().exponent;
        for (index, derivative) in PowerLaw::gradient(&POINTS).into_iter().enumerate() {
            let change = 1e-6;
            let [lower, higher] = [change, -change].map(|change| {
                let mut points = POINTS;
                points[index].1 += change;
                exponent(&points)
            });
            let found = (higher - lower) / (2.0 * change);
            assert!((found - derivative).abs() < 1e-6 * derivative.abs().max(1.0), "{index}: {found} {derivative}");
        }
    }
}

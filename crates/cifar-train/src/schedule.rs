//! How learning rates change over a run.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Constant.
    Constant,
    /// Linear, down to 0.
    Linear,
    /// Linear from a fifth of the highest rate up to it over the warm-up, then linear down to 7 %
    /// of it (Jordan 2024, arXiv 2404.00498).
    Triangular,
    /// Half a cosine, down to 0 (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts).
    Cosine,
}

/// First and last value of the triangular schedule, as fractions of its peak.
const TRIANGLE: [f64; 2] = [0.2, 0.07];

impl Schedule {
    /// Returns the name as parameters have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Triangular => "triangular",
            Self::Cosine => "cosine",
        }
    }

    /// Returns the factor (0..=1) on the highest learning rate at `step` (counted from 0) of
    /// `steps`.
    ///
    /// The first `warmup` steps rise linearly. The factors of the first and the last step are above
    /// 0.
    ///
    /// ```
    /// use cifar_train::Schedule;
    ///
    /// let factors: Vec<f64> = (0..4).map(|step| Schedule::Linear.factor(step, 4, 0.0)).collect();
    /// assert_eq!(factors, [1.0, 0.75, 0.5, 0.25]);
    /// ```
    pub fn factor(self, step: usize, steps: usize, warmup: f64) -> f64 {
        let at = step as f64;
        if at < warmup {
            let risen = ((at + 1.0) / warmup).min(1.0);
            return if self == Self::Triangular { TRIANGLE[0] + (1.0 - TRIANGLE[0]) * risen } else { risen };
        }
        // 1 at the first step after the warm-up; 0 would be one step after the last.
        let left = (steps as f64 - at) / (steps as f64 - warmup);
        match self {
            Self::Constant => 1.0,
            Self::Linear => left,
            Self::Triangular => TRIANGLE[1] + (1.0 - TRIANGLE[1]) * left,
            Self::Cosine => 0.5 - 0.5 * libm::cos(std::f64::consts::PI * left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: Schedule, warmup: f64, expected: &[f64]) {
        let found: Vec<f64> = (0..expected.len()).map(|step| schedule.factor(step, expected.len(), warmup)).collect();
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn factors_follow_their_schedules() {
        check(Schedule::Linear, 0.0, &[1.0, 0.75, 0.5, 0.25]);
        check(Schedule::Linear, 2.0, &[0.5, 1.0, 1.0, 0.5]);
        check(Schedule::Linear, 4.0, &[0.25, 0.5, 0.75, 1.0]);
        check(Schedule::Constant, 0.5, &[1.0, 1.0, 1.0]);
        check(Schedule::Cosine, 0.0, &[1.0, 0.75, 0.25]);
        check(Schedule::Cosine, 1.0, &[1.0, 1.0, 0.5]);
        check(Schedule::Triangular, 2.0, &[0.6, 1.0, 1.0, 0.535]);
    }

    #[test]
    fn no_step_has_a_rate_of_0() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Triangular, Schedule::Cosine] {
            assert_eq!(serde_json::to_value(schedule).unwrap(), schedule.name());
            for (steps, warmup) in [(1, 0.0), (1, 1.0), (7, 3.5), (7, 7.0)] {
                let factors = (0..steps).map(|step| schedule.factor(step, steps, warmup));
                assert!(factors.into_iter().all(|f| f > 0.0 && f <= 1.0), "{schedule:?} {steps} {warmup}");
            }
        }
    }
}

//! How the learning rate moves over a run.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate behind the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same to the end.
    Constant,
    /// Straight down to 0.
    Linear,
}

impl Schedule {
    /// The factor (0..=1) on the highest learning rate at `step` (counted from 0) of `steps`, of which the first
    /// `warmup` steps rise in a straight line. The first step's factor is above 0 and so is the last one's.
    pub fn factor(self, step: usize, steps: usize, warmup: f64) -> f64 {
        let at = step as f64;
        if at < warmup {
            return ((at + 1.0) / warmup).min(1.0);
        }
        match self {
            Self::Constant => 1.0,
            Self::Linear => (steps as f64 - at) / (steps as f64 - warmup),
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
    fn schedules_have_their_shapes() {
        check(Schedule::Linear, 0.0, &[1.0, 0.75, 0.5, 0.25]);
        check(Schedule::Linear, 2.0, &[0.5, 1.0, 1.0, 0.5]);
        check(Schedule::Linear, 4.0, &[0.25, 0.5, 0.75, 1.0]);
        check(Schedule::Constant, 0.5, &[1.0, 1.0, 1.0]);
    }
}

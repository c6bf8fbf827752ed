//! The importance of each tuned parameter.

use serde::Serialize;

use super::{Outcome, Space};

/// The importance of one parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// Its key.
    pub key: String,
    /// Fraction of the variance of first-rung accuracies that the parameter explains alone, 0..1.
    pub share: f64,
    /// Number of trials used.
    pub trials: usize,
}

/// Bins of a parameter's range.
const BINS: usize = 4;

/// Returns ε² (Kelley 1935) for each parameter: the fraction of the variance of first-rung
/// accuracies that is between the quarters of its range.
///
/// ε² = 1 − (n − 1) / (n − bins) · (1 − η²), which corrects η² for chance, and at least 0. It
/// misses parameters that matter only together, and says little with fewer than a dozen trials.
/// Failed trials count as the worst successful one; if all failed, every value is 0.
pub fn importances(space: &Space, outcome: &Outcome) -> Vec<Importance> {
    let trials: Vec<(&[f64], f64)> =
        (outcome.trials.iter().skip(1)).map(|t| (t.point.as_slice(), t.rungs[0].1.accuracy())).collect();
    let worst = trials.iter().map(|t| t.1).filter(|a| a.is_finite()).fold(f64::INFINITY, f64::min);
    let accuracies: Vec<f64> = trials.iter().map(|t| if t.1.is_finite() { t.1 } else { worst }).collect();
    let share = |axis: usize| {
        let n = accuracies.len() as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let total: f64 = accuracies.iter().map(|a| (a - mean(&accuracies)).powi(2)).sum();
        let mut bins = vec![Vec::new(); BINS];
        for ((point, _), accuracy) in trials.iter().zip(&accuracies) {
            bins[((point[axis] * BINS as f64) as usize).min(BINS - 1)].push(*accuracy);
        }
        bins.retain(|bin| !bin.is_empty());
        let within: f64 = bins.iter().map(|bin| bin.iter().map(|a| (a - mean(bin)).powi(2)).sum::<f64>()).sum();
        let free = n - bins.len() as f64;
        if free <= 0.0 || total == 0.0 || !total.is_finite() {
            0.0
        } else {
            (1.0 - (n - 1.0) / free * within / total).max(0.0)
        }
    };
    let importance =
        |(axis, key): (usize, &str)| Importance { key: key.into(), share: share(axis), trials: trials.len() };
    space.keys().enumerate().map(importance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::{Score, Trial};

    #[test]
    fn the_parameter_that_decides_the_score_is_found() {
        let space: Space =
            serde_json::from_str(r#"{"train.a": {"uniform": [0, 1]}, "train.b": {"uniform": [0, 1]}}"#).unwrap();
        let trial = |number: usize| {
            let point =
                if number == 0 { Vec::new() } else { vec![(number % 8) as f64 / 8.0, (number / 8) as f64 / 8.0] };
            let accuracy = point.first().map_or(0.5, |x| 0.9 - (x - 0.4f64).powi(2));
            let score = if number == 7 { Score::Failed("NaN".into()) } else { Score::Trained { accuracy, loss: 1.0 } };
            Trial { number, point, setting: space.at(&[]), rungs: vec![(1, score)], rescored: Vec::new() }
        };
        let outcome = Outcome { trials: (0..64).map(trial).collect(), seed: 42, epochs: 1, best: 1 };
        let found = importances(&space, &outcome);
        assert!(found[0].share > 0.7 && found[1].share < 0.1, "{found:?}");
        // Scores after the first rung change nothing.
        let mut longer = outcome.clone();
        for (number, trial) in longer.trials.iter_mut().enumerate() {
            trial.rungs.push((9, Score::Trained { accuracy: (number / 8) as f64 / 8.0, loss: 1.0 }));
        }
        assert_eq!(importances(&space, &longer), found);
        let mut failed = outcome.clone();
        for trial in &mut failed.trials {
            trial.rungs = vec![(1, Score::Failed("NaN".into()))];
        }
        assert!(importances(&space, &failed).iter().all(|i| i.share == 0.0));
        let few = Outcome { trials: (0..2).map(trial).collect(), ..outcome };
        assert!(importances(&space, &few).iter().all(|i| i.share == 0.0));
    }
}

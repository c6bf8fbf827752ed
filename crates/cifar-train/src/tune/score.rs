//! The scores of trials.

use serde::{Deserialize, Serialize};

use super::Setting;

/// The result of a trial on the validation images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// It was trained.
    Trained {
        /// Accuracy after its last epoch, 0..1.
        accuracy: f64,
        /// Mean cross-entropy, nats.
        loss: f64,
    },
    /// Training diverged, or the values are not allowed together; the reason, in words.
    Failed(String),
}

impl Score {
    /// Returns the accuracy, or negative infinity for a failed trial.
    pub fn accuracy(&self) -> f64 {
        if let Self::Trained { accuracy, .. } = self { *accuracy } else { f64::NEG_INFINITY }
    }

    /// Turns a score that is not finite into a failure: such values have no order and no JSON form.
    pub(super) fn or_failed(self) -> Self {
        match self {
            Self::Trained { accuracy, loss } if !(accuracy.is_finite() && loss.is_finite()) => {
                Self::Failed("accuracy or loss on validation images is not finite".into())
            }
            other => other,
        }
    }

    /// Returns the key by which scores are ordered, the better one greater: accuracy, then loss.
    pub(super) fn rank(&self) -> (f64, f64) {
        if let Self::Trained { accuracy, loss } = self {
            (*accuracy, -loss)
        } else {
            (f64::NEG_INFINITY, f64::NEG_INFINITY)
        }
    }
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scored {
    /// Number of the trial; 0 is the baseline.
    pub trial: usize,
    /// The seed of the training.
    pub seed: u64,
    /// Number of epochs trained in all.
    pub epochs: usize,
    /// The setting.
    pub setting: Setting,
    /// The result.
    pub score: Score,
}

impl std::fmt::Display for Scored {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let score = match &self.score {
            Score::Trained { accuracy, loss } => format!("{:>7.2} %  loss {loss:.4}", accuracy * 100.0),
            Score::Failed(reason) => format!("failed: {reason}"),
        };
        let values: Vec<String> = self.setting.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let setting = if values.is_empty() { "baseline".to_string() } else { values.join(" ") };
        write!(f, "trial {:>3}, seed {}, {:>3} epochs: {score}  {setting}", self.trial, self.seed, self.epochs)
    }
}

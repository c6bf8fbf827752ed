//! The record of an epoch, shared by the table, the JSON lines and DVC's files.

use serde::{Deserialize, Serialize};

/// The results of an epoch. It has no times: the same seed gives the same record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps done since the start of the run.
    pub step: usize,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Mean loss of the augmented training images as it was minimised: nats, with label smoothing
    /// and dropout.
    pub train_loss: f64,
    /// Accuracy on the augmented training images during the training pass, 0..1.
    pub train_accuracy: f64,
    /// Mean cross-entropy of the validation images, nats, without smoothing; none without such
    /// images.
    pub val_loss: Option<f64>,
    /// Accuracy on the validation images, 0..1; none without such images.
    pub val_accuracy: Option<f64>,
    /// Whether these are the best weights so far.
    pub best: bool,
}

/// The titles of the columns of an [`EpochRecord`] as text.
pub const EPOCH_COLUMNS: &str = "epoch   steps  learning rate  train loss  train acc   val loss    val acc";

/// One row of a table whose titles are [`EPOCH_COLUMNS`].
impl std::fmt::Display for EpochRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let percent = |accuracy: f64| format!("{:.2} %", accuracy * 100.0);
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        write!(
            f,
            "{:>5} {:>7} {:>14.3e} {:>11.4} {:>10} {:>10} {:>10} {}",
            self.epoch,
            self.step,
            self.learning_rate,
            self.train_loss,
            percent(self.train_accuracy),
            or_dash(self.val_loss.map(|loss| format!("{loss:.4}"))),
            or_dash(self.val_accuracy.map(percent)),
            if self.best { "best" } else { "" },
        )
    }
}

impl EpochRecord {
    /// Returns whether this epoch has a better validation result than `other`: accuracy first, then
    /// loss.
    pub fn beats(&self, other: &Self) -> bool {
        let key = |r: &Self| (r.val_accuracy.unwrap_or(0.0), -r.val_loss.unwrap_or(f64::INFINITY));
        key(self) > key(other)
    }
}

/// Returns the number of epochs since the best one.
pub(crate) fn epochs_without_a_better_one(history: &[EpochRecord]) -> usize {
    let best = history.iter().rev().find(|r| r.best).map_or(0, |r| r.epoch);
    history.len().saturating_sub(best)
}

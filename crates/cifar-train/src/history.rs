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

impl EpochRecord {
    /// Returns whether this epoch has a better validation result than `other`: accuracy first, then
    /// loss.
    pub fn beats(&self, other: &Self) -> bool {
        let key = |r: &Self| (r.val_accuracy.unwrap_or(0.0), -r.val_loss.unwrap_or(f64::INFINITY));
        key(self) > key(other)
    }
}

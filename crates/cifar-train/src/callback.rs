//! Events of a training run.

use cifar_data::Progress;
use cifar_model::Model;

use crate::tune::Scored;
use crate::{EpochRecord, StepRecord};

/// Receives the events of a training run, and may stop it.
///
/// Every method has a default that does nothing. Progress, warnings and cancellation are those of
/// [`Progress`].
///
/// ```
/// use cifar_data::Progress;
/// use cifar_train::{EpochRecord, TrainingCallback};
///
/// /// Ends a run once the training accuracy is high enough.
/// struct Until(f64);
///
/// impl Progress for Until {
///     fn update(&self, _what: &'static str, _done: u64, _total: u64) {}
/// }
///
/// impl TrainingCallback for Until {
///     fn should_continue(&self, history: &[EpochRecord]) -> bool {
///         history.last().is_none_or(|epoch| epoch.train_accuracy < self.0)
///     }
/// }
/// ```
pub trait TrainingCallback: Progress {
    /// Called when training begins. The model is new, or read from a checkpoint after `steps` steps
    /// and the epochs in `history`.
    fn started(&self, _model: &Model, _history: &[EpochRecord], _steps: usize) {}

    /// Called after each step.
    fn step(&self, _step: &StepRecord) {}

    /// Called when a trial of a search has a score.
    fn scored(&self, _scored: &Scored) {}

    /// Called after each epoch; the last record of `history` is that of this epoch.
    fn epoch(&self, _history: &[EpochRecord]) {}

    /// Returns whether the run should continue. Called after each epoch, after
    /// [`TrainingCallback::epoch`].
    ///
    /// `false` ends the run as early stopping does, without an error: the run returns the model of
    /// the epochs so far, selected by [`TrainParams::select`](crate::TrainParams::select). The
    /// checkpoint remembers the decision: see [`fit_resumable`](crate::fit_resumable). For
    /// reproducible results, decide by `history` alone. The trials of a search and the networks of
    /// folds do not call it.
    fn should_continue(&self, _history: &[EpochRecord]) -> bool {
        true
    }
}

impl TrainingCallback for cifar_data::Silent {}

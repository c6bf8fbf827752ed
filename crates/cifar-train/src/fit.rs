//! A whole training run: start or go on, epoch by epoch, and choose the weights to keep.

use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::Tensor;
use cifar_data::prepare::TrainingData;
use cifar_data::splits::Split;
use cifar_data::{DataError, Monitor};
use cifar_model::{Model, ModelOrigin, ModelParams, ModelSpec, evaluate_loss, predict, predict_some};

use crate::memory;
use crate::tune::Scored;
use crate::{Checkpoints, Dynamics, EpochRecord, Result, Select, StepRecord, TrainError, TrainParams, Trainer};

/// Watches a training run.
pub trait Watcher: Monitor {
    /// The model is built, or read from a checkpoint behind so many steps and the epochs of `history`; training begins.
    fn started(&self, _model: &Model, _history: &[EpochRecord], _steps: usize) {}

    /// A step is done.
    fn step(&self, _step: &StepRecord) {}

    /// A trial of a search has a score.
    fn scored(&self, _scored: &Scored) {}

    /// An epoch is done; `history` ends with it.
    fn epoch(&self, _history: &[EpochRecord]) {}

    /// Asked after each epoch, after [`Watcher::epoch`]: whether the run continues. `Break` ends it as
    /// early stopping does, without an error: the model is that of the epochs so far, chosen by
    /// [`TrainParams::select`]. A checkpoint remembers it: see [`fit_resumable`]. For results that can be
    /// repeated, decide by `history` alone. The trials of a search and the networks of folds do not ask.
    fn proceed(&self, _history: &[EpochRecord]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Watcher for cifar_data::Silent {}

/// A trained model and how it came about.
#[derive(Debug)]
pub struct Fitted {
    /// The selected weights.
    pub model: Model,
    /// Every epoch, in order.
    pub history: Vec<EpochRecord>,
    /// The epoch whose weights were kept, counted from 1.
    pub selected_epoch: usize,
    /// What the network said of each image, epoch by epoch; none if that was not to be recorded.
    pub dynamics: Option<Dynamics>,
    /// How long this process trained: a fact about the run that no result depends on.
    pub timing: Timing,
}

/// How long a process trained.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timing {
    /// Seconds between the first step and the last, with validation and checkpoints.
    pub seconds: f64,
    /// Of those, seconds that the trainer waited for batches.
    pub waited_seconds: f64,
    /// Steps that were done.
    pub steps: usize,
}

/// Trains a network on `data` under `seed`. The same arguments give the same bits at any number of threads.
///
/// # Errors
/// If a parameter is out of range or does not fit the data, the loss runs away, or the watcher asks to stop.
pub fn fit(
    params: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
    watcher: &dyn Watcher,
) -> Result<Fitted> {
    let mut run = Run::start(params, model, data, seed)?;
    run.train(params.epochs, None, watcher)?;
    run.finish()
}

/// The same with checkpoints: goes on where an earlier, interrupted call with the same arguments left off, and ends with
/// the same bits as a call that was left alone.
///
/// A run that [`Watcher::proceed`] ended is finished. A later call with the same arguments returns
/// the same model and does not train on, whatever its watcher says, unless
/// [`Checkpoints::continuing_after_stop`] asks for it. A process that is killed between the answer and
/// the checkpoint asks again when it resumes.
///
/// # Errors
/// As [`fit()`], and if the checkpoint cannot be used. A run that is stopped or runs away leaves its last checkpoint.
pub fn fit_resumable(
    params: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
    checkpoints: &mut Checkpoints,
    watcher: &dyn Watcher,
) -> Result<Fitted> {
    let mut run = Run::start(params, model, data, seed)?;
    checkpoints.resume(&mut run)?;
    run.train(params.epochs, Some(checkpoints), watcher)?;
    run.finish()
}

/// A training run: it can be stopped behind any step, saved, and gone on with.
#[derive(Debug)]
pub struct Run<'a> {
    data: &'a TrainingData,
    params: TrainParams,
    seed: u64,
    pub(crate) trainer: Trainer,
    pub(crate) progress: Progress,
    timing: Timing,
}

/// What a run has come to, besides the trainer's own state.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Every whole epoch.
    pub(crate) history: Vec<EpochRecord>,
    /// The best weights so far, if those are to be selected.
    pub(crate) best: Option<Vec<Tensor>>,
    /// Sum over the images of the epoch under way of their losses.
    pub(crate) loss: f64,
    /// Images of the epoch under way that the network got right.
    pub(crate) correct: usize,
    /// What it said of each image, if that is recorded.
    pub(crate) dynamics: Option<Dynamics>,
    /// Whether the watcher ended the run.
    pub(crate) stopped: bool,
    /// The kernels and targets that computed it.
    pub(crate) arithmetic: String,
}

impl<'a> Run<'a> {
    /// Builds the network with its initial weights.
    ///
    /// # Errors
    /// If a parameter is out of range or does not fit the data, there is not enough memory, or `CIFAR_ISA` names kernels that cannot be used here.
    pub fn start(params: &TrainParams, model: &ModelParams, data: &'a TrainingData, seed: u64) -> Result<Self> {
        let TrainingData { train, val, report } = data;
        params.check(train.len(), val.len(), report.size)?;
        let spec = ModelSpec {
            params: model.clone(),
            classes: report.classes.clone(),
            size: report.size,
            normalisation: report.normalisation.clone(),
        };
        memory::check(params, &spec, [train.len(), val.len()])?;
        let model = Model::new(spec, seed)?;
        model.prepare(train)?;
        let trainer = Trainer::new(model, params, train.len(), seed)?;
        let dynamics = Dynamics::new(train, val, params.dynamics_share, seed);
        let dynamics = if params.mixup > 0.0 { dynamics.without_pass() } else { dynamics };
        let arithmetic = cifar_kernels::numeric_target()?;
        let progress = Progress { dynamics: Some(dynamics), arithmetic, ..Progress::default() };
        let timing = Timing::default();
        Ok(Self { data, params: params.clone(), seed, trainer, progress, timing })
    }

    /// The same without a record of what the network says of each image.
    #[must_use]
    pub fn without_dynamics(mut self) -> Self {
        self.progress.dynamics = None;
        self
    }

    /// The same with a weight for the loss of each training image, in the order of the set. Who keeps checkpoints must tell runs
    /// with other weights apart by their key.
    ///
    /// # Errors
    /// If there are not as many weights as images, or one is negative or not finite.
    pub fn weighted(mut self, weights: Vec<f32>) -> Result<Self> {
        let images = self.data.train.len();
        if weights.len() != images || weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return Err(TrainError::Parameter {
                key: "weights",
                value: format!("{} of them", weights.len()),
                allowed: format!("allowed is a number of 0 or more for each of the {images} training images"),
            });
        }
        self.trainer.weigh(weights);
        Ok(self)
    }

    /// Every whole epoch so far.
    pub fn history(&self) -> &[EpochRecord] {
        &self.progress.history
    }

    /// Whether there is nothing left to train: all epochs are done, or early stopping or the watcher ended the run.
    pub fn is_finished(&self) -> bool {
        self.history().len() >= self.params.epochs || self.stopped_early()
    }

    /// Trains up to `epochs` epochs in all, or the end of the run. Without an error, what was trained is in the last
    /// checkpoint, if there are checkpoints and it could be written; if it could not, there was a warning.
    ///
    /// # Errors
    /// If the loss or a weight runs away, or the watcher asks to stop; a run that was stopped is saved first.
    pub fn train(
        &mut self,
        epochs: usize,
        mut checkpoints: Option<&mut Checkpoints>,
        watcher: &dyn Watcher,
    ) -> Result<()> {
        let (started, from) = (Instant::now(), self.trainer.step_count());
        let waited = self.trainer.waited();
        watcher.started(self.trainer.model(), &self.progress.history, from);
        let outcome = self.go_on(epochs, &mut checkpoints, watcher);
        self.timing.seconds += started.elapsed().as_secs_f64();
        self.timing.waited_seconds += self.trainer.waited().saturating_sub(waited).as_secs_f64();
        self.timing.steps += self.trainer.step_count() - from;
        if let Some(checkpoints) = checkpoints
            && matches!(outcome, Ok(()) | Err(TrainError::Data(DataError::Cancelled)))
        {
            checkpoints.save(&self.trainer, &self.progress, self.is_finished(), watcher)?;
        }
        outcome
    }

    fn go_on(
        &mut self,
        epochs: usize,
        checkpoints: &mut Option<&mut Checkpoints>,
        watcher: &dyn Watcher,
    ) -> Result<()> {
        let steps_per_epoch = self.trainer.steps_per_epoch();
        let epochs = epochs.min(self.params.epochs);
        // A run may have been stopped between the last step of an epoch and the end of its validation.
        if self.trainer.step_count() == (self.history().len() + 1) * steps_per_epoch {
            self.progress.end_epoch(&self.trainer, self.data, self.params.select, watcher)?;
        }
        if self.history().len() >= epochs || self.stopped_early() {
            return Ok(());
        }
        let Self { data, params, trainer, progress, .. } = self;
        trainer.steps(&data.train, epochs * steps_per_epoch, |trainer, step| {
            progress.loss += f64::from(step.loss) * step.images as f64;
            progress.correct += step.correct;
            if let Some(dynamics) = &mut progress.dynamics {
                let (ids, logits) = trainer.latest();
                dynamics.learnt_from(ids, logits);
            }
            watcher.step(step);
            watcher.check()?;
            let ended = step.step.is_multiple_of(steps_per_epoch);
            if ended {
                progress.end_epoch(trainer, data, params.select, watcher)?;
                if progress.stopped_early(params) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if let Some(checkpoints) = checkpoints
                && checkpoints.is_due(ended)
            {
                checkpoints.save(trainer, progress, false, watcher)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn stopped_early(&self) -> bool {
        self.progress.stopped_early(&self.params)
    }

    /// The model with the weights that are to be kept.
    ///
    /// # Errors
    /// If candle cannot exchange the weights.
    pub fn finish(self) -> Result<Fitted> {
        let Progress { history, best, dynamics, arithmetic, .. } = self.progress;
        let mut model = self.trainer.into_model()?;
        let selected_epoch = match &best {
            Some(best) => {
                model.parameters().restore(best)?;
                history.iter().rev().find(|r| r.best).map_or(history.len(), |r| r.epoch)
            }
            None => history.len(),
        };
        let report = &self.data.report;
        model.origin = Some(ModelOrigin {
            source: report.source.clone(),
            dataset_version: report.dataset_version.to_string(),
            training_fingerprint: report.fingerprint(Split::Train).into(),
            validation_fingerprint: report.fingerprint(Split::Val).into(),
            seed: self.seed,
            epoch: selected_epoch,
            arithmetic,
        });
        // What comes next has other sizes.
        cifar_kernels::release_buffers();
        Ok(Fitted { model, history, selected_epoch, dynamics, timing: self.timing })
    }
}

impl Progress {
    /// Validates, looks at some training images, and adds the epoch to the history.
    fn end_epoch(
        &mut self,
        trainer: &Trainer,
        data: &TrainingData,
        select: Select,
        watcher: &dyn Watcher,
    ) -> Result<()> {
        let images = data.train.len() as f64;
        let due = self.dynamics.as_ref().map_or_else(Vec::new, Dynamics::due);
        let (record, plain, of_val) = trainer.evaluate(|model| {
            let logits = predict(model, &data.val, "validating", watcher)?;
            let plain = predict_some(model, &data.train, &due, "looking at images", watcher)?;
            let (val_loss, val_accuracy) = evaluate_loss(&logits, &data.val.labels())?.unzip();
            let mut record = EpochRecord {
                epoch: self.history.len() + 1,
                step: trainer.step_count(),
                learning_rate: trainer.learning_rate(trainer.step_count() - 1),
                train_loss: self.loss / images,
                train_accuracy: self.correct as f64 / images,
                val_loss,
                val_accuracy,
                best: false,
            };
            let best_so_far = self.history.iter().rev().find(|r| r.best);
            record.best = val_accuracy.is_some() && best_so_far.is_none_or(|best| record.beats(best));
            if record.best && select == Select::Best {
                self.best = Some(model.parameters().snapshot()?);
            }
            Ok((record, plain, logits))
        })?;
        if let Some(dynamics) = &mut self.dynamics {
            dynamics.end_epoch(&due, &plain, &of_val);
        }
        (self.loss, self.correct) = (0.0, 0);
        self.history.push(record);
        watcher.epoch(&self.history);
        self.stopped |= watcher.proceed(&self.history).is_break();
        Ok(())
    }

    fn stopped_early(&self, params: &TrainParams) -> bool {
        let best = self.history.iter().rev().find(|r| r.best).map_or(0, |r| r.epoch);
        self.stopped || params.early_stopping > 0 && self.history.len() - best >= params.early_stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_counted_from_the_best_epoch() {
        let progress = |bests: &[bool]| Progress {
            history: (1..)
                .zip(bests)
                .map(|(epoch, best)| EpochRecord {
                    epoch,
                    step: epoch,
                    learning_rate: 0.1,
                    train_loss: 1.0,
                    train_accuracy: 0.5,
                    val_loss: Some(1.0),
                    val_accuracy: Some(0.5),
                    best: *best,
                })
                .collect(),
            ..Progress::default()
        };
        let params = |early_stopping| TrainParams { early_stopping, ..TrainParams::default() };
        let stops = |bests: &[bool], patience| progress(bests).stopped_early(&params(patience));
        assert!(!stops(&[], 1));
        assert!(!stops(&[true, false], 2) && stops(&[true, false, false], 2));
        assert!(!stops(&[true, false, true, false], 2), "a better one in between starts the count anew");
        assert!(!stops(&[true, false, false, false], 0), "0 never stops");
        assert!(Progress { stopped: true, ..progress(&[true]) }.stopped_early(&params(0)));
    }
}

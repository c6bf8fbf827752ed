//! A training run: trains epoch by epoch, and selects the weights to keep.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::Tensor;
use cifar_data::prepare::TrainingData;
use cifar_data::splits::Split;
use cifar_data::{DataError, Source};
use cifar_model::{
    Continued, Model, ModelOrigin, ModelParams, ModelSpec, Precision, Transfer, evaluate_loss, predict, predict_some,
};
use serde::Serialize;

use crate::callback::TrainingCallback;
use crate::history::epochs_without_a_better_one;
use crate::memory;
use crate::{Checkpoints, Dynamics, EpochRecord, Result, Select, TrainError, TrainParams, Trainer};

/// A trained model and the record of its training.
#[derive(Debug)]
pub struct Fitted {
    /// The model, with the selected weights.
    pub model: Model,
    /// The record of every epoch, in order.
    pub history: Vec<EpochRecord>,
    /// The epoch whose weights were selected, counted from 1.
    pub selected_epoch: usize,
    /// Per-epoch logits of each image; none if they were not recorded.
    pub dynamics: Option<Dynamics>,
    /// The model after the first epoch, which has seen each image once; none if no logits were
    /// recorded.
    pub first_epoch: Option<Model>,
    /// What the run started from; none if from random weights.
    pub started_from: Option<StartedFrom>,
    /// How long this process trained. No result depends on it.
    pub timing: Timing,
}

/// The trained network that a run started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StartedFrom {
    /// The hash of its file ([`Model::seal`]).
    pub model: String,
    /// What it was trained on; none if its file does not say so.
    pub source: Option<Source>,
    /// The layout of its file if another program trained it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<&'static str>,
    /// Its classes; none if an imported file does not name them.
    pub classes: Vec<String>,
    /// The tensors that the run took, and those that were new.
    #[serde(flatten)]
    pub tensors: Transfer,
}

/// How long a process trained.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timing {
    /// Seconds from the first step to the last, with validation and checkpoints.
    pub seconds: f64,
    /// Of those, seconds spent waiting for batches.
    pub waited_seconds: f64,
    /// Steps trained.
    pub steps: usize,
}

/// A training run that can be stopped after any step, saved and resumed.
///
/// ```
/// use cifar_train::{Run, TrainParams};
///
/// # use cifar_data::Silent;
/// # use cifar_data::sources::synthetic::{self, SyntheticParams};
/// # use cifar_model::ModelParams;
/// # let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// # let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
/// let params = TrainParams { epochs: 2, ..Default::default() };
/// let mut run = Run::start(&params, &model, &data, 42)?.without_dynamics();
/// run.train(1, None, &Silent)?;
/// assert_eq!((run.history().len(), run.is_finished()), (1, false));
/// run.train(2, None, &Silent)?;
/// let model = run.finish()?.model;
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
#[derive(Debug)]
pub struct Run<'a> {
    data: &'a TrainingData,
    params: TrainParams,
    seed: u64,
    pub(crate) trainer: Trainer,
    pub(crate) state: RunState,
    started_from: Option<StartedFrom>,
    continues: Vec<Continued>,
    timing: Timing,
}

/// The state of a run, besides that of its trainer.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    /// The record of every completed epoch.
    pub(crate) history: Vec<EpochRecord>,
    /// The best weights so far, if `select` is `best`.
    pub(crate) best: Option<Vec<Tensor>>,
    /// The weights after the first epoch, if logits are recorded.
    pub(crate) first_epoch: Option<Vec<Tensor>>,
    /// Sum of the losses of the current epoch's images so far.
    pub(crate) loss: f64,
    /// Correctly classified images of the current epoch so far.
    pub(crate) correct: usize,
    /// Logits of each image, if they are recorded.
    pub(crate) dynamics: Option<Dynamics>,
    /// Whether the callback ended the run.
    pub(crate) stopped: bool,
    /// The numeric targets (kernels and platform) that computed it.
    pub(crate) numeric_target: String,
}

impl<'a> Run<'a> {
    /// Builds the network with its initial weights.
    ///
    /// If it starts from a trained network ([`TrainParams::init`]), it also takes the normalisation
    /// of pixels from there: the layers were trained on pixels of that scale.
    ///
    /// # Errors
    /// If a parameter is out of range or does not suit the data, the trained network has another
    /// architecture or image size, there is not enough memory, or `CIFAR_ISA` names an ISA that
    /// this processor does not have.
    pub fn start(params: &TrainParams, model: &ModelParams, data: &'a TrainingData, seed: u64) -> Result<Self> {
        let TrainingData { train, val, report } = data;
        params.check(train.len(), val.len(), report.size)?;
        let params = &params.for_images(train.len());
        params.check_classes(&report.classes)?;
        let init = params.init.model()?;
        let spec = ModelSpec {
            params: model.clone(),
            classes: report.classes.clone(),
            size: report.size,
            normalisation: init.map_or(&report.normalisation, |init| &init.spec().normalisation).clone(),
        };
        memory::check(params, &spec, [train.len(), val.len()])?;
        let model = Model::new(spec, seed)?;
        model.prepare(train)?;
        let started_from = init.map(|init| StartedFrom::new(&model, init)).transpose()?;
        let trainer = Trainer::new(model, params, train.len(), seed)?;
        let dynamics = Dynamics::new(train, val, params.dynamics_fraction, seed);
        let dynamics = if params.passes_show_every_image() { dynamics } else { dynamics.without_pass() };
        let numeric_target = params.precision.numeric_target()?;
        let state = RunState { dynamics: Some(dynamics), numeric_target, ..RunState::default() };
        let timing = Timing::default();
        let continues = Vec::new();
        Ok(Self { data, params: params.clone(), seed, trainer, state, started_from, continues, timing })
    }

    /// Returns the run with the finished runs that it continues, which its model will name.
    pub(crate) fn continuing(mut self, runs: Vec<Continued>) -> Self {
        self.continues = runs;
        self
    }

    /// Returns the run without a record of per-epoch logits.
    #[must_use]
    pub fn without_dynamics(mut self) -> Self {
        self.state.dynamics = None;
        self
    }

    /// Returns the run with a weight on the loss of each training image, in the order of the set.
    ///
    /// Weights are not part of [`run_key`](crate::run_key): use your own keys for the checkpoints
    /// of weighted runs.
    ///
    /// # Errors
    /// If the number of weights is not the number of images, or a weight is negative or not finite.
    pub fn weighted(mut self, weights: Vec<f32>) -> Result<Self> {
        let images = self.data.train.len();
        if weights.len() != images || weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return Err(TrainError::Parameter {
                key: "weights",
                value: format!("{} weights", weights.len()),
                allowed: format!("allowed is one finite weight of 0 or more for each of the {images} training images"),
            });
        }
        self.trainer.set_weights(weights);
        Ok(self)
    }

    /// Returns the record of every completed epoch.
    pub fn history(&self) -> &[EpochRecord] {
        &self.state.history
    }

    /// Returns the number of epochs of the whole run: `train.epochs`, or more if `train.min_steps`
    /// needs them.
    pub fn epochs(&self) -> usize {
        self.params.epochs
    }

    /// Returns whether nothing is left to train: all epochs are done, or early stopping or the
    /// callback ended the run.
    pub fn is_finished(&self) -> bool {
        self.history().len() >= self.params.epochs || self.stopped_early()
    }

    /// Trains until `epochs` epochs are done in all, or until the end of the run.
    ///
    /// On success the last checkpoint has everything that was trained. If it could not be written,
    /// there was a warning.
    ///
    /// # Errors
    /// If the loss or a weight diverges, or the user asks to stop. A run that is stopped is saved
    /// first.
    pub fn train(
        &mut self,
        epochs: usize,
        mut checkpoints: Option<&mut Checkpoints>,
        callback: &dyn TrainingCallback,
    ) -> Result<()> {
        let (started, from) = (Instant::now(), self.trainer.step_count());
        let waited = self.trainer.waited();
        callback.started(self.trainer.model(), &self.state.history, from);
        let outcome = self.train_steps(epochs, &mut checkpoints, callback);
        self.timing.seconds += started.elapsed().as_secs_f64();
        self.timing.waited_seconds += self.trainer.waited().saturating_sub(waited).as_secs_f64();
        self.timing.steps += self.trainer.step_count() - from;
        if let Some(checkpoints) = checkpoints
            && matches!(outcome, Ok(()) | Err(TrainError::Data(DataError::Cancelled)))
        {
            checkpoints.save(&self.trainer, &self.state, self.is_finished(), callback)?;
        }
        outcome
    }

    fn train_steps(
        &mut self,
        epochs: usize,
        checkpoints: &mut Option<&mut Checkpoints>,
        callback: &dyn TrainingCallback,
    ) -> Result<()> {
        let steps_per_epoch = self.trainer.steps_per_epoch();
        let epochs = epochs.min(self.params.epochs);
        // The run may have been stopped after the last step of an epoch, before its validation
        // ended.
        if self.trainer.step_count() == (self.history().len() + 1) * steps_per_epoch {
            self.state.end_epoch(&self.trainer, self.data, self.params.select, callback)?;
        }
        if self.history().len() >= epochs || self.stopped_early() {
            return Ok(());
        }
        let Self { data, params, trainer, state, .. } = self;
        trainer.steps(&data.train, epochs * steps_per_epoch, |trainer, step| {
            state.loss += f64::from(step.loss) * step.images as f64;
            state.correct += step.correct;
            if let Some(dynamics) = &mut state.dynamics {
                let (ids, logits) = trainer.latest();
                dynamics.record_pass(ids, logits);
            }
            callback.step(step);
            callback.check()?;
            let ended = step.step.is_multiple_of(steps_per_epoch);
            if ended {
                state.end_epoch(trainer, data, params.select, callback)?;
                if state.stopped_early(params) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if let Some(checkpoints) = checkpoints
                && checkpoints.is_due(ended)
            {
                checkpoints.save(trainer, state, false, callback)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn stopped_early(&self) -> bool {
        self.state.stopped_early(&self.params)
    }

    /// Ends the run and returns the model with the selected weights. As if it were loaded from its
    /// file, it computes in `f32`.
    ///
    /// # Errors
    /// If candle cannot exchange the weights.
    pub fn finish(self) -> Result<Fitted> {
        let RunState { history, best, first_epoch, dynamics, numeric_target, .. } = self.state;
        let mut model = self.trainer.into_model()?;
        model.set_precision(Precision::F32);
        let mut first_epoch =
            first_epoch.map(|weights| Model::from_snapshot(model.spec().clone(), &weights)).transpose()?;
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
            arithmetic: numeric_target,
            init: self.started_from.as_ref().map(|from| from.model.clone()),
            continues: self.continues,
            settings: BTreeMap::new(),
        });
        if let Some(first) = &mut first_epoch {
            first.origin = model.origin.clone().map(|origin| ModelOrigin { epoch: 1, ..origin });
        }
        // Evaluation needs less memory.
        cifar_kernels::release_buffers();
        let (started_from, timing) = (self.started_from, self.timing);
        Ok(Fitted { model, history, selected_epoch, dynamics, first_epoch, started_from, timing })
    }
}

impl StartedFrom {
    /// Sets the layers of `model` that it shares with `init`.
    fn new(model: &Model, init: &Model) -> Result<Self> {
        let tensors = model.take_from(init).map_err(|e| TrainError::Init(format!("the model {e}")))?;
        Ok(Self {
            model: init.seal().into(),
            source: init.origin.as_ref().map(|origin| origin.source.clone()),
            imported: init.imported().map(|imported| imported.layout),
            classes: if init.names_classes() { init.spec().classes.clone() } else { Vec::new() },
            tensors,
        })
    }
}

impl RunState {
    /// Validates, predicts the plain training images that are due, and adds the epoch to the
    /// history.
    fn end_epoch(
        &mut self,
        trainer: &Trainer,
        data: &TrainingData,
        select: Select,
        callback: &dyn TrainingCallback,
    ) -> Result<()> {
        let images = data.train.len() as f64;
        let due = self.dynamics.as_ref().map_or_else(Vec::new, Dynamics::due);
        let (record, plain, of_val) = trainer.evaluate(|model| {
            let logits = predict(model, &data.val, "validating", callback)?;
            let plain = predict_some(model, &data.train, &due, "predicting images", callback)?;
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
            if self.history.is_empty() && self.dynamics.is_some() {
                self.first_epoch = Some(model.parameters().snapshot()?);
            }
            Ok((record, plain, logits))
        })?;
        if let Some(dynamics) = &mut self.dynamics {
            dynamics.end_epoch(&due, &plain, &of_val);
        }
        (self.loss, self.correct) = (0.0, 0);
        self.history.push(record);
        callback.epoch(&self.history);
        self.stopped |= !callback.should_continue(&self.history);
        Ok(())
    }

    fn stopped_early(&self, params: &TrainParams) -> bool {
        let without = epochs_without_a_better_one(&self.history);
        let has_steps = self.history.last().is_some_and(|r| r.step >= params.min_steps);
        self.stopped || params.early_stopping > 0 && has_steps && without >= params.early_stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_counted_from_the_best_epoch() {
        let state = |bests: &[bool]| RunState {
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
            ..RunState::default()
        };
        let params = |early_stopping| TrainParams { early_stopping, ..TrainParams::default() };
        let stops = |bests: &[bool], patience| state(bests).stopped_early(&params(patience));
        assert!(!stops(&[], 1));
        assert!(!stops(&[true, false], 2) && stops(&[true, false, false], 2));
        assert!(!stops(&[true, false, true, false], 2), "a better epoch in between restarts the count");
        assert!(!stops(&[true, false, false, false], 0), "0 never stops");
        assert!(RunState { stopped: true, ..state(&[true]) }.stopped_early(&params(0)));
        let least = |min_steps| TrainParams { min_steps, ..params(2) };
        let ends = |min_steps| state(&[true, false, false, false]).stopped_early(&least(min_steps));
        assert!(ends(4) && !ends(5), "not before the least number of steps");
    }
}

//! A model in training: one call per step.

mod plan;

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use candle_core::D;
use cifar_data::batches::Batch;
use cifar_data::{Dataset, SampleId};
use cifar_model::ops::{self, Targets};
use cifar_model::parameters::{Kind, layer_of};
use cifar_model::{Mode, Model, gradients};

use self::plan::Plan;
pub use self::plan::first_batch;
use crate::averaging::Average;
use crate::optimiser::{LrMultipliers, Optimiser};
use crate::{ClassWeights, Freeze, Reduction, Result, TrainError, TrainParams};

/// A loss above this, in nats, means that the weights have diverged, even if it is still finite. An
/// untrained network has a loss of ln(classes).
const MAX_LOSS: f32 = 1e4;

/// The results of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRecord {
    /// Counted from 1 over the whole run.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Images of the batch.
    pub images: usize,
    /// Mean loss of the batch, nats. With weights, the mean of the weighted losses
    /// ([`cifar_model::ops::softmax_cross_entropy`]).
    pub loss: f32,
    /// Learning rate of the step, for the parameters that use `train.learning_rate`.
    pub learning_rate: f64,
    /// Images of the batch that the network classified correctly in training mode. For a mixture,
    /// the label with the larger fraction counts.
    pub correct: usize,
}

/// A model in training.
///
/// A loop of your own, without validation or checkpoints:
///
/// ```
/// use std::ops::ControlFlow;
/// use cifar_model::{Model, ModelSpec};
/// use cifar_train::{TrainParams, Trainer, training_memory};
///
/// # use cifar_data::Silent;
/// # use cifar_data::sources::synthetic::{self, SyntheticParams};
/// # use cifar_model::ModelParams;
/// # let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// # let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
/// let params = TrainParams { batch_size: 32, epochs: 1, ..Default::default() };
/// let spec = ModelSpec {
///     params: model,
///     classes: data.report.classes.clone(),
///     size: data.report.size,
///     normalisation: data.report.normalisation.clone(),
/// };
/// assert!(training_memory(&params, &spec, [data.train.len(), data.val.len()])? > 0);
/// let mut trainer = Trainer::new(Model::new(spec, 42)?, &params, data.train.len(), 42)?;
/// let mut losses = Vec::new();
/// trainer.steps(&data.train, 3, |_, step| {
///     losses.push(step.loss);
///     Ok(ControlFlow::Continue(()))
/// })?;
/// assert_eq!((losses.len(), trainer.step_count()), (3, 3));
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    optimiser: Optimiser,
    average: Average,
    params: TrainParams,
    seed: u64,
    step: usize,
    steps_per_epoch: usize,
    waited: Duration,
    /// Weight on the loss of each training image; none if all are equal.
    weights: Option<Vec<f32>>,
    /// Weight of each class in the loss; none if all are equal, or balanced weights are not known
    /// yet.
    class_weights: Option<Vec<f32>>,
    /// Ids and logits of the last batch.
    latest: (Vec<SampleId>, Vec<f32>),
}

impl Trainer {
    /// Prepares to train `model` on `images` images per epoch. Freezes the layers that
    /// [`TrainParams::freeze`] names, and sets the precision of the model.
    ///
    /// # Errors
    /// If candle cannot read the weights, or there is not one class weight per class.
    pub fn new(mut model: Model, params: &TrainParams, images: usize, seed: u64) -> Result<Self> {
        let params = &params.for_images(images);
        params.check_classes(&model.spec().classes)?;
        freeze(&model, params.freeze);
        model.set_precision(params.precision);
        Ok(Self {
            optimiser: Optimiser::new(params, model.parameters().trained()),
            average: Average::new(params, model.parameters())?,
            model,
            class_weights: match &params.class_weights {
                ClassWeights::PerClass(weights) => Some(weights.clone()),
                ClassWeights::None | ClassWeights::Balanced => None,
            },
            params: params.clone(),
            seed,
            step: 0,
            steps_per_epoch: params.steps_per_epoch(images),
            waited: Duration::ZERO,
            weights: None,
            latest: Default::default(),
        })
    }

    /// Sets the weight on the loss of each training image, in the order of the set. A mixture has
    /// the weight of its first image.
    ///
    /// # Panics
    /// In [`Trainer::steps`], if there are fewer weights than images.
    pub(crate) fn set_weights(&mut self, weights: Vec<f32>) {
        self.weights = Some(weights);
    }

    /// Returns the model with its current weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the number of steps trained.
    pub fn step_count(&self) -> usize {
        self.step
    }

    /// Returns the number of steps per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    /// Returns the time that [`Trainer::steps`] has spent waiting for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Returns the images of the last step and their logits, images × classes.
    ///
    /// The logits are those of the augmented images, in training mode, before the step's update.
    /// Under mixup they are those of mixtures. Empty before the first step.
    pub fn latest(&self) -> (&[SampleId], &[f32]) {
        (&self.latest.0, &self.latest.1)
    }

    /// Returns the learning rate of `step`, counted from 0, for the parameters that use
    /// `train.learning_rate`.
    pub fn learning_rate(&self, step: usize) -> f64 {
        self.params.learning_rate * self.multipliers(step).all
    }

    /// Trains until `until` steps are done in all, in each epoch's order of images, or until
    /// `after_step` breaks.
    ///
    /// A separate thread prepares the batches, at most two ahead.
    ///
    /// # Errors
    /// Those of [`Trainer::step`] and of `after_step`.
    pub fn steps(
        &mut self,
        train: &Dataset,
        until: usize,
        after_step: impl FnMut(&Self, &StepRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.steps_at(train, until, Self::multipliers, after_step)
    }

    /// Trains like [`Trainer::steps`] with your own learning rates: `factors` returns the
    /// multipliers of a step, counted from 0.
    ///
    /// # Errors
    /// As [`Trainer::steps`].
    pub fn steps_at(
        &mut self,
        train: &Dataset,
        until: usize,
        multipliers: impl Fn(&Self, usize) -> LrMultipliers,
        mut after_step: impl FnMut(&Self, &StepRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.class_weights = self.params.class_weights.weights(&train.counts_by_class());
        let plan = Plan {
            sampling: self.params.sampling,
            augmentation: self.params.augmentation(),
            seed: self.seed,
            steps_per_epoch: self.steps_per_epoch,
            steps: self.step..until,
        };
        let weights = self.weights.clone();
        thread::scope(|scope| {
            let batches = plan.start(scope, train, weights.as_deref());
            loop {
                let asked = Instant::now();
                let Ok(batch) = batches.recv() else { return Ok(()) };
                self.waited += asked.elapsed();
                let record = self.step_at(&batch, self.step / self.steps_per_epoch, multipliers(self, self.step))?;
                if after_step(self, &record)?.is_break() {
                    return Ok(());
                }
            }
        })
    }

    /// Trains on one batch: forward, backward, update. The schedule gives the learning rate.
    ///
    /// # Errors
    /// If the loss diverges: the weights are then those before the step, but the step is counted.
    /// If the class weights are balanced and no training set has passed through
    /// [`Trainer::steps`], which counts its images by class. If candle or a kernel fails.
    pub fn step(&mut self, batch: &Batch, epoch: usize) -> Result<StepRecord> {
        self.step_at(batch, epoch, self.multipliers(self.step))
    }

    /// Trains on one batch with your own multipliers on the highest learning rates.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_at(&mut self, batch: &Batch, epoch: usize, multipliers: LrMultipliers) -> Result<StepRecord> {
        if self.class_weights.is_none() && self.params.class_weights == ClassWeights::Balanced {
            return Err(TrainError::Parameter {
                key: "train.class_weights",
                value: "balanced".into(),
                allowed: "a single batch does not say how many training images a class has; give one weight per class, or train on a whole set".into(),
            });
        }
        // None of the several hundred parallel loops of a step then has to wake the pool.
        cifar_kernels::on_pool(|| self.step_on_pool(batch, epoch, multipliers))
    }

    fn step_on_pool(&mut self, batch: &Batch, epoch: usize, multipliers: LrMultipliers) -> Result<StepRecord> {
        let learning_rate = self.params.learning_rate * multipliers.all;
        let trained = self.model.parameters().trained();
        // The whitening layer belongs to the stem and to the backbone.
        if self.params.freeze == Freeze::None {
            for parameter in trained.iter().filter(|p| p.kind == Kind::WhiteningBias) {
                parameter.freeze(multipliers.whitening_bias == 0.0);
            }
        }
        let mode = Mode::Train { seed: self.seed, epoch: epoch as u64, ids: &batch.ids };
        let logits = self.model.forward(&batch.pixels, &mode)?;
        let targets = Targets {
            labels: &batch.labels,
            mix: batch.mix.as_ref().map(|mix| (mix.partner_labels.as_slice(), mix.shares.as_slice())),
            weights: batch.weights.as_deref(),
            class_weights: self.class_weights.as_deref(),
            smoothing: self.params.label_smoothing,
        };
        let divisor = targets.divisor();
        let loss = ops::softmax_cross_entropy(&logits, &targets)?;
        let value = loss.to_scalar::<f32>()?;
        self.step += 1;
        if !value.is_finite() || value > MAX_LOSS {
            return Err(TrainError::Diverged { loss: value, step: self.step, epoch: epoch + 1, learning_rate });
        }
        let loss = match self.params.reduction {
            Reduction::Mean => loss,
            Reduction::Sum => (loss * divisor)?,
        };
        let gradients = gradients(&loss)?;
        self.optimiser.step(trained, &gradients, multipliers, self.step - 1)?;
        self.average.after_step(self.model.parameters(), self.step, self.total_steps())?;
        let predicted = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let correct = (0..batch.len()).filter(|&i| predicted[i] == main_label(batch, i)).count();
        self.latest = (batch.ids.clone(), logits.flatten_all()?.to_vec1()?);
        let (step, steps) = (self.step, self.total_steps());
        Ok(StepRecord { step, steps, images: batch.len(), loss: value, learning_rate, correct })
    }

    /// Calls `evaluate` with the weights that the run would keep now.
    ///
    /// Under [`TrainParams::averaging`](crate::TrainParams::averaging) these are the averaged
    /// weights with their running statistics, otherwise the trained ones.
    ///
    /// # Errors
    /// Those of `evaluate`, and if candle cannot exchange the weights.
    pub fn evaluate<T>(&self, evaluate: impl FnOnce(&Model) -> Result<T>) -> Result<T> {
        self.average.with(self.model.parameters(), || evaluate(&self.model))
    }

    /// Returns the model with the weights that the run keeps.
    pub(crate) fn into_model(self) -> Result<Model> {
        let counted = self.evaluate(|model| Ok(model.parameters().snapshot()?))?;
        self.model.parameters().restore(&counted)?;
        Ok(self.model)
    }

    /// Returns the state that decides the next steps, besides the weights, for a checkpoint.
    pub(crate) fn memory(&self) -> (&Optimiser, &Average) {
        (&self.optimiser, &self.average)
    }

    /// Returns the state for writing, and sets the number of steps done.
    pub(crate) fn restore(&mut self, steps: usize) -> (&mut Optimiser, &mut Average) {
        self.step = steps;
        (&mut self.optimiser, &mut self.average)
    }

    fn total_steps(&self) -> usize {
        self.steps_per_epoch * self.params.epochs
    }

    fn multipliers(&self, step: usize) -> LrMultipliers {
        let factor = |epochs: usize| {
            let steps = self.steps_per_epoch * epochs;
            let warmup = self.steps_per_epoch as f64 * self.params.warmup_epochs.min(epochs as f64);
            if step < steps { self.params.schedule.factor(step, steps, warmup) } else { 0.0 }
        };
        let epochs = self.params.epochs;
        LrMultipliers { whitening_bias: factor(self.params.whitening_bias_epochs.min(epochs)), all: factor(epochs) }
    }
}

fn freeze(model: &Model, which: Freeze) {
    let parameters = model.parameters();
    let heads: Vec<&str> =
        parameters.trained().iter().filter(|p| p.kind == Kind::Head).map(|p| layer_of(&p.name)).collect();
    match which {
        Freeze::None => {}
        Freeze::Backbone => parameters.freeze_layers(|layer| !heads.contains(&layer)),
        Freeze::Stem => parameters.freeze_layers(|layer| layer == model.spec().params.architecture.stem()),
    }
}

/// Returns the label with the larger fraction of a mixture.
fn main_label(batch: &Batch, index: usize) -> u32 {
    match &batch.mix {
        Some(mix) if mix.shares[index] < 0.5 => mix.partner_labels[index],
        _ => batch.labels[index],
    }
}

#[cfg(test)]
mod tests;

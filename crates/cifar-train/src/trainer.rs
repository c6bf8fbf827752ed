//! A model in training: one call a step.

use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use candle_core::D;
use cifar_data::batches::{Augmentation, Batch, epoch_order, training_batch};
use cifar_data::{Dataset, SampleId};
use cifar_model::ops::{self, Targets};
use cifar_model::{Mode, Model};

use crate::averaging::Average;
use crate::optimiser::{Factors, Optimiser};
use crate::{Reduction, Result, TrainError, TrainParams};

/// A loss beyond this many nats comes from weights that have run away, even where it is still finite: a network that
/// knows nothing is at ln(classes).
const EXPLODED: f32 = 1e4;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRecord {
    /// Counted from 1 over the whole run.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Images of the batch.
    pub images: usize,
    /// Mean loss of the batch, nats; under weights the mean of the weighted losses.
    pub loss: f32,
    /// Learning rate of the step, of what moves with `train.learning_rate`.
    pub learning_rate: f64,
    /// Images of the batch that the network, in training mode, got right. Of mixed images that of which they have more.
    pub correct: usize,
}

/// A model in training.
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
    /// How much the loss of each training image counts, if not all alike.
    weights: Option<Vec<f32>>,
    /// Ids and logits of the last batch.
    latest: (Vec<SampleId>, Vec<f32>),
}

impl Trainer {
    /// Prepares to train `model` on `images` images an epoch.
    ///
    /// # Errors
    /// If candle cannot read the weights.
    pub fn new(model: Model, params: &TrainParams, images: usize, seed: u64) -> Result<Self> {
        Ok(Self {
            optimiser: Optimiser::new(params, model.parameters().trained()),
            average: Average::new(params, model.parameters())?,
            model,
            params: params.clone(),
            seed,
            step: 0,
            steps_per_epoch: images.div_ceil(params.batch_size.max(1)),
            waited: Duration::ZERO,
            weights: None,
            latest: Default::default(),
        })
    }

    /// Has the loss of each training image count so much, in the order of the set; of mixed images, that of the one whose place it is.
    ///
    /// # Panics
    /// In [`Trainer::steps`], if there are fewer weights than images.
    pub(crate) fn weigh(&mut self, weights: Vec<f32>) {
        self.weights = Some(weights);
    }

    /// The model as it stands.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Steps done.
    pub fn step_count(&self) -> usize {
        self.step
    }

    /// Steps of one pass over the training images.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    /// The time that [`Trainer::steps`] has spent waiting for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The images of the last step and what the network, in training mode and before it learnt from them, said of them as
    /// they were augmented: logits, images × classes. Under mixup they are of mixtures. Empty before the first step.
    pub fn latest(&self) -> (&[SampleId], &[f32]) {
        (&self.latest.0, &self.latest.1)
    }

    /// The learning rate of `step`, counted from 0, of what moves with `train.learning_rate`.
    pub fn learning_rate(&self, step: usize) -> f64 {
        self.params.learning_rate * self.factors(step).all
    }

    /// Goes on to `until` steps in all, through the images in each epoch's order, or until `after_step` breaks off. Batches
    /// are made on a thread of their own, at most two ahead.
    ///
    /// # Errors
    /// Those of [`Trainer::step`] and of `after_step`.
    pub fn steps(
        &mut self,
        train: &Dataset,
        until: usize,
        after_step: impl FnMut(&Self, &StepRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.steps_at(train, until, Self::factors, after_step)
    }

    /// The same at rates of one's own: `factors` gives those of a step, counted from 0.
    ///
    /// # Errors
    /// As [`Trainer::steps`].
    pub fn steps_at(
        &mut self,
        train: &Dataset,
        until: usize,
        factors: impl Fn(&Self, usize) -> Factors,
        mut after_step: impl FnMut(&Self, &StepRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let plan = Plan {
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
                let record = self.step_at(&batch, self.step / self.steps_per_epoch, factors(self, self.step))?;
                if after_step(self, &record)?.is_break() {
                    return Ok(());
                }
            }
        })
    }

    /// Forward, backward, update, at the rate that the schedule gives the step.
    ///
    /// # Errors
    /// If the loss is NaN, infinite or has run away; the weights are then those of the step before, though the step is counted. If candle
    /// or a kernel refuses.
    pub fn step(&mut self, batch: &Batch, epoch: usize) -> Result<StepRecord> {
        self.step_at(batch, epoch, self.factors(self.step))
    }

    /// The same at rates of one's own, as shares of the highest ones.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_at(&mut self, batch: &Batch, epoch: usize, factors: Factors) -> Result<StepRecord> {
        let learning_rate = self.params.learning_rate * factors.all;
        let trained = self.model.parameters().trained();
        for parameter in trained.iter().filter(|p| p.kind == cifar_model::parameters::Kind::WhiteningBias) {
            parameter.freeze(factors.whitening_bias == 0.0);
        }
        let mode = Mode::Train { seed: self.seed, epoch: epoch as u64, ids: &batch.ids };
        let logits = self.model.forward(&batch.pixels, &mode)?;
        let targets = Targets {
            labels: &batch.labels,
            mix: batch.mix.as_ref().map(|mix| (mix.partner_labels.as_slice(), mix.shares.as_slice())),
            weights: batch.weights.as_deref(),
            smoothing: self.params.label_smoothing,
        };
        let loss = ops::softmax_cross_entropy(&logits, &targets)?;
        let value = loss.to_scalar::<f32>()?;
        self.step += 1;
        if !value.is_finite() || value > EXPLODED {
            return Err(TrainError::Diverged { loss: value, step: self.step, epoch: epoch + 1, learning_rate });
        }
        let loss = match self.params.reduction {
            Reduction::Mean => loss,
            Reduction::Sum => (loss * batch.len() as f64)?,
        };
        let gradients = loss.backward()?;
        self.optimiser.step(trained, &gradients, factors, self.step - 1)?;
        self.average.after_step(self.model.parameters(), self.step, self.step == self.total_steps())?;
        let predicted = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let correct = (0..batch.len()).filter(|&i| predicted[i] == main_label(batch, i)).count();
        self.latest = (batch.ids.clone(), logits.flatten_all()?.to_vec1()?);
        let (step, steps) = (self.step, self.total_steps());
        Ok(StepRecord { step, steps, images: batch.len(), loss: value, learning_rate, correct })
    }

    /// Calls `evaluate` with the weights that a run would keep now: under
    /// [`TrainParams::averaging`](crate::TrainParams::averaging) the averaged ones with their running
    /// statistics, else those that are trained.
    ///
    /// # Errors
    /// Those of `evaluate`, and if candle cannot exchange the weights.
    pub fn evaluate<T>(&self, evaluate: impl FnOnce(&Model) -> Result<T>) -> Result<T> {
        self.average.with(self.model.parameters(), || evaluate(&self.model))
    }

    /// The model with the weights that count.
    pub(crate) fn into_model(self) -> Result<Model> {
        let counted = self.evaluate(|model| Ok(model.parameters().snapshot()?))?;
        self.model.parameters().restore(&counted)?;
        Ok(self.model)
    }

    /// What, besides the weights, decides the next steps, for a checkpoint.
    pub(crate) fn memory(&self) -> (&Optimiser, &Average) {
        (&self.optimiser, &self.average)
    }

    /// The same to be written to, with the number of steps that were done.
    pub(crate) fn restore(&mut self, steps: usize) -> (&mut Optimiser, &mut Average) {
        self.step = steps;
        (&mut self.optimiser, &mut self.average)
    }

    fn total_steps(&self) -> usize {
        self.steps_per_epoch * self.params.epochs
    }

    fn factors(&self, step: usize) -> Factors {
        let factor = |epochs: usize| {
            let steps = self.steps_per_epoch * epochs;
            let warmup = self.steps_per_epoch as f64 * self.params.warmup_epochs.min(epochs as f64);
            if step < steps { self.params.schedule.factor(step, steps, warmup) } else { 0.0 }
        };
        let epochs = self.params.epochs;
        Factors { whitening_bias: factor(self.params.whitening_bias_epochs.min(epochs)), all: factor(epochs) }
    }
}

/// The label of which an image has more.
fn main_label(batch: &Batch, index: usize) -> u32 {
    match &batch.mix {
        Some(mix) if mix.shares[index] < 0.5 => mix.partner_labels[index],
        _ => batch.labels[index],
    }
}

/// Which batches are to be made.
struct Plan {
    augmentation: Augmentation,
    seed: u64,
    steps_per_epoch: usize,
    steps: Range<usize>,
}

impl Plan {
    /// The places in an epoch's order of a step's images. An epoch's batches are of equal size, give or take one image: a rest of a
    /// few images would spoil the statistics of batch norm, and leaving it out would leave images out.
    fn places(&self, step: usize, images: usize) -> Range<usize> {
        step * images / self.steps_per_epoch..(step + 1) * images / self.steps_per_epoch
    }

    /// Starts the thread that makes them. It ends with its work, or when nobody receives any more.
    fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        train: &'scope Dataset,
        weights: Option<&'scope [f32]>,
    ) -> Receiver<Batch> {
        // One batch waits in the channel while the next one is being made.
        let (sender, batches) = sync_channel(1);
        scope.spawn(move || {
            let mut order = (usize::MAX, Vec::new());
            for step in self.steps.clone() {
                let epoch = step / self.steps_per_epoch;
                if order.0 != epoch {
                    order = (epoch, epoch_order(train.len(), self.seed, epoch as u64));
                }
                let indices = &order.1[self.places(step % self.steps_per_epoch, train.len())];
                let mut batch = training_batch(train, indices, &self.augmentation, self.seed, epoch as u64);
                batch.weights = weights.map(|weights| indices.iter().map(|i| weights[*i]).collect());
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_an_epoch_are_of_equal_size_and_have_every_image_once() {
        for (images, batch_size, sizes) in [
            (28_002, 2000, 1866..=1867),
            (50_000, 2000, 2000..=2000),
            (41_975, 2000, 1998..=1999),
            (10, 4, 3..=4),
            (3, 8, 3..=3),
            (7, 1, 1..=1),
        ] {
            let steps_per_epoch = usize::div_ceil(images, batch_size);
            let augmentation = TrainParams::default().augmentation();
            let plan = Plan { augmentation, seed: 1, steps_per_epoch, steps: 0..steps_per_epoch };
            let mut next = 0;
            for step in 0..steps_per_epoch {
                let places = plan.places(step, images);
                assert_eq!(places.start, next);
                assert!(sizes.contains(&places.len()), "{images} by {batch_size}: {places:?}");
                next = places.end;
            }
            assert_eq!(next, images);
        }
    }
}

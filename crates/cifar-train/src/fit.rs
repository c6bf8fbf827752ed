//! The training loop.

use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

use candle_core::D;
use cifar_data::batches::{Batch, epoch_order, training_batch};
use cifar_data::prepare::TrainingData;
use cifar_data::{Dataset, Monitor};
use cifar_model::{Mode, Model, ModelOrigin, ModelParams, ModelSpec, evaluate_loss, ops, predict};

use crate::optimiser::Sgd;
use crate::{EpochRecord, Result, Select, TrainError, TrainParams};

/// Watches a training run.
pub trait Watcher: Monitor {
    /// The model is built and the first step is about to begin.
    fn started(&self, _model: &Model) {}

    /// A step is done.
    fn step(&self, _step: &StepRecord) {}

    /// An epoch is done.
    fn epoch(&self, _record: &EpochRecord) {}
}

impl Watcher for cifar_data::Silent {}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRecord {
    /// Counted from 1 over the whole run.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Images of the batch.
    pub images: usize,
    /// Mean loss of the batch, nats.
    pub loss: f32,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Images of the batch that the network, in training mode, got right.
    pub correct: usize,
}

/// A trained model and how it came about.
#[derive(Debug)]
pub struct Fitted {
    /// The selected weights.
    pub model: Model,
    /// Every epoch, in order.
    pub history: Vec<EpochRecord>,
    /// The epoch whose weights were kept, counted from 1.
    pub selected_epoch: usize,
}

/// Trains a network on `data` under `seed`. The same arguments give the same bits at any number of threads.
pub fn fit(
    params: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
    watcher: &dyn Watcher,
) -> Result<Fitted> {
    let TrainingData { train, val, report } = data;
    params.check(train, val)?;
    let spec = ModelSpec {
        params: model.clone(),
        classes: report.classes.clone(),
        size: report.size,
        normalisation: report.normalisation.clone(),
    };
    let model = Model::new(spec, seed)?;
    model.prepare(train)?;
    let mut trainer = Trainer::new(model, params, train.len(), seed);
    watcher.started(trainer.model());

    let mut history: Vec<EpochRecord> = Vec::new();
    let mut best = None;
    for epoch in 0..params.epochs {
        let (train_loss, train_accuracy) = train_epoch(&mut trainer, train, epoch, watcher)?;
        let logits = predict(trainer.model(), val, "validating", watcher)?;
        let (val_loss, val_accuracy) = evaluate_loss(&logits, &val.labels())?.unzip();
        let mut record = EpochRecord {
            epoch: epoch + 1,
            step: trainer.step,
            learning_rate: trainer.learning_rate(trainer.step - 1),
            train_loss,
            train_accuracy,
            val_loss,
            val_accuracy,
            best: false,
        };
        let best_so_far = history.iter().rev().find(|r| r.best);
        record.best = val_accuracy.is_some() && best_so_far.is_none_or(|best| record.beats(best));
        if record.best && params.select == Select::Best {
            best = Some(trainer.model().parameters().snapshot()?);
        }
        watcher.epoch(&record);
        history.push(record);
    }

    let mut model = trainer.model;
    let selected_epoch = match &best {
        Some(best) => {
            model.parameters().restore(best)?;
            history.iter().rev().find(|r| r.best).map_or(params.epochs, |r| r.epoch)
        }
        None => params.epochs,
    };
    model.origin = Some(ModelOrigin {
        source: report.source.clone(),
        dataset_version: report.dataset_version.to_string(),
        training_fingerprint: report.fingerprints.get(&cifar_data::splits::Split::Train).cloned().unwrap_or_default(),
        seed,
        epoch: selected_epoch,
        arithmetic: cifar_kernels::arithmetic()?,
    });
    // What comes next has other sizes.
    cifar_kernels::release_buffers();
    Ok(Fitted { model, history, selected_epoch })
}

/// One pass over the training images: mean loss and accuracy.
fn train_epoch(trainer: &mut Trainer, train: &Dataset, epoch: usize, watcher: &dyn Watcher) -> Result<(f64, f64)> {
    let (mut loss, mut correct) = (0.0, 0);
    trainer.epoch(train, epoch, |record| {
        loss += f64::from(record.loss) * record.images as f64;
        correct += record.correct;
        watcher.step(record);
        watcher.check()?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((loss / train.len() as f64, correct as f64 / train.len() as f64))
}

/// A model in training: one call a step.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    optimiser: Sgd,
    params: TrainParams,
    seed: u64,
    step: usize,
    steps: usize,
    warmup_steps: f64,
}

impl Trainer {
    /// Prepares to train `model` on `images` images an epoch.
    pub fn new(model: Model, params: &TrainParams, images: usize, seed: u64) -> Self {
        let steps_per_epoch = images.div_ceil(params.batch_size);
        Self {
            optimiser: Sgd::new(params, model.parameters().trained()),
            model,
            params: params.clone(),
            seed,
            step: 0,
            steps: steps_per_epoch * params.epochs,
            warmup_steps: steps_per_epoch as f64 * params.warmup_epochs,
        }
    }

    /// The model as it stands.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The learning rate of `step`, counted from 0.
    pub fn learning_rate(&self, step: usize) -> f64 {
        self.params.learning_rate * self.params.schedule.factor(step, self.steps, self.warmup_steps)
    }

    /// Steps through the images in the epoch's order, until all are done or `after_step` breaks off. Batches are made on a
    /// thread of their own, at most two ahead.
    ///
    /// # Errors
    /// Those of [`Trainer::step`] and of `after_step`.
    pub fn epoch(
        &mut self,
        train: &Dataset,
        epoch: usize,
        mut after_step: impl FnMut(&StepRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let (seed, augmentation) = (self.seed, self.params.augmentation());
        let order = epoch_order(train.len(), seed, epoch as u64);
        let batch_size = self.params.batch_size;
        thread::scope(|scope| {
            // One batch waits in the channel while the next one is being made.
            let (sender, batches) = sync_channel::<Batch>(1);
            scope.spawn(move || {
                for indices in order.chunks(batch_size) {
                    let batch = training_batch(train, indices, &augmentation, seed, epoch as u64);
                    if sender.send(batch).is_err() {
                        return; // the loop ended early
                    }
                }
            });
            for batch in batches {
                let record = self.step(&batch, epoch)?;
                if after_step(&record)?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Forward, backward, update.
    ///
    /// # Errors
    /// If the loss is NaN or infinite; the model then keeps the weights of the step before.
    pub fn step(&mut self, batch: &Batch, epoch: usize) -> Result<StepRecord> {
        let learning_rate = self.learning_rate(self.step);
        let mode = Mode::Train { seed: self.seed, epoch: epoch as u64, ids: &batch.ids };
        let logits = self.model.forward(&batch.pixels, &mode)?;
        let loss = ops::softmax_cross_entropy(&logits, &batch.labels, self.params.label_smoothing)?;
        let value = loss.to_scalar::<f32>()?;
        self.step += 1;
        if !value.is_finite() {
            return Err(TrainError::Diverged { loss: value, step: self.step, epoch: epoch + 1, learning_rate });
        }
        let gradients = loss.backward()?;
        self.optimiser.step(self.model.parameters().trained(), &gradients, learning_rate as f32)?;
        let predicted = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let correct = predicted.iter().zip(&batch.labels).filter(|(p, l)| p == l).count();
        Ok(StepRecord { step: self.step, steps: self.steps, images: batch.len(), loss: value, learning_rate, correct })
    }
}

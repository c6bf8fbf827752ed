//! What training can be told. Part of params.yaml, block `train`.

use cifar_data::Dataset;
use cifar_data::batches::{Augmentation, Flip};
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;
use crate::{Result, TrainError};

/// Which epoch's weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// Those of the epoch with the highest validation accuracy; among equals that with the lowest validation loss,
    /// then the first.
    Best,
    /// Those of the last epoch.
    Last,
}

/// The recipe. A value in hand is within its range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedTrainParams")]
pub struct TrainParams {
    /// Passes over the training images, at least 1.
    pub epochs: usize,
    /// Images a step, at least 1 and at most the number of training images.
    pub batch_size: usize,
    /// Highest learning rate of the schedule, above 0.
    pub learning_rate: f64,
    /// How the learning rate moves over the run.
    pub schedule: Schedule,
    /// Epochs over which the learning rate rises from 0, 0 to `epochs`; fractions are allowed.
    pub warmup_epochs: f64,
    /// Momentum of SGD, 0 ≤ momentum < 1.
    pub momentum: f32,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Decoupled weight decay of filters and matrices, 0 to 1: w ← w · (1 − learning rate · decay) a step.
    pub weight_decay: f32,
    /// Share of the target spread over all classes, 0 ≤ smoothing < 1.
    pub label_smoothing: f32,
    /// Mirroring of training images.
    pub flip: Flip,
    /// Training images are moved by up to so many pixels, with reflected borders.
    pub crop_padding: usize,
    /// Which epoch's weights are kept.
    pub select: Select,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedTrainParams {
    epochs: usize,
    batch_size: usize,
    learning_rate: f64,
    schedule: Schedule,
    warmup_epochs: f64,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
    label_smoothing: f32,
    flip: Flip,
    crop_padding: usize,
    select: Select,
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            epochs: 15,
            batch_size: 128,
            learning_rate: 0.1,
            schedule: Schedule::Linear,
            warmup_epochs: 1.0,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            label_smoothing: 0.1,
            flip: Flip::Random,
            crop_padding: 4,
            select: Select::Best,
        }
    }
}

impl TryFrom<UncheckedTrainParams> for TrainParams {
    type Error = TrainError;

    fn try_from(p: UncheckedTrainParams) -> Result<Self> {
        let check = |key, ok: bool, value: String, allowed: &str| {
            if ok { Ok(()) } else { Err(TrainError::Parameter { key, value, allowed: allowed.into() }) }
        };
        check("epochs", p.epochs >= 1, p.epochs.to_string(), "allowed is 1 or more")?;
        check("batch_size", p.batch_size >= 1, p.batch_size.to_string(), "allowed is 1 or more")?;
        let rate = p.learning_rate;
        check("learning_rate", rate > 0.0 && rate.is_finite(), rate.to_string(), "allowed is a finite number above 0")?;
        let warmup = p.warmup_epochs;
        let allowed = format!("allowed is 0 to {} (epochs)", p.epochs);
        check("warmup_epochs", (0.0..=p.epochs as f64).contains(&warmup), warmup.to_string(), &allowed)?;
        let below_one = "allowed is 0 up to, not including, 1";
        check("momentum", (0.0..1.0).contains(&p.momentum), p.momentum.to_string(), below_one)?;
        check("weight_decay", (0.0..=1.0).contains(&p.weight_decay), p.weight_decay.to_string(), "allowed is 0 to 1")?;
        check("label_smoothing", (0.0..1.0).contains(&p.label_smoothing), p.label_smoothing.to_string(), below_one)?;
        Ok(Self {
            epochs: p.epochs,
            batch_size: p.batch_size,
            learning_rate: p.learning_rate,
            schedule: p.schedule,
            warmup_epochs: p.warmup_epochs,
            momentum: p.momentum,
            nesterov: p.nesterov,
            weight_decay: p.weight_decay,
            label_smoothing: p.label_smoothing,
            flip: p.flip,
            crop_padding: p.crop_padding,
            select: p.select,
        })
    }
}

impl TrainParams {
    /// How training images are changed.
    pub fn augmentation(&self) -> Augmentation {
        Augmentation { flip: self.flip, crop_padding: self.crop_padding }
    }

    /// Refuses what these images cannot serve.
    pub fn check(&self, train: &Dataset, val: &Dataset) -> Result<()> {
        if self.batch_size > train.len() {
            return Err(TrainError::Parameter {
                key: "train.batch_size",
                value: self.batch_size.to_string(),
                allowed: format!("there are {} training images", train.len()),
            });
        }
        if self.select == Select::Best && val.is_empty() {
            return Err(TrainError::Parameter {
                key: "train.select",
                value: "best".into(),
                allowed: "there are no validation images; set it to last, or split.val_fraction above 0".into(),
            });
        }
        Ok(self.augmentation().check(train.size())?)
    }
}

//! The recipe: what training can be told. Part of params.yaml, block `train`.

use cifar_data::ImageSize;
use cifar_data::batches::{Augmentation, Flip};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schedule::Schedule;
use crate::{Result, TrainError};

/// The most epochs of a run: beyond it, records of epochs and counts of steps make no sense.
pub(crate) const MOST_EPOCHS: usize = 100_000;
/// The most images of a batch.
const MOST_IMAGES: usize = 10_000_000;
/// The most steps from one average of weights to the next.
const MOST_STEPS: usize = 1_000_000;

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

/// How gradients become steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimiserKind {
    /// Stochastic gradient descent with (Nesterov) momentum.
    Sgd,
    /// `AdamW` (Loshchilov & Hutter 2017, arXiv 1711.05101).
    #[serde(rename = "adamw")]
    AdamW,
    /// Muon (Jordan et al. 2024) for the filters of convolutions, SGD for everything else.
    Muon,
}

/// Whether the losses of a batch's images are averaged or added up before their gradient is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The mean: learning rates hardly depend on the batch size.
    Mean,
    /// The sum: what many published recipes with small learning rates mean.
    Sum,
}

/// Averages of weights over steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaging {
    /// None.
    None,
    /// An exponential moving average beside the weights that are trained; validation and the result use it.
    Ema,
    /// Slow weights that follow the trained ones, and to which those return (Zhang et al. 2019, arXiv 1907.08610).
    /// Validation and the result use the slow weights.
    Lookahead,
}

/// The recipe. A value that was deserialised is within its range; [`TrainParams::check`] tells of any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct TrainParams {
    /// Passes over the training images, at least 1.
    pub epochs: usize,
    /// Images a step, at least 1 and at most the number of training images. The batches of an epoch are of equal size, give or take
    /// one image, so that none is left out and none is too small.
    pub batch_size: usize,
    /// How gradients become steps.
    pub optimiser: OptimiserKind,
    /// Highest learning rate of SGD or `AdamW`, above 0.
    pub learning_rate: f64,
    /// What it is multiplied by for the last layer, above 0.
    pub head_rate: f64,
    /// What it is multiplied by for biases, scales and shifts, above 0.
    pub bias_rate: f64,
    /// Highest learning rate of Muon, above 0. Muon sets the size of its steps itself, whatever the gradients are.
    pub muon_learning_rate: f64,
    /// How the learning rates move over the run.
    pub schedule: Schedule,
    /// Epochs over which the learning rates rise, from 0 or, under `triangular`, from a fifth; 0 to `epochs`, fractions are allowed.
    pub warmup_epochs: f64,
    /// Epochs in which the bias of a whitening layer is trained, under a schedule of their own; it stands still afterwards.
    pub whitening_bias_epochs: usize,
    /// Momentum of SGD, β₁ of `AdamW`: 0 ≤ momentum < 1.
    pub momentum: f32,
    /// Momentum of Muon, 0 ≤ momentum < 1.
    pub muon_momentum: f32,
    /// Whether the momentum, of SGD and of Muon, is Nesterov's.
    pub nesterov: bool,
    /// β₂ of `AdamW`, 0 ≤ β₂ < 1.
    pub beta2: f32,
    /// Decoupled weight decay, 0 or more: w ← w · (1 − rate · decay) a step, with the `learning_rate` of the step, without
    /// the factors of head and biases. Not of Muon's filters, whose norm is fixed.
    pub weight_decay: f64,
    /// Whether biases, scales and shifts decay too.
    pub decay_biases: bool,
    /// What the loss of a batch is.
    pub reduction: Reduction,
    /// Share of the target spread over all classes, 0 ≤ smoothing < 1.
    pub label_smoothing: f32,
    /// Gradients whose joint norm is above this are shortened to it; 0 leaves all as they are.
    pub clip_norm: f64,
    /// Averages of weights over steps.
    pub averaging: Averaging,
    /// Share of the average that stays when weights come in, 0 ≤ decay < 1.
    pub averaging_decay: f32,
    /// Weights come into the average every so many steps, at least 1.
    pub averaging_every: usize,
    /// Mirroring of training images.
    pub flip: Flip,
    /// Training images are moved by up to so many pixels, with reflected borders.
    pub crop_padding: usize,
    /// Side of the square that is blotted out in each training image, pixels; 0 for none.
    pub cutout: usize,
    /// α of mixup's Beta(α, α) (Zhang et al. 2018, arXiv 1710.09412); 0 for none. Training then sees
    /// no single image, so [`Dynamics`](crate::Dynamics) follow training images only with a
    /// `dynamics_share` of 1.
    pub mixup: f64,
    /// Brightness of training images moves by up to this share of the full range.
    pub brightness: f32,
    /// Contrast of training images is multiplied by 1 ± up to this.
    pub contrast: f32,
    /// Which epoch's weights are kept.
    pub select: Select,
    /// The run ends after so many epochs in a row that are not the best on validation images; 0 never.
    pub early_stopping: usize,
    /// Share of the training images that are looked at un-augmented behind each epoch, 0 to 1: each image takes its turn.
    /// What the network says of them, and of all images while it learns from them, goes into
    /// [`Dynamics`](crate::Dynamics). 1 costs about a third of the training again.
    pub dynamics_share: f64,
    /// Whether what tuning found replaces the values above.
    pub use_tuned: bool,
}

impl<'de> Deserialize<'de> for TrainParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let params = Self::deserialize(deserializer)?;
        params.check_ranges().map_err(D::Error::custom)?;
        Ok(params)
    }
}

impl Serialize for TrainParams {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Default for TrainParams {
    /// The recipe `simple_cnn`.
    fn default() -> Self {
        Self {
            epochs: 15,
            batch_size: 128,
            optimiser: OptimiserKind::Sgd,
            learning_rate: 0.1,
            head_rate: 1.0,
            bias_rate: 1.0,
            muon_learning_rate: 0.24,
            schedule: Schedule::Linear,
            warmup_epochs: 1.0,
            whitening_bias_epochs: 3,
            momentum: 0.9,
            muon_momentum: 0.6,
            nesterov: true,
            beta2: 0.999,
            weight_decay: 5e-4,
            decay_biases: false,
            reduction: Reduction::Mean,
            label_smoothing: 0.1,
            clip_norm: 0.0,
            averaging: Averaging::None,
            averaging_decay: 0.99,
            averaging_every: 5,
            flip: Flip::Random,
            crop_padding: 4,
            cutout: 0,
            mixup: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            select: Select::Best,
            early_stopping: 0,
            dynamics_share: 0.0,
            use_tuned: false,
        }
    }
}

impl TrainParams {
    /// How training images are changed.
    pub fn augmentation(&self) -> Augmentation {
        Augmentation {
            flip: self.flip,
            crop_padding: self.crop_padding,
            cutout: self.cutout,
            mixup: self.mixup,
            brightness: self.brightness,
            contrast: self.contrast,
        }
    }

    /// Refuses values outside of their range, and what so many training and validation images of this size cannot serve.
    ///
    /// # Errors
    /// If so; it names the key, what was found and what is allowed.
    pub fn check(&self, train: usize, val: usize, size: ImageSize) -> Result<()> {
        self.check_ranges()?;
        let refuse = |key, value: String, allowed: String| Err(TrainError::Parameter { key, value, allowed });
        if self.batch_size > train {
            let allowed = format!("there are {train} training images");
            return refuse("train.batch_size", self.batch_size.to_string(), allowed);
        }
        let none = "there are no validation images; set it to";
        if self.select == Select::Best && val == 0 {
            return refuse("train.select", "best".into(), format!("{none} last, or raise split.val_fraction"));
        }
        if self.early_stopping > 0 && val == 0 {
            let value = self.early_stopping.to_string();
            return refuse("train.early_stopping", value, format!("{none} 0, or raise split.val_fraction"));
        }
        Ok(self.augmentation().check(size)?)
    }

    /// Refuses a recipe whose [`Dynamics`](crate::Dynamics) do not follow single training images: mixup
    /// trains on mixtures, and only a `dynamics_share` of 1 records every image in every epoch besides.
    /// Training needs no such record; measures of hard training images do.
    ///
    /// # Errors
    /// If so; it names both keys.
    pub fn check_dynamics(&self) -> Result<()> {
        if self.mixup <= 0.0 || self.dynamics_share >= 1.0 {
            return Ok(());
        }
        Err(TrainError::Parameter {
            key: "train.mixup",
            value: self.mixup.to_string(),
            allowed: format!(
                "with train.dynamics_share: {} training records no logits of single images, which hard-images needs; set train.dynamics_share to 1 or train.mixup to 0",
                self.dynamics_share
            ),
        })
    }

    fn check_ranges(&self) -> Result<()> {
        let check = |key, ok: bool, value: String, allowed: &str| {
            if ok { Ok(()) } else { Err(TrainError::Parameter { key, value, allowed: allowed.into() }) }
        };
        for (key, count, least, most) in [
            ("epochs", self.epochs, 1, MOST_EPOCHS),
            ("batch_size", self.batch_size, 1, MOST_IMAGES),
            ("averaging_every", self.averaging_every, 1, MOST_STEPS),
            ("whitening_bias_epochs", self.whitening_bias_epochs, 0, MOST_EPOCHS),
            ("early_stopping", self.early_stopping, 0, MOST_EPOCHS),
        ] {
            let allowed = format!("allowed is {least} to {most}");
            check(key, (least..=most).contains(&count), count.to_string(), &allowed)?;
        }
        for (key, rate) in [
            ("learning_rate", self.learning_rate),
            ("head_rate", self.head_rate),
            ("bias_rate", self.bias_rate),
            ("muon_learning_rate", self.muon_learning_rate),
        ] {
            check(key, rate > 0.0 && rate.is_finite(), rate.to_string(), "allowed is a finite number above 0")?;
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("clip_norm", self.clip_norm)] {
            check(key, value >= 0.0 && value.is_finite(), value.to_string(), "allowed is a finite number, 0 or more")?;
        }
        for (key, share) in [
            ("momentum", self.momentum),
            ("muon_momentum", self.muon_momentum),
            ("beta2", self.beta2),
            ("label_smoothing", self.label_smoothing),
            ("averaging_decay", self.averaging_decay),
        ] {
            check(key, (0.0..1.0).contains(&share), share.to_string(), "allowed is 0 up to, not including, 1")?;
        }
        let share = self.dynamics_share;
        check("dynamics_share", (0.0..=1.0).contains(&share), share.to_string(), "allowed is 0 to 1")?;
        let warmup = self.warmup_epochs;
        let allowed = format!("allowed is 0 to {} (epochs)", self.epochs);
        check("warmup_epochs", (0.0..=self.epochs as f64).contains(&warmup), warmup.to_string(), &allowed)?;
        // A step that takes more than everything away turns weights around.
        let decayed = self.learning_rate * self.weight_decay;
        let allowed = format!("learning_rate × weight_decay is {decayed}, allowed is 0 to 1");
        check("weight_decay", decayed <= 1.0, self.weight_decay.to_string(), &allowed)?;
        Ok(self.augmentation().check_ranges()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, value: serde_json::Value, expected: &str) {
        let mut json = serde_json::to_value(TrainParams::default()).unwrap();
        assert!(json.get(key).is_some(), "{key}");
        json[key] = value;
        let found = serde_json::from_value::<TrainParams>(json).map_err(|e| e.to_string());
        if expected.is_empty() {
            found.unwrap();
        } else {
            assert!(found.clone().unwrap_err().contains(expected), "{found:?}");
        }
    }

    #[test]
    fn values_outside_of_their_range_are_refused() {
        let positive = "allowed is a finite number above 0";
        check("epochs", 0.into(), "epochs: 0 is not allowed; allowed is 1 to 100000");
        for epochs in [100_001, u64::MAX] {
            check("epochs", epochs.into(), "is not allowed; allowed is 1 to 100000");
        }
        check("early_stopping", u64::MAX.into(), "allowed is 0 to 100000");
        check("whitening_bias_epochs", u64::MAX.into(), "allowed is 0 to 100000");
        check("averaging_every", u64::MAX.into(), "allowed is 1 to 1000000");
        check("batch_size", u64::MAX.into(), "allowed is 1 to 10000000");
        check("batch_size", 0.into(), "batch_size: 0 is not allowed; allowed is 1 to 10000000");
        check("learning_rate", (-0.1).into(), &format!("learning_rate: -0.1 is not allowed; {positive}"));
        check("learning_rate", 0.0.into(), positive);
        check("muon_learning_rate", 0.0.into(), positive);
        check("head_rate", 0.0.into(), positive);
        check("warmup_epochs", 15.5.into(), "warmup_epochs: 15.5 is not allowed; allowed is 0 to 15 (epochs)");
        check("warmup_epochs", 15.into(), "");
        check("momentum", 1.0.into(), "allowed is 0 up to, not including, 1");
        check("averaging_every", 0.into(), "allowed is 1 to 1000000");
        check("weight_decay", (-1).into(), "allowed is a finite number, 0 or more");
        check("weight_decay", 11.into(), "learning_rate × weight_decay is 1.1");
        check("dynamics_share", 1.5.into(), "dynamics_share: 1.5 is not allowed; allowed is 0 to 1");
        check("mixup", (-3).into(), "mixup: -3 is not allowed; allowed is 0 to 10");
        check("contrast", 2.into(), "contrast: 2 is not allowed; allowed is 0 to 1");
        check("optimiser", "adam".into(), "expected one of `sgd`, `adamw`, `muon`");
    }

    #[test]
    fn what_json_cannot_say_is_refused_too() {
        for learning_rate in [f64::NAN, f64::INFINITY] {
            let params = TrainParams { learning_rate, ..TrainParams::default() };
            assert!(params.check_ranges().unwrap_err().to_string().starts_with("learning_rate: "));
        }
    }

    #[test]
    fn what_the_images_cannot_serve_is_refused() {
        let check = |params: TrainParams, train, val, expected: &str| {
            let found = params.check(train, val, ImageSize { height: 32, width: 32 });
            assert_eq!(found.map_or_else(|e| e.to_string(), |()| String::new()), expected);
        };
        let params = TrainParams::default;
        check(params(), 128, 1, "");
        check(params(), 127, 1, "train.batch_size: 128 is not allowed; there are 127 training images");
        let none = "is not allowed; there are no validation images; set it to";
        let or = "or raise split.val_fraction";
        check(params(), 128, 0, &format!("train.select: best {none} last, {or}"));
        let stopping = TrainParams { select: Select::Last, early_stopping: 3, ..params() };
        check(stopping.clone(), 128, 1, "");
        check(stopping, 128, 0, &format!("train.early_stopping: 3 {none} 0, {or}"));
        let cutout = TrainParams { cutout: 33, ..params() };
        check(cutout, 128, 1, "cutout: 33 is not allowed; images of 32×32 pixels allow 0 to 32");
    }

    #[test]
    fn mixup_without_plain_logits_cannot_be_analysed() {
        let check = |mixup, dynamics_share| {
            let params = TrainParams { mixup, dynamics_share, ..TrainParams::default() };
            params.check(128, 1, ImageSize { height: 32, width: 32 }).unwrap();
            params.check_dynamics().map_err(|error| error.to_string())
        };
        assert_eq!([check(0.0, 0.0), check(0.4, 1.0)], [Ok(()), Ok(())]);
        for share in [0.0, 0.5] {
            assert_eq!(
                check(0.4, share).unwrap_err(),
                format!(
                    "train.mixup: 0.4 is not allowed; with train.dynamics_share: {share} training records no logits of single images, which hard-images needs; set train.dynamics_share to 1 or train.mixup to 0"
                )
            );
        }
    }

    #[test]
    fn a_recipe_survives_json() {
        let json = serde_json::to_string(&TrainParams::default()).unwrap();
        assert_eq!(serde_json::from_str::<TrainParams>(&json).unwrap(), TrainParams::default());
        assert!(serde_json::from_str::<TrainParams>(&json.replace("momentum", "momentun")).is_err());
    }
}

//! The training parameters: optimiser, schedule, augmentation and what is recorded.

use cifar_data::ImageSize;
use cifar_data::batches::{Augmentation, Flip};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schedule::Schedule;
use crate::{Result, TrainError};

/// The most epochs of a run. It bounds the number of epoch records and keeps step counts in range.
pub(crate) const MAX_EPOCHS: usize = 100_000;
/// The most images of a batch.
const MAX_IMAGES: usize = 10_000_000;
/// The most steps between two updates of the averaged weights.
const MAX_STEPS: usize = 1_000_000;

/// Which epoch's weights the run keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The epoch with the highest validation accuracy. Ties go to the lower validation loss, then
    /// to the earlier epoch.
    Best,
    /// The last epoch.
    Last,
}

/// The optimiser.
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

/// How the losses of a batch are combined before their gradient is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The mean, so that learning rates hardly depend on the batch size.
    Mean,
    /// The sum, as many published recipes with small learning rates have it.
    Sum,
}

/// Averages of the weights over steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaging {
    /// None.
    None,
    /// An exponential moving average of the trained weights. Validation and the saved model use it.
    Ema,
    /// Lookahead: slow weights that follow the trained ones, which are then reset to them (Zhang et
    /// al. 2019, arXiv 1907.08610). Validation and the saved model use the slow weights.
    Lookahead,
}

/// How a network is trained.
///
/// Deserialising checks every range; [`TrainParams::check`] also checks that the values suit the
/// data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct TrainParams {
    /// Passes over the training images, at least 1.
    pub epochs: usize,
    /// Images per step, from 1 to the number of training images. The batches of an epoch have equal
    /// size, give or take one image: no image is left out and no batch is much smaller.
    pub batch_size: usize,
    /// The optimiser.
    pub optimiser: OptimiserKind,
    /// Highest learning rate of SGD or `AdamW`, above 0.
    pub learning_rate: f64,
    /// Factor on `learning_rate` for the last layer, above 0.
    #[serde(alias = "head_rate")]
    pub head_lr_scale: f64,
    /// Factor on `learning_rate` for biases, scales and shifts, above 0.
    #[serde(alias = "bias_rate")]
    pub bias_lr_scale: f64,
    /// Highest learning rate of Muon, above 0. Muon normalises its steps, so this does not depend
    /// on the size of gradients.
    pub muon_learning_rate: f64,
    /// How the learning rates change over the run.
    pub schedule: Schedule,
    /// Epochs over which the learning rates rise: from 0 or, under `triangular`, from a fifth of
    /// the highest. From 0 to `epochs`; fractions are allowed.
    pub warmup_epochs: f64,
    /// Epochs in which the bias of a whitening layer is trained, on a schedule of its own. It is
    /// frozen afterwards.
    pub whitening_bias_epochs: usize,
    /// Momentum of SGD, β₁ of `AdamW`: 0 ≤ momentum < 1.
    pub momentum: f32,
    /// Momentum of Muon, 0 ≤ momentum < 1.
    pub muon_momentum: f32,
    /// Whether SGD and Muon use Nesterov momentum.
    pub nesterov: bool,
    /// β₂ of `AdamW`, 0 ≤ β₂ < 1.
    pub beta2: f32,
    /// Decoupled weight decay, 0 or more: w ← w · (1 − rate · decay) per step, where the rate is
    /// the step's `learning_rate` without the scales of head and biases. Muon's filters do not
    /// decay, since their norm is fixed.
    pub weight_decay: f64,
    /// Whether biases, scales and shifts decay too.
    pub decay_biases: bool,
    /// How the losses of a batch are combined.
    pub reduction: Reduction,
    /// Label smoothing: the fraction of the target that is spread over all classes, 0 ≤ smoothing <
    /// 1.
    pub label_smoothing: f32,
    /// Highest joint norm of all gradients; longer gradients are scaled down to it. 0: no clipping.
    pub clip_norm: f64,
    /// Averages of the weights over steps.
    pub averaging: Averaging,
    /// Fraction of the average that is kept at each update, 0 ≤ decay < 1.
    pub averaging_decay: f32,
    /// Steps between two updates of the average, at least 1.
    pub averaging_every: usize,
    /// Mirroring of training images.
    pub flip: Flip,
    /// Training images are shifted by up to this many pixels, with reflected borders.
    pub crop_padding: usize,
    /// Side in pixels of the square that is erased from each training image; 0: none.
    pub cutout: usize,
    /// α of mixup's Beta(α, α) (Zhang et al. 2018, arXiv 1710.09412); 0: none. Training then sees
    /// mixtures only, so [`Dynamics`](crate::Dynamics) follow single training images only with a
    /// `dynamics_fraction` of 1.
    pub mixup: f64,
    /// Brightness jitter: brightness changes by up to this fraction of the full range.
    pub brightness: f32,
    /// Contrast jitter: contrast is multiplied by 1 ± up to this.
    pub contrast: f32,
    /// Which epoch's weights the run keeps.
    pub select: Select,
    /// Number of consecutive epochs without a better validation result after which the run ends; 0:
    /// never.
    pub early_stopping: usize,
    /// Fraction of the training images that are predicted without augmentation after each epoch, 0
    /// to 1. The images take turns. These logits, and those of all images from the training passes,
    /// go into [`Dynamics`](crate::Dynamics). With 1, training takes about a third longer.
    #[serde(alias = "dynamics_share")]
    pub dynamics_fraction: f64,
    /// Whether the setting that tuning found replaces the values above.
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
    /// Returns the parameters of the recipe `simple_cnn`.
    fn default() -> Self {
        Self {
            epochs: 15,
            batch_size: 128,
            optimiser: OptimiserKind::Sgd,
            learning_rate: 0.1,
            head_lr_scale: 1.0,
            bias_lr_scale: 1.0,
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
            dynamics_fraction: 0.0,
            use_tuned: false,
        }
    }
}

impl TrainParams {
    /// Returns how training images are augmented.
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

    /// Checks every range, and that the values suit this many training and validation images of
    /// this size.
    ///
    /// # Errors
    /// Names the first key that is wrong, with its value and what is allowed.
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

    /// Checks that [`Dynamics`](crate::Dynamics) will follow single training images.
    ///
    /// Mixup trains on mixtures, so only a `dynamics_fraction` of 1 records every image in every
    /// epoch. Training does not need this record; measures of hard training images do.
    ///
    /// # Errors
    /// Names `train.mixup` and `train.dynamics_fraction` if there would be no such record.
    pub fn check_dynamics(&self) -> Result<()> {
        if self.mixup <= 0.0 || self.dynamics_fraction >= 1.0 {
            return Ok(());
        }
        Err(TrainError::Parameter {
            key: "train.mixup",
            value: self.mixup.to_string(),
            allowed: format!(
                "with train.dynamics_fraction: {} training records no logits of single images, which the analysis of hard images needs; set train.dynamics_fraction to 1 or train.mixup to 0",
                self.dynamics_fraction
            ),
        })
    }

    fn check_ranges(&self) -> Result<()> {
        let check = |key, ok: bool, value: String, allowed: &str| {
            if ok { Ok(()) } else { Err(TrainError::Parameter { key, value, allowed: allowed.into() }) }
        };
        for (key, count, least, most) in [
            ("epochs", self.epochs, 1, MAX_EPOCHS),
            ("batch_size", self.batch_size, 1, MAX_IMAGES),
            ("averaging_every", self.averaging_every, 1, MAX_STEPS),
            ("whitening_bias_epochs", self.whitening_bias_epochs, 0, MAX_EPOCHS),
            ("early_stopping", self.early_stopping, 0, MAX_EPOCHS),
        ] {
            let allowed = format!("allowed is {least} to {most}");
            check(key, (least..=most).contains(&count), count.to_string(), &allowed)?;
        }
        for (key, rate) in [
            ("learning_rate", self.learning_rate),
            ("head_lr_scale", self.head_lr_scale),
            ("bias_lr_scale", self.bias_lr_scale),
            ("muon_learning_rate", self.muon_learning_rate),
        ] {
            check(key, rate > 0.0 && rate.is_finite(), rate.to_string(), "allowed is a finite number above 0")?;
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("clip_norm", self.clip_norm)] {
            check(key, value >= 0.0 && value.is_finite(), value.to_string(), "allowed is a finite number, 0 or more")?;
        }
        for (key, fraction) in [
            ("momentum", self.momentum),
            ("muon_momentum", self.muon_momentum),
            ("beta2", self.beta2),
            ("label_smoothing", self.label_smoothing),
            ("averaging_decay", self.averaging_decay),
        ] {
            check(key, (0.0..1.0).contains(&fraction), fraction.to_string(), "allowed is 0 up to, not including, 1")?;
        }
        let fraction = self.dynamics_fraction;
        check("dynamics_fraction", (0.0..=1.0).contains(&fraction), fraction.to_string(), "allowed is 0 to 1")?;
        let warmup = self.warmup_epochs;
        let allowed = format!("allowed is 0 to {} (epochs)", self.epochs);
        check("warmup_epochs", (0.0..=self.epochs as f64).contains(&warmup), warmup.to_string(), &allowed)?;
        // A step that removes more than the whole weight would flip its sign.
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
        check("head_lr_scale", 0.0.into(), positive);
        check("warmup_epochs", 15.5.into(), "warmup_epochs: 15.5 is not allowed; allowed is 0 to 15 (epochs)");
        check("warmup_epochs", 15.into(), "");
        check("momentum", 1.0.into(), "allowed is 0 up to, not including, 1");
        check("averaging_every", 0.into(), "allowed is 1 to 1000000");
        check("weight_decay", (-1).into(), "allowed is a finite number, 0 or more");
        check("weight_decay", 11.into(), "learning_rate × weight_decay is 1.1");
        check("dynamics_fraction", 1.5.into(), "dynamics_fraction: 1.5 is not allowed; allowed is 0 to 1");
        check("mixup", (-3).into(), "mixup: -3 is not allowed; allowed is 0 to 10");
        check("contrast", 2.into(), "contrast: 2 is not allowed; allowed is 0 to 1");
        check("optimiser", "adam".into(), "expected one of `sgd`, `adamw`, `muon`");
    }

    #[test]
    fn values_that_json_cannot_express_are_refused_too() {
        for learning_rate in [f64::NAN, f64::INFINITY] {
            let params = TrainParams { learning_rate, ..TrainParams::default() };
            assert!(params.check_ranges().unwrap_err().to_string().starts_with("learning_rate: "));
        }
    }

    #[test]
    fn values_that_do_not_suit_the_images_are_refused() {
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
    fn mixup_needs_a_dynamics_fraction_of_one_to_be_analysed() {
        let check = |mixup, dynamics_fraction| {
            let params = TrainParams { mixup, dynamics_fraction, ..TrainParams::default() };
            params.check(128, 1, ImageSize { height: 32, width: 32 }).unwrap();
            params.check_dynamics().map_err(|error| error.to_string())
        };
        assert_eq!([check(0.0, 0.0), check(0.4, 1.0)], [Ok(()), Ok(())]);
        for share in [0.0, 0.5] {
            assert_eq!(
                check(0.4, share).unwrap_err(),
                format!(
                    "train.mixup: 0.4 is not allowed; with train.dynamics_fraction: {share} training records no logits of single images, which the analysis of hard images needs; set train.dynamics_fraction to 1 or train.mixup to 0"
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

    /// As written by versions whose parameters had other names.
    #[test]
    fn earlier_names_are_read_and_the_new_ones_are_written() {
        let params =
            TrainParams { head_lr_scale: 2.0, bias_lr_scale: 3.0, dynamics_fraction: 0.5, ..TrainParams::default() };
        let json = serde_json::to_string(&params).unwrap();
        let mut earlier = json.clone();
        for (old, new) in
            [("head_rate", "head_lr_scale"), ("bias_rate", "bias_lr_scale"), ("dynamics_share", "dynamics_fraction")]
        {
            assert!(json.contains(new) && !json.contains(old));
            earlier = earlier.replace(new, old);
        }
        assert_eq!(serde_json::from_str::<TrainParams>(&earlier).unwrap(), params);
    }
}

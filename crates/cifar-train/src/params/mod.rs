//! The training parameters: optimiser, schedule, augmentation and what is recorded.

mod check;
mod imbalance;
mod length;
mod start;

use cifar_data::batches::{Augmentation, Flip};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::imbalance::{ClassWeights, Sampling};
pub use self::start::{Freeze, Init};
use crate::schedule::Schedule;

/// The most epochs of a run. It bounds the number of epoch records and keeps step counts in range.
pub const MAX_EPOCHS: usize = 100_000;

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
#[allow(clippy::struct_excessive_bools, reason = "they are independent switches")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct TrainParams {
    /// Passes over the training images, at least 1.
    pub epochs: usize,
    /// The least number of steps of a run, whatever `epochs` says: see [`TrainParams::for_images`].
    /// Early stopping does not end a run before it. A file may leave this out: 0, no minimum.
    #[serde(default, skip_serializing_if = "length::is_zero")]
    pub min_steps: usize,
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
    /// Weights of the classes in the loss. A file may leave this out: all are equal.
    #[serde(default, skip_serializing_if = "ClassWeights::is_none")]
    pub class_weights: ClassWeights,
    /// Which training images an epoch shows. A file may leave this out: every image once.
    #[serde(default, skip_serializing_if = "Sampling::is_natural")]
    pub sampling: Sampling,
    /// Highest joint norm of all gradients; longer gradients are scaled down to it. 0: no clipping.
    pub clip_norm: f64,
    /// Averages of the weights over steps.
    pub averaging: Averaging,
    /// Fraction of the average that is kept at each update, 0 ≤ decay < 1.
    pub averaging_decay: f32,
    /// Power with which `averaging_decay` rises over the run: after a fraction x of the steps it is x
    /// to this power of its value. 0 to 10. A file may leave this out: 0, it is constant.
    #[serde(default, skip_serializing_if = "is_constant")]
    pub averaging_power: f32,
    /// Steps between two updates of the average, at least 1.
    pub averaging_every: usize,
    /// Mirroring of training images.
    pub flip: Flip,
    /// Training images are shifted by up to this many pixels, with reflected borders.
    pub crop_padding: usize,
    /// Side in pixels of the square that is erased from each training image; 0: none.
    pub cutout: usize,
    /// Whether the erased squares are wholly inside the image. A file may leave this out: they may
    /// extend over its border.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cutout_inside: bool,
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
    /// Number of consecutive epochs without a better validation result after which the run ends, but
    /// not before `min_steps`; 0: never.
    pub early_stopping: usize,
    /// Fraction of the training images that are predicted without augmentation after each epoch, 0
    /// to 1. The images take turns. These logits, and those of all images from the training passes,
    /// go into [`Dynamics`](crate::Dynamics). With 1, training takes about a third longer.
    #[serde(alias = "dynamics_share")]
    pub dynamics_fraction: f64,
    /// The initial weights. A file may leave this out: they are random.
    #[serde(default, skip_serializing_if = "Init::is_random")]
    pub init: Init,
    /// Which layers keep their initial weights. A file may leave this out: none.
    #[serde(default, skip_serializing_if = "Freeze::is_none")]
    pub freeze: Freeze,
    /// Factor on the learning rates and weight decay of all layers except the last, above 0 and at
    /// most 1. A file may leave this out: 1.
    #[serde(default = "one", skip_serializing_if = "start::is_one")]
    pub backbone_lr_scale: f64,
    /// Whether the setting that tuning found replaces the values above.
    pub use_tuned: bool,
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
fn is_constant(power: &f32) -> bool {
    *power == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
fn is_false(value: &bool) -> bool {
    !value
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
            min_steps: 0,
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
            class_weights: ClassWeights::None,
            sampling: Sampling::Natural,
            clip_norm: 0.0,
            averaging: Averaging::None,
            averaging_decay: 0.99,
            averaging_power: 0.0,
            averaging_every: 5,
            flip: Flip::Random,
            crop_padding: 4,
            cutout: 0,
            cutout_inside: false,
            mixup: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            select: Select::Best,
            early_stopping: 0,
            dynamics_fraction: 0.0,
            init: Init::Random,
            freeze: Freeze::None,
            backbone_lr_scale: one(),
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
            cutout_inside: self.cutout_inside,
            mixup: self.mixup,
            brightness: self.brightness,
            contrast: self.contrast,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

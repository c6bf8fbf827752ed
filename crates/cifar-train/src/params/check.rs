//! Checks the ranges of training parameters, and whether they suit the data.

use cifar_data::ImageSize;

use super::imbalance::ALLOWED_WEIGHTS;
use super::{ClassWeights, MAX_EPOCHS, Sampling, Select, TrainParams};
use crate::{Result, TrainError};

/// The most images of a batch.
const MAX_IMAGES: usize = 10_000_000;
/// The most steps between two updates of the averaged weights.
const MAX_STEPS: usize = 1_000_000;
/// The highest least number of steps of a run.
const MAX_MIN_STEPS: usize = 1_000_000_000;

impl TrainParams {
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
        self.check_length(train)?;
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

    /// Checks that a list of class weights has one weight for each of `classes`.
    ///
    /// # Errors
    /// Names `train.class_weights` and the classes if it has more or fewer.
    pub fn check_classes(&self, classes: &[String]) -> Result<()> {
        match &self.class_weights {
            ClassWeights::PerClass(weights) if weights.len() != classes.len() => Err(TrainError::Parameter {
                key: "train.class_weights",
                value: format!("a list of {}", weights.len()),
                allowed: format!("there are {} classes: {}", classes.len(), classes.join(", ")),
            }),
            _ => Ok(()),
        }
    }

    /// Checks that [`Dynamics`](crate::Dynamics) will follow single training images.
    ///
    /// Mixup trains on mixtures, and balanced sampling does not train on every image in every
    /// epoch. Then only a `dynamics_fraction` of 1 records every image in every epoch. Training
    /// does not need this record; measures of hard training images do.
    ///
    /// # Errors
    /// Names `train.mixup` or `train.sampling`, and `train.dynamics_fraction`, if there would be no
    /// such record.
    pub fn check_dynamics(&self) -> Result<()> {
        let (key, value, without, instead) = if self.mixup > 0.0 {
            ("train.mixup", self.mixup.to_string(), "no logits of single images", "0")
        } else if self.sampling == Sampling::Balanced {
            ("train.sampling", "balanced".into(), "no logits of every image in every epoch", "natural")
        } else {
            return Ok(());
        };
        if self.dynamics_fraction >= 1.0 {
            return Ok(());
        }
        Err(TrainError::Parameter {
            key,
            value,
            allowed: format!(
                "with train.dynamics_fraction: {} training records {without}, which the analysis of hard images needs; set train.dynamics_fraction to 1 or {key} to {instead}",
                self.dynamics_fraction
            ),
        })
    }

    /// Returns whether training sees every single image once per epoch, so that the logits of its
    /// passes follow every image.
    pub(crate) fn passes_show_every_image(&self) -> bool {
        self.mixup <= 0.0 && self.sampling == Sampling::Natural
    }

    pub(super) fn check_ranges(&self) -> Result<()> {
        let check = |key, ok: bool, value: String, allowed: &str| {
            if ok { Ok(()) } else { Err(TrainError::Parameter { key, value, allowed: allowed.into() }) }
        };
        for (key, count, least, most) in [
            ("epochs", self.epochs, 1, MAX_EPOCHS),
            ("min_steps", self.min_steps, 0, MAX_MIN_STEPS),
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
        let power = self.averaging_power;
        check("averaging_power", (0.0..=10.0).contains(&power), power.to_string(), "allowed is 0 to 10")?;
        let scale = self.backbone_lr_scale;
        check(
            "backbone_lr_scale",
            scale > 0.0 && scale <= 1.0,
            scale.to_string(),
            "allowed is a number above 0, at most 1",
        )?;
        if let Some(weight) = self.class_weights.first_wrong() {
            check("class_weights", false, weight.to_string(), &format!("allowed is {ALLOWED_WEIGHTS}"))?;
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
        let mut blocks = serde_json::json!({ "train": TrainParams::default() });
        crate::add_optional_keys(&mut blocks);
        assert!(blocks["train"].get(key).is_some(), "{key}");
        blocks["train"][key] = value;
        let found = serde_json::from_value::<TrainParams>(blocks["train"].take()).map_err(|e| e.to_string());
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
        check("min_steps", u64::MAX.into(), "allowed is 0 to 1000000000");
        check("min_steps", (-1).into(), "invalid value: integer `-1`");
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
        check("averaging_power", (-1).into(), "averaging_power: -1 is not allowed; allowed is 0 to 10");
        check("weight_decay", (-1).into(), "allowed is a finite number, 0 or more");
        check("weight_decay", 11.into(), "learning_rate × weight_decay is 1.1");
        check("dynamics_fraction", 1.5.into(), "dynamics_fraction: 1.5 is not allowed; allowed is 0 to 1");
        check("mixup", (-3).into(), "mixup: -3 is not allowed; allowed is 0 to 10");
        check("contrast", 2.into(), "contrast: 2 is not allowed; allowed is 0 to 1");
        let allowed = "allowed is none, balanced, or a list with one weight above 0 per class";
        for (weights, wrong) in [([1.0, 0.0], "0"), ([-2.0, 1.0], "-2")] {
            check(
                "class_weights",
                weights.as_slice().into(),
                &format!("class_weights: {wrong} is not allowed; {allowed}"),
            );
        }
        check("class_weights", "even".into(), "string \"even\", expected none, balanced, or a list with one weight");
        for scale in [0.0, -0.5, 1.5] {
            let expected = format!("backbone_lr_scale: {scale} is not allowed; allowed is a number above 0, at most 1");
            check("backbone_lr_scale", scale.into(), &expected);
        }
        check("freeze", "head".into(), "expected one of `none`, `backbone`, `stem`");
        check("sampling", "even".into(), "expected `natural` or `balanced`");
        check("optimiser", "adam".into(), "expected one of `sgd`, `adamw`, `muon`");
    }

    #[test]
    fn values_that_json_cannot_express_are_refused_too() {
        for learning_rate in [f64::NAN, f64::INFINITY] {
            let params = TrainParams { learning_rate, ..TrainParams::default() };
            assert!(params.check_ranges().unwrap_err().to_string().starts_with("learning_rate: "));
        }
        for weight in [f32::NAN, f32::INFINITY] {
            let class_weights = ClassWeights::PerClass(vec![1.0, weight]);
            let params = TrainParams { class_weights, ..TrainParams::default() };
            assert!(params.check_ranges().unwrap_err().to_string().starts_with("class_weights: "));
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
        let long = TrainParams { min_steps: 1_000_000_000, ..params() };
        let epochs = "with 2 steps per epoch it takes 500000000 epochs, and a run has at most 100000; lower it, or train.batch_size";
        check(long, 200, 1, &format!("train.min_steps: 1000000000 is not allowed; {epochs}"));
        let cutout = TrainParams { cutout: 33, ..params() };
        check(cutout, 128, 1, "cutout: 33 is not allowed; images of 32×32 pixels allow 0 to 32");
    }

    #[test]
    fn class_weights_need_one_weight_per_class() {
        let check = |weights: ClassWeights| {
            let params = TrainParams { class_weights: weights, ..TrainParams::default() };
            params.check_classes(&["cat".into(), "dog".into()]).map_err(|e| e.to_string())
        };
        for fine in [ClassWeights::None, ClassWeights::Balanced, ClassWeights::PerClass(vec![1.0, 9.0])] {
            assert_eq!(check(fine), Ok(()));
        }
        let expected = "train.class_weights: a list of 1 is not allowed; there are 2 classes: cat, dog";
        assert_eq!(check(ClassWeights::PerClass(vec![1.0])), Err(expected.to_string()));
    }

    #[test]
    fn balanced_sampling_needs_a_dynamics_fraction_of_one_to_be_analysed() {
        let params = |dynamics_fraction| TrainParams {
            sampling: Sampling::Balanced,
            dynamics_fraction,
            ..TrainParams::default()
        };
        params(1.0).check_dynamics().unwrap();
        assert_eq!(
            params(0.0).check_dynamics().unwrap_err().to_string(),
            "train.sampling: balanced is not allowed; with train.dynamics_fraction: 0 training records no logits of every image in every epoch, which the analysis of hard images needs; set train.dynamics_fraction to 1 or train.sampling to natural"
        );
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
}

//! Training dynamics: the logits of each image, epoch by epoch.
//!
//! There are two records of the training images and one of the validation images:
//!
//! - **pass**: every image in every epoch, as augmented, in training mode, just before the network
//!   learns from it. This record is free, since training computes it. Under mixup there is none,
//!   since the network then sees mixtures; under balanced sampling there is none, since an epoch
//!   then shows some images several times and others not at all;
//! - **plain**: un-augmented images in evaluation mode, after each epoch, with the weights that the
//!   run would keep. Each epoch takes a fraction f of the images: image i in epoch e, counted from
//!   0, if ⌊uᵢ + (e + 1) · f⌋ exceeds ⌊uᵢ + e · f⌋, where uᵢ in [0, 1) is drawn from the seed and
//!   the image's id. So each image is recorded every 1 / f epochs;
//! - **val**: all validation images in every epoch, as validation computes them.
//!
//! Measures of training images over the epochs use `pass`; without it they use `plain`, if the
//! fraction is 1.
//!
//! # File format
//!
//! The file, `dynamics.safetensors`, holds logits as `f16` (a relative error of at most 2⁻¹¹;
//! values beyond ±65,504 are clamped). For N training and V validation images its tensors are:
//!
//! - `pass`: epochs × N × classes; no epochs under mixup and balanced sampling;
//! - `plain`: rows × classes; `plain_images` (`u32`) has the index of each row's image among the
//!   training images, `plain_ends` (`u32`) the number of rows up to the end of each epoch;
//! - `val`: epochs × V × classes;
//! - `train_ids` and `val_ids` (`u32`).
//!
//! The metadata under `cifar_dynamics` have the hash of the model file of the same run and a hash
//! of the whole file ([`cifar_data::seal`]). The schema is 2.

mod file;

use cifar_data::random::{Purpose, stream};
use cifar_data::{Dataset, SampleId};
use cifar_model::Logits;
use half::f16;
use half::slice::HalfFloatSliceExt;

pub(crate) use self::file::Part;
use crate::{Result, TrainError};

/// The logits of each image, epoch by epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Dynamics {
    classes: usize,
    train: Vec<SampleId>,
    val: Vec<SampleId>,
    fraction: f64,
    seed: u64,
    /// Whether `pass` is recorded.
    has_pass: bool,
    /// Completed epochs, and the current one, in which NaN marks images that are not trained on
    /// yet.
    pass: Vec<f16>,
    plain: Vec<f16>,
    plain_images: Vec<u32>,
    plain_ends: Vec<u32>,
    of_val: Vec<f16>,
}

impl Dynamics {
    /// Creates an empty record of these images. After each epoch, `fraction` of the training images
    /// will be predicted without augmentation.
    pub fn new(train: &Dataset, val: &Dataset, fraction: f64, seed: u64) -> Self {
        let ids = |set: &Dataset| set.samples().iter().map(|s| s.id).collect();
        Self {
            classes: train.classes().len(),
            train: ids(train),
            val: ids(val),
            fraction,
            seed,
            has_pass: true,
            pass: Vec::new(),
            plain: Vec::new(),
            plain_images: Vec::new(),
            plain_ends: Vec::new(),
            of_val: Vec::new(),
        }
    }

    /// Returns the record without `pass`, for training on mixtures and with balanced sampling.
    #[must_use]
    pub(crate) fn without_pass(mut self) -> Self {
        self.has_pass = false;
        self
    }

    /// Returns the number of completed epochs.
    pub fn epochs(&self) -> usize {
        self.plain_ends.len()
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the ids of the training images, ascending.
    pub fn train_ids(&self) -> &[SampleId] {
        &self.train
    }

    /// Returns the ids of the validation images, ascending.
    pub fn val_ids(&self) -> &[SampleId] {
        &self.val
    }

    /// Returns the logits of all training images during the training pass of epoch `epoch`, counted
    /// from 0: N × classes. None under mixup and balanced sampling.
    ///
    /// # Panics
    /// If there is no such epoch.
    pub fn pass(&self, epoch: usize) -> Option<Vec<f32>> {
        let length = self.train.len() * self.classes;
        self.has_pass.then(|| self.pass[epoch * length..(epoch + 1) * length].to_f32_vec())
    }

    /// Returns logits of every single training image in epoch `epoch`, counted from 0: N × classes.
    ///
    /// They are those of [`Dynamics::pass`]. Without these they are those of [`Dynamics::plain`] if
    /// they cover all images, otherwise none.
    ///
    /// # Panics
    /// If there is no such epoch.
    pub fn of_train(&self, epoch: usize) -> Option<Vec<f32>> {
        self.pass(epoch).or_else(|| {
            let (images, logits) = self.plain(epoch);
            (images.len() == self.train.len()).then_some(logits)
        })
    }

    /// Checks that the record follows single training images.
    ///
    /// # Errors
    /// If training saw mixtures, or not every image in every epoch, and the record does not have
    /// every single image in every epoch; see
    /// [`TrainParams::check_dynamics`](crate::TrainParams::check_dynamics).
    pub fn check_train(&self) -> Result<()> {
        if (0..self.epochs()).all(|epoch| self.has_pass || self.plain(epoch).0.len() == self.train.len()) {
            return Ok(());
        }
        Err(TrainError::Parameter {
            key: "train.dynamics_fraction",
            value: self.fraction.to_string(),
            allowed: "the model was trained with train.mixup above 0 or train.sampling: balanced, and its record has no logits of single images in every epoch; set train.dynamics_fraction to 1, or train.mixup to 0 and train.sampling to natural, and train again".into(),
        })
    }

    /// Returns the logits of all validation images after epoch `epoch`, counted from 0: V ×
    /// classes.
    ///
    /// # Panics
    /// If there is no such epoch.
    pub fn of_val(&self, epoch: usize) -> Vec<f32> {
        let length = self.val.len() * self.classes;
        self.of_val[epoch * length..(epoch + 1) * length].to_f32_vec()
    }

    /// Returns the training images that were predicted without augmentation after epoch `epoch`,
    /// counted from 0, as indices into all training images, and their logits: images × classes.
    ///
    /// # Panics
    /// If there is no such epoch.
    pub fn plain(&self, epoch: usize) -> (&[u32], Vec<f32>) {
        let from = if epoch == 0 { 0 } else { self.plain_ends[epoch - 1] as usize };
        let rows = from..self.plain_ends[epoch] as usize;
        let logits = self.plain[rows.start * self.classes..rows.end * self.classes].to_f32_vec();
        (&self.plain_images[rows], logits)
    }

    /// Records the logits of the images of a training step.
    pub(crate) fn record_pass(&mut self, ids: &[SampleId], logits: &[f32]) {
        if !self.has_pass {
            return;
        }
        let start = self.epochs() * self.train.len() * self.classes;
        self.pass.resize(start + self.train.len() * self.classes, f16::NAN);
        for (id, logits) in ids.iter().zip(logits.chunks_exact(self.classes)) {
            if let Ok(place) = self.train.binary_search(id) {
                let row = start + place * self.classes;
                self.pass[row..row + self.classes].copy_from_slice(&to_f16(logits));
            }
        }
    }

    /// Returns the training images to predict without augmentation after the current epoch.
    pub(crate) fn due(&self) -> Vec<usize> {
        let epoch = self.epochs() as f64;
        let is_due = |id: SampleId| {
            let phase = stream(self.seed, Purpose::Dynamics, 0, u64::from(id.0)).unit();
            (phase + (epoch + 1.0) * self.fraction).floor() > (phase + epoch * self.fraction).floor()
        };
        (0..self.train.len()).filter(|place| is_due(self.train[*place])).collect()
    }

    /// Ends the current epoch: `plain` has the training images `due`, `of_val` all validation
    /// images.
    pub(crate) fn end_epoch(&mut self, due: &[usize], plain: &Logits, of_val: &Logits) {
        self.plain.extend(to_f16(plain.values()));
        self.plain_images.extend(due.iter().map(|place| *place as u32));
        self.plain_ends.push(self.plain_images.len() as u32);
        self.of_val.extend(to_f16(of_val.values()));
    }
}

/// Rounds to the nearest `f16`; clamps to its range.
fn to_f16(values: &[f32]) -> Vec<f16> {
    let limit = f16::MAX.to_f32();
    values.iter().map(|v| f16::from_f32(v.clamp(-limit, limit))).collect()
}

#[cfg(test)]
mod tests {
    use cifar_data::sources::synthetic::{self, SyntheticParams};

    use super::*;

    fn images(count: usize) -> Dataset {
        synthetic::generate(&SyntheticParams { count, ..Default::default() }).unwrap().dataset
    }

    #[test]
    fn every_image_is_recorded_equally_often() {
        let (train, val) = (images(600), images(0x1e));
        let mut dynamics = Dynamics::new(&train, &val, 0.25, 7);
        let mut seen = vec![0; train.len()];
        for epoch in 0..8 {
            let due = dynamics.due();
            // Six standard deviations of a binomial with n = 600 and p = ¼.
            assert!(due.len().abs_diff(150) < 64, "{epoch}: {}", due.len());
            for place in due {
                seen[place] += 1;
            }
            dynamics.plain_ends.push(0);
        }
        assert!(seen.iter().all(|times| *times == 2), "{seen:?}");
        for (fraction, expected) in [(0.0, 0), (1.0, 600)] {
            assert_eq!(Dynamics::new(&train, &val, fraction, 7).due().len(), expected);
        }
    }

    #[test]
    fn logits_are_rounded_to_half_precision_and_clamped() {
        let (train, val) = (images(30), images(30));
        let mut dynamics = Dynamics::new(&train, &val, 0.0, 7);
        let logits: Vec<f32> = (0..300).map(|i| i as f32 * 0.37 - 50.0).collect();
        let ids: Vec<SampleId> = (0..30).rev().map(SampleId).collect();
        dynamics.record_pass(&ids, &logits);
        dynamics.plain_ends.push(0);
        let found = dynamics.pass(0).unwrap();
        for (image, row) in found.chunks_exact(10).enumerate() {
            for (k, value) in row.iter().enumerate() {
                let expected = logits[(29 - image) * 10 + k];
                assert!((value - expected).abs() <= expected.abs() / 2048.0, "{value} {expected}");
            }
        }
        assert_eq!(to_f16(&[1e9, -1e9]), [f16::MAX, f16::MIN]);
    }
}

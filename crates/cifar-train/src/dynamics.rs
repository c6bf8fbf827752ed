//! Training dynamics: the logits of each image, epoch by epoch.
//!
//! There are two records of the training images and one of the validation images:
//!
//! - **pass**: every image in every epoch, as augmented, in training mode, just before the network
//!   learns from it. This record is free, since training computes it. Under mixup there is none,
//!   since the network then sees mixtures;
//! - **plain**: un-augmented images in evaluation mode, after each epoch, with the weights that the
//!   run would keep. Each epoch takes a fraction f of the images: image i in epoch e, counted from
//!   0, if ⌊uᵢ + (e + 1) · f⌋ exceeds ⌊uᵢ + e · f⌋, where uᵢ in [0, 1) is drawn from the seed and
//!   the image's id. So each image is recorded every 1 / f epochs;
//! - **val**: all validation images in every epoch, as validation computes them.
//!
//! Measures of training images over the epochs use `pass`; under mixup they use `plain`, if the
//! fraction is 1.
//!
//! # File format
//!
//! The file, `dynamics.safetensors`, holds logits as `f16` (a relative error of at most 2⁻¹¹;
//! values beyond ±65,504 are clamped). For N training and V validation images its tensors are:
//!
//! - `pass`: epochs × N × classes; no epochs under mixup;
//! - `plain`: rows × classes; `plain_images` (`u32`) has the index of each row's image among the
//!   training images, `plain_ends` (`u32`) the number of rows up to the end of each epoch;
//! - `val`: epochs × V × classes;
//! - `train_ids` and `val_ids` (`u32`).
//!
//! The metadata under `cifar_dynamics` have the hash of the model file of the same run and a hash
//! of the whole file ([`cifar_data::seal`]). The schema is 2.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cifar_data::output::write_file;
use cifar_data::random::{Purpose, stream};
use cifar_data::seal::{self, PLACEHOLDER};
use cifar_data::{DataError, Dataset, SampleId, Stage};
use cifar_model::Logits;
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::{Result, TrainError};

const SCHEMA: u64 = 2;
const METADATA_KEY: &str = "cifar_dynamics";

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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    schema: u64,
    /// BLAKE3 hash of the model file of the same run.
    model: String,
    classes: usize,
    #[serde(rename = "share")]
    fraction: f64,
    seed: u64,
    seal: String,
    has_pass: bool,
}

/// A tensor: type, dimensions and bytes.
pub(crate) type Part = (Dtype, Vec<usize>, Vec<u8>);

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

    /// Returns the record without `pass`, for training on mixtures.
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
    /// from 0: N × classes. None under mixup.
    ///
    /// # Panics
    /// If there is no such epoch.
    pub fn pass(&self, epoch: usize) -> Option<Vec<f32>> {
        let length = self.train.len() * self.classes;
        self.has_pass.then(|| self.pass[epoch * length..(epoch + 1) * length].to_f32_vec())
    }

    /// Returns logits of every single training image in epoch `epoch`, counted from 0: N × classes.
    ///
    /// They are those of [`Dynamics::pass`]. Under mixup they are those of [`Dynamics::plain`] if
    /// these cover all images, otherwise none.
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
    /// If training saw mixtures and the record does not have every single image in every epoch; see
    /// [`TrainParams::check_dynamics`](crate::TrainParams::check_dynamics).
    pub fn check_train(&self) -> Result<()> {
        if (0..self.epochs()).all(|epoch| self.has_pass || self.plain(epoch).0.len() == self.train.len()) {
            return Ok(());
        }
        Err(TrainError::Parameter {
            key: "train.dynamics_fraction",
            value: self.fraction.to_string(),
            allowed: "the model was trained with train.mixup above 0, and its record has no logits of single images in every epoch; set train.dynamics_fraction to 1 or train.mixup to 0, and train again".into(),
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

    /// Returns the whole record as named tensors.
    pub(crate) fn parts(&self) -> [(&'static str, Part); 5] {
        let halves = |values: &[f16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (n, v, c) = (self.train.len(), self.val.len(), self.classes);
        // The current epoch may be incomplete.
        let passes = self.pass.len().checked_div(n * c).unwrap_or(0);
        [
            ("pass", (Dtype::F16, vec![passes, n, c], halves(&self.pass))),
            ("plain", (Dtype::F16, vec![self.plain_images.len(), c], halves(&self.plain))),
            ("plain_ends", (Dtype::U32, vec![self.epochs()], bytes(&self.plain_ends))),
            ("plain_images", (Dtype::U32, vec![self.plain_images.len()], bytes(&self.plain_images))),
            ("val", (Dtype::F16, vec![self.epochs(), v, c], halves(&self.of_val))),
        ]
    }

    /// Returns the record with the tensors of [`Dynamics::parts`], or what is wrong with them.
    pub(crate) fn with_parts(mut self, mut take: impl FnMut(&str) -> Option<Part>) -> Result<Self, String> {
        let (n, v, c) = (self.train.len(), self.val.len(), self.classes);
        let mut part = |name: &'static str, dtype: Dtype| match take(name) {
            Some((found, dims, bytes)) if found == dtype => Ok((dims, bytes)),
            Some((found, ..)) => Err(format!("tensor `{name}` is {found:?}, expected {dtype:?}")),
            None => Err(format!("has no tensor `{name}`")),
        };
        let (_, ends) = part("plain_ends", Dtype::U32)?;
        let (_, images) = part("plain_images", Dtype::U32)?;
        let (of_pass, of_plain, of_val) =
            (part("pass", Dtype::F16)?, part("plain", Dtype::F16)?, part("val", Dtype::F16)?);
        (self.plain_ends, self.plain_images) = (words(&ends), words(&images));
        let (epochs, rows) = (self.plain_ends.len(), self.plain_images.len());
        let expect = |name: &str, dims: &[usize], expected: &[&[usize]]| {
            if expected.contains(&dims) {
                Ok(())
            } else {
                Err(format!("tensor `{name}` is {dims:?}, expected {:?}", expected[0]))
            }
        };
        let passes: &[&[usize]] = if self.has_pass { &[&[epochs, n, c], &[epochs + 1, n, c]] } else { &[&[0, n, c]] };
        expect("pass", &of_pass.0, passes)?;
        expect("plain", &of_plain.0, &[&[rows, c]])?;
        expect("val", &of_val.0, &[&[epochs, v, c]])?;
        if !self.plain_ends.is_sorted() || self.plain_ends.last().copied().unwrap_or(0) as usize != rows {
            return Err(format!("`plain_ends` does not divide {rows} rows into epochs"));
        }
        if let Some(place) = self.plain_images.iter().find(|place| **place as usize >= n) {
            return Err(format!("`plain_images` names image {place} of {n}"));
        }
        let halves = |bytes: &[u8]| bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
        (self.pass, self.plain, self.of_val) = (halves(&of_pass.1), halves(&of_plain.1), halves(&of_val.1));
        Ok(self)
    }

    /// Writes the file of a finished run beside its model file.
    pub(crate) fn write(&self, path: &Path, model: &Path) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| TrainError::Encode(e.to_string());
        let (model, seed) = (hash(model)?, self.seed);
        let (classes, fraction, has_pass, seal) = (self.classes, self.fraction, self.has_pass, PLACEHOLDER.into());
        let metadata = Metadata { schema: SCHEMA, model, classes, fraction, seed, has_pass, seal };
        let json = serde_json::to_string(&metadata).map_err(|e| failed(&e))?;
        let ids = |ids: &[SampleId]| {
            let words: Vec<u32> = ids.iter().map(|id| id.0).collect();
            (Dtype::U32, vec![ids.len()], bytes(&words))
        };
        let mut parts = self.parts().to_vec();
        parts.extend([("train_ids", ids(&self.train)), ("val_ids", ids(&self.val))]);
        let views = parts.iter().map(|(name, (dtype, dims, bytes))| {
            Ok((*name, TensorView::new(*dtype, dims.clone(), bytes).map_err(|e| failed(&e))?))
        });
        let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
        let file = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata));
        let mut file = file.map_err(|e| failed(&e))?;
        seal::seal(&mut file).map_err(|e| failed(&e))?;
        Ok(write_file(path, &file)?)
    }

    /// Reads the file of the run that wrote the model file `model`, and checks that it is about
    /// these images.
    ///
    /// # Errors
    /// If the file is missing, damaged, cut short, of another run or about other images.
    pub fn read(path: &Path, model: &Path, train: &Dataset, val: &Dataset) -> Result<Self> {
        let made_by = Stage::Train.alone();
        let stale = |problem: String| DataError::Stale { path: path.to_path_buf(), problem, made_by };
        let file = match fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let problem = format!("cannot read it: {e}");
                return Err(DataError::Missing { path: path.to_path_buf(), problem, made_by }.into());
            }
            other => other.map_err(DataError::io("read", path))?,
        };
        let (metadata, dynamics) = decode(&file).map_err(stale)?;
        if metadata.model != hash(model)? {
            return Err(stale(format!("is of another run than the model {}", model.display())).into());
        }
        for (name, set, ids) in [("training", train, &dynamics.train), ("validation", val, &dynamics.val)] {
            let found = ids.iter().ne(set.samples().iter().map(|s| &s.id));
            if found || dynamics.classes != set.classes().len() {
                let unknown = ids.iter().find(|id| set.index_of(**id).is_none());
                let unknown = unknown.map(|id| format!(", such as image {id}")).unwrap_or_default();
                return Err(stale(format!("is about other {name} images than the prepared set{unknown}")).into());
            }
        }
        Ok(dynamics)
    }
}

fn decode(file: &[u8]) -> Result<(Metadata, Dynamics), String> {
    let damaged = |e: &dyn std::fmt::Display| format!("is damaged or cut short ({e})");
    let (_, header) = SafeTensors::read_metadata(file).map_err(|e| damaged(&e))?;
    let json = header
        .metadata()
        .as_ref()
        .and_then(|map| map.get(METADATA_KEY))
        .ok_or("is not a record of training dynamics")?;
    let schema = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v.get("schema")?.as_u64());
    if schema != Some(SCHEMA) {
        let schema = schema.map_or("none".to_string(), |s| s.to_string());
        return Err(format!("has schema {schema}, this program reads schema {SCHEMA}"));
    }
    seal::check(file).map_err(|e| e.to_string())?;
    let metadata: Metadata = serde_json::from_str(json).map_err(|e| damaged(&e))?;
    let tensors = SafeTensors::deserialize(file).map_err(|e| damaged(&e))?;
    let take = |name: &str| {
        let tensor = tensors.tensor(name).ok()?;
        Some((tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
    };
    let ids = |name: &str| match take(name) {
        Some((Dtype::U32, _, bytes)) => Ok(words(&bytes).into_iter().map(SampleId).collect::<Vec<_>>()),
        _ => Err(format!("has no tensor `{name}` of ids")),
    };
    let dynamics = Dynamics {
        classes: metadata.classes,
        train: ids("train_ids")?,
        val: ids("val_ids")?,
        fraction: metadata.fraction,
        seed: metadata.seed,
        has_pass: metadata.has_pass,
        pass: Vec::new(),
        plain: Vec::new(),
        plain_images: Vec::new(),
        plain_ends: Vec::new(),
        of_val: Vec::new(),
    };
    let dynamics = dynamics.with_parts(take)?;
    let passes = if dynamics.has_pass { dynamics.epochs() } else { 0 };
    if dynamics.pass.len() != passes * dynamics.train.len() * dynamics.classes {
        return Err("is from a training run that did not finish".into());
    }
    let all = [("pass", &dynamics.pass), ("plain", &dynamics.plain), ("val", &dynamics.of_val)];
    match all.iter().find(|(_, values)| values.iter().any(|v| !v.is_finite())) {
        Some((name, _)) => Err(format!("tensor `{name}` holds values that are not finite")),
        None => Ok((metadata, dynamics)),
    }
}

/// Rounds to the nearest `f16`; clamps to its range.
fn to_f16(values: &[f32]) -> Vec<f16> {
    let limit = f16::MAX.to_f32();
    values.iter().map(|v| f16::from_f32(v.clamp(-limit, limit))).collect()
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn hash(model: &Path) -> Result<String> {
    let bytes = fs::read(model).map_err(DataError::io("read", model))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
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

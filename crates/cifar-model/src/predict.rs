//! The one forward pass over a whole set that validation and evaluation share.

use candle_core::Error;
use cifar_data::batches::{evaluation_batch, selected_batch};
use cifar_data::{Dataset, ImageSize, Progress, memory};

use crate::{Mode, Model, ModelError, Result};

/// Images of one forward pass, if they are small.
const BATCH: usize = 250;
/// Pixels of one forward pass, at most: larger images go in smaller batches.
const PIXELS: usize = BATCH * 64 * 64;

/// Images of this size in one forward pass. What comes out for an image does not depend on it.
pub(crate) fn batch_of(size: ImageSize) -> usize {
    (PIXELS / (size.height * size.width).max(1)).clamp(1, BATCH)
}

/// Refuses a forward pass over so many images for which there is not enough memory.
fn check_memory(model: &Model, images: usize) -> Result<()> {
    let (spec, extent) = (model.spec(), model.extent());
    let needed = prediction_bytes(extent.largest, images, spec.classes.len(), spec.size) as u64;
    let what = format!("classifying {images} images of {} pixels", spec.size);
    Ok(memory::check(&what, needed, "use smaller images or model.widths")?)
}

/// Bytes that the forward passes over `images` images take besides the network: a batch on its way through the largest layers, of
/// `largest` values per image, and all logits twice.
pub(crate) fn prediction_bytes(largest: usize, images: usize, classes: usize, size: ImageSize) -> f64 {
    let batch = batch_of(size).min(images.max(1)) as f64;
    let logits = 2.0 * images as f64 * classes as f64;
    4.0 * (batch * 3.0 * largest as f64 + scratch_values(batch, largest) + logits)
}

/// Values of scratch memory that the convolutions of a pass over `batch` images need at most: they transform four images at a time.
pub(crate) fn scratch_values(batch: f64, largest: usize) -> f64 {
    6.0 * batch.min(4.0) * largest as f64
}

/// Logits of every image of a set, in the set's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    classes: usize,
    values: Vec<f32>,
}

impl Logits {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.classes
    }

    /// True if there is no image.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The logits of image `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Logits::len`].
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.classes..(index + 1) * self.classes]
    }

    /// All logits, N × classes.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same to be written to.
    pub(crate) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.classes..(index + 1) * self.classes]
    }

    /// Softmax of every row: N × classes.
    pub fn probabilities(&self) -> Result<Vec<f32>> {
        let mut probabilities = vec![0.0; self.values.len()];
        if !self.is_empty() {
            cifar_kernels::softmax(self.len(), self.classes, &self.values, &mut probabilities).map_err(Error::wrap)?;
        }
        Ok(probabilities)
    }
}

/// Logits of all images of `set`, un-augmented, in evaluation mode.
///
/// # Errors
/// If the set's classes or image size are not those that the model was made for.
pub fn predict(model: &Model, set: &Dataset, what: &'static str, monitor: &dyn Progress) -> Result<Logits> {
    check(model, set, set.len())?;
    let (classes, batch) = (set.classes().len(), batch_of(set.size()));
    let mut values = Vec::with_capacity(set.len() * classes);
    for start in (0..set.len()).step_by(batch) {
        monitor.check()?;
        monitor.update(what, start as u64, set.len() as u64);
        let batch = evaluation_batch(set, start, batch);
        values.extend(model.forward(&batch.pixels, &Mode::Evaluate)?.flatten_all()?.to_vec1::<f32>()?);
    }
    monitor.update(what, set.len() as u64, set.len() as u64);
    Ok(Logits { classes, values })
}

/// Logits of the images of `set` at `indices`, un-augmented, in evaluation mode.
///
/// # Errors
/// As [`predict()`].
///
/// # Panics
/// If an index is not below the length of the set.
pub fn predict_some(
    model: &Model,
    set: &Dataset,
    indices: &[usize],
    what: &'static str,
    monitor: &dyn Progress,
) -> Result<Logits> {
    check(model, set, indices.len())?;
    let mut values = Vec::with_capacity(indices.len() * set.classes().len());
    let batch = batch_of(set.size());
    for (done, chunk) in indices.chunks(batch).enumerate() {
        monitor.check()?;
        monitor.update(what, (done * batch) as u64, indices.len() as u64);
        let batch = selected_batch(set, chunk);
        values.extend(model.forward(&batch.pixels, &Mode::Evaluate)?.flatten_all()?.to_vec1::<f32>()?);
    }
    monitor.update(what, indices.len() as u64, indices.len() as u64);
    Ok(Logits { classes: set.classes().len(), values })
}

/// What a network sees in the images of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// As [`predict()`] gives them.
    pub logits: Logits,
    /// N × `width`: what the network's last layer reads off each image.
    pub features: Vec<f32>,
    /// Features of an image.
    pub width: usize,
}

/// As [`predict()`], with the features that the logits are made of.
///
/// # Errors
/// As [`predict()`].
pub fn predict_with_features(model: &Model, set: &Dataset, what: &'static str, monitor: &dyn Progress) -> Result<Seen> {
    check(model, set, set.len())?;
    let (classes, batch) = (set.classes().len(), batch_of(set.size()));
    let (mut values, mut features, mut width) = (Vec::with_capacity(set.len() * classes), Vec::new(), 0);
    for start in (0..set.len()).step_by(batch) {
        monitor.check()?;
        monitor.update(what, start as u64, set.len() as u64);
        let (of_batch, logits) = model.features(&evaluation_batch(set, start, batch).pixels)?;
        width = of_batch.dims()[1];
        features.reserve_exact(if start == 0 { set.len() * width } else { 0 });
        features.extend_from_slice(of_batch.values());
        values.extend(logits.flatten_all()?.to_vec1::<f32>()?);
    }
    monitor.update(what, set.len() as u64, set.len() as u64);
    Ok(Seen { logits: Logits { classes, values }, features, width })
}

/// Class probabilities of one image, height × width × RGB, which add up to 1.
pub fn classify(model: &Model, pixels: &[u8]) -> Result<Vec<f32>> {
    check_memory(model, 1)?;
    let values = model.forward(pixels, &Mode::Evaluate)?.flatten_all()?.to_vec1::<f32>()?;
    Logits { classes: model.spec().classes.len(), values }.probabilities()
}

/// Mean cross-entropy (nats, without label smoothing) and accuracy (0..1) of logits, or none of an empty set.
pub fn evaluate_loss(logits: &Logits, labels: &[u16]) -> Result<Option<(f64, f64)>> {
    if logits.is_empty() {
        return Ok(None);
    }
    let labels: Vec<u32> = labels.iter().map(|l| u32::from(*l)).collect();
    let (mut losses, mut gradient) = (vec![0.0; logits.len()], vec![0.0; logits.values.len()]);
    cifar_kernels::softmax_cross_entropy(
        logits.len(),
        logits.classes,
        &logits.values,
        &labels,
        None,
        0.0,
        &mut losses,
        &mut gradient,
    )
    .map_err(Error::wrap)?;
    let correct = (0..logits.len()).filter(|&i| argmax(logits.row(i)) == labels[i] as usize).count();
    let n = logits.len() as f64;
    Ok(Some((losses.iter().map(|l| f64::from(*l)).sum::<f64>() / n, correct as f64 / n)))
}

/// Refuses images that the model was not made for, or for `images` of which there is not enough memory.
fn check(model: &Model, set: &Dataset, images: usize) -> Result<()> {
    let spec = model.spec();
    if spec.size == set.size() && spec.classes == set.classes() {
        return check_memory(model, images);
    }
    Err(ModelError::Unsuitable(format!(
        "the model was trained on {} pixels and the classes {}; these images have {} and {}",
        spec.size,
        spec.classes.join(", "),
        set.size(),
        set.classes().join(", ")
    )))
}

/// The first of the largest values.
fn argmax(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

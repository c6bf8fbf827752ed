//! The forward pass over a whole set, which validation and evaluation share.

use candle_core::Error;
use cifar_data::batches::{evaluation_batch, selected_batch};
use cifar_data::{Dataset, ImageSize, Progress};

use crate::{Mode, Model, ModelError, Precision, Result, memory};

/// Maximum images per forward pass.
const BATCH: usize = 256;
/// Images that batches in bf16 are filled up to a multiple of.
const GROUP: usize = 32;
/// Maximum pixels per forward pass: larger images go in smaller batches.
const PIXELS: usize = BATCH * 64 * 64;

/// Returns the maximum number of images of this size per forward pass. The result of an image does
/// not depend on it.
pub fn images_per_pass(size: ImageSize) -> usize {
    let images = (PIXELS / (size.height * size.width).max(1)).clamp(1, BATCH);
    if images < GROUP { images } else { images / GROUP * GROUP }
}

/// Checks that there is enough memory for a forward pass over `images` images.
pub(crate) fn check_memory(model: &Model, images: usize) -> Result<()> {
    let (spec, extent) = (model.spec(), model.extent());
    let largest = [extent.largest, extent.largest_padded];
    let needed = prediction_bytes(largest, images, spec.classes.len(), spec.size, model.precision()) as u64;
    let what = format!("classifying {images} images of {} pixels", spec.size);
    Ok(memory::check_memory(&what, needed, "use smaller images or model.widths")?)
}

/// Returns the bytes that forward passes over `images` images need besides the network: one batch
/// in the largest layers, of `largest` values per image (also with padded channels), and all logits
/// twice.
pub(crate) fn prediction_bytes(
    [largest, padded]: [usize; 2],
    images: usize,
    classes: usize,
    size: ImageSize,
    precision: Precision,
) -> f64 {
    let batch = images_per_pass(size).min(images.max(1));
    let logits = 2.0 * images as f64 * classes as f64;
    let in_f32 = batch as f64 * largest as f64;
    let values = match precision.resolved() {
        Precision::Bf16 => in_f32.max(in_bf16(batch) * padded as f64),
        _ => in_f32,
    };
    4.0 * (3.0 * values + scratch_values(batch as f64, largest) + logits)
}

/// Returns the images that a batch in bf16 is padded to, in `f32` values: a bf16 value is half of
/// one.
pub(crate) fn in_bf16(batch: usize) -> f64 {
    batch.next_multiple_of(GROUP) as f64 / 2.0
}

/// Returns the maximum values of scratch memory that convolutions need for a pass over `batch`
/// images: they transform four images at a time.
pub(crate) fn scratch_values(batch: f64, largest: usize) -> f64 {
    6.0 * batch.min(4.0) * largest as f64
}

/// Logits of every image of a set, in the order of the set.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    classes: usize,
    values: Vec<f32>,
}

impl Logits {
    pub(crate) fn new(classes: usize, values: Vec<f32>) -> Self {
        Self { classes, values }
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.classes
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the logits of image `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Logits::len`].
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.classes..(index + 1) * self.classes]
    }

    /// Returns all logits, N × classes.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Appends the logits of further images.
    pub(crate) fn extend(&mut self, values: Vec<f32>) {
        self.values.extend(values);
    }

    /// Returns all logits for writing.
    pub(crate) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.classes..(index + 1) * self.classes]
    }

    /// Returns the softmax of every row, N × classes.
    ///
    /// # Errors
    /// If no ISA is available; see [`cifar_kernels::isa()`].
    pub fn probabilities(&self) -> Result<Vec<f32>> {
        let mut probabilities = vec![0.0; self.values.len()];
        if !self.is_empty() {
            cifar_kernels::softmax(self.len(), self.classes, &self.values, &mut probabilities).map_err(Error::wrap)?;
        }
        Ok(probabilities)
    }
}

/// Computes the logits of all images of `set`, without augmentation, in evaluation mode.
///
/// `what` names the task for `monitor`, which receives the progress and can cancel the task.
///
/// ```
/// use cifar_model::{evaluate_loss, predict};
/// # use cifar_data::Silent;
/// # use cifar_data::prepare::normalisation;
/// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
/// # use cifar_model::{Architecture, Model, ModelParams, ModelSpec};
/// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::of(Architecture::SimpleCnn);
/// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
/// # let model = Model::new(spec, 7)?;
///
/// let logits = predict(&model, &images, "validation images", &Silent)?;
/// let (loss, accuracy) = evaluate_loss(&logits, &images.labels())?.expect("there are images");
/// assert!(loss > 0.0 && (0.0..=1.0).contains(&accuracy));
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
///
/// # Errors
/// If the classes or image size of the set differ from those of the model, or there is not enough
/// memory.
pub fn predict(model: &Model, set: &Dataset, what: &'static str, monitor: &dyn Progress) -> Result<Logits> {
    check(model, set, set.len())?;
    let (classes, batch) = (set.classes().len(), images_per_pass(set.size()));
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

/// Computes the logits of the images of `set` at `indices`, without augmentation, in evaluation
/// mode.
///
/// ```
/// use cifar_model::predict_some;
/// # use cifar_data::Silent;
/// # use cifar_data::prepare::normalisation;
/// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
/// # use cifar_model::{Architecture, Model, ModelParams, ModelSpec};
/// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::of(Architecture::SimpleCnn);
/// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
/// # let model = Model::new(spec, 7)?;
///
/// let logits = predict_some(&model, &images, &[3, 1], "two images", &Silent)?;
/// assert_eq!(logits.len(), 2);
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
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
    let batch = images_per_pass(set.size());
    for (done, chunk) in indices.chunks(batch).enumerate() {
        monitor.check()?;
        monitor.update(what, (done * batch) as u64, indices.len() as u64);
        let batch = selected_batch(set, chunk);
        values.extend(model.forward(&batch.pixels, &Mode::Evaluate)?.flatten_all()?.to_vec1::<f32>()?);
    }
    monitor.update(what, indices.len() as u64, indices.len() as u64);
    Ok(Logits { classes: set.classes().len(), values })
}

/// The logits and features of the images of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// The logits, as from [`predict()`].
    pub logits: Logits,
    /// N × `width` features: the input of the network's last layer.
    pub features: Vec<f32>,
    /// Features per image.
    pub width: usize,
}

/// Computes the logits as [`predict()`], and the features that the last layer receives.
///
/// ```
/// use cifar_model::predict_with_features;
/// # use cifar_data::Silent;
/// # use cifar_data::prepare::normalisation;
/// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
/// # use cifar_model::{Architecture, Model, ModelParams, ModelSpec};
/// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::of(Architecture::SimpleCnn);
/// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
/// # let model = Model::new(spec, 7)?;
///
/// let embeddings = predict_with_features(&model, &images, "images", &Silent)?;
/// assert_eq!(embeddings.features.len(), images.len() * embeddings.width);
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
///
/// # Errors
/// As [`predict()`].
pub fn predict_with_features(
    model: &Model,
    set: &Dataset,
    what: &'static str,
    monitor: &dyn Progress,
) -> Result<Embeddings> {
    check(model, set, set.len())?;
    let (classes, batch) = (set.classes().len(), images_per_pass(set.size()));
    let (mut values, mut features, mut width) = (Vec::with_capacity(set.len() * classes), Vec::new(), 0);
    for start in (0..set.len()).step_by(batch) {
        monitor.check()?;
        monitor.update(what, start as u64, set.len() as u64);
        let (of_batch, logits) = model.features(&evaluation_batch(set, start, batch).pixels)?;
        width = of_batch.dims()[1];
        features.reserve_exact(if start == 0 { set.len() * width } else { 0 });
        features.extend_from_slice(of_batch.values()?);
        values.extend(logits.flatten_all()?.to_vec1::<f32>()?);
    }
    monitor.update(what, set.len() as u64, set.len() as u64);
    Ok(Embeddings { logits: Logits { classes, values }, features, width })
}

/// Returns the class probabilities of one image, height × width × RGB. They sum to 1.
///
/// ```
/// use cifar_model::classify;
/// # use cifar_data::prepare::normalisation;
/// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
/// # use cifar_model::{Architecture, Model, ModelParams, ModelSpec};
/// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::of(Architecture::SimpleCnn);
/// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
/// # let model = Model::new(spec, 7)?;
///
/// let probabilities = classify(&model, images.image(0))?;
/// assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
///
/// # Errors
/// If the image does not have the size that the model expects.
pub fn classify(model: &Model, pixels: &[u8]) -> Result<Vec<f32>> {
    check_memory(model, 1)?;
    let values = model.forward(pixels, &Mode::Evaluate)?.flatten_all()?.to_vec1::<f32>()?;
    Logits { classes: model.spec().classes.len(), values }.probabilities()
}

/// Returns the mean cross-entropy (in nats, without label smoothing) and the accuracy (0 to 1) of
/// logits; `None` for an empty set.
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

/// Checks that the model fits the images of a set, and that there is enough memory for `images` of
/// them.
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

/// Returns the index of the largest value; of the first, if several are equal.
fn argmax(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

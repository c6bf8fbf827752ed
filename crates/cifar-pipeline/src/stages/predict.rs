//! `predict`: classifies image files, any number of them.

mod explain;
mod table;

use std::fmt;
use std::path::PathBuf;

use cifar_data::image_file::{Found, FoundFile};
use cifar_data::names::shown;
use cifar_data::{DataError, ImageSize, Progress};
use cifar_eval::metrics::{entropy, margin};
use cifar_eval::predictions::predicted_class;
use cifar_model::{FeatureMap, Model, ModelError, Precision, Views, predict_pixels};
use serde::Serialize;

use self::explain::Pictures;
use self::table::Table;
use super::image_batches::{ImageBatch, for_each_batch};
use super::precision::note_precision;
use crate::links::refuse_links_to;
use crate::{Project, Reporter, Result, ensure};

/// The task that progress is reported for.
const WHAT: &str = "classifying";

/// The prediction for one image file.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The file.
    pub file: PathBuf,
    /// The size of the upright image in the file.
    pub original: ImageSize,
    /// The size to which it was resized, which the model expects.
    pub size: ImageSize,
    /// The probability of each class of the model. They sum to 1.
    pub probabilities: Vec<f32>,
}

impl Prediction {
    /// Returns all classes with their probabilities, the most probable first; of equal ones the first.
    pub fn ranked(&self) -> Vec<(usize, f32)> {
        let mut ranked: Vec<(usize, f32)> = self.probabilities.iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }

    /// Returns the highest probability minus the second highest, 0 to 1.
    pub fn margin(&self) -> f64 {
        margin(&self.probabilities, predicted_class(&self.probabilities))
    }

    /// Returns the entropy of the probabilities, 0 to ln(classes) nats.
    pub fn entropy(&self) -> f64 {
        entropy(&self.probabilities)
    }
}

/// Classifies image files and calls `each` with the prediction of every file, or with the reason why
/// it cannot be read, in the order of `files`.
///
/// Images are upright (EXIF) and resized to the size that the model expects. Files are decoded on
/// all threads while the network computes. Memory does not grow with the number of files.
///
/// ```
/// use cifar_data::Silent;
/// use cifar_data::image_file::find;
/// use cifar_model::Views;
/// use cifar_pipeline::stages::predict::predict_files;
/// # use cifar_data::{prepare, sources::synthetic};
/// # use cifar_model::{Model, ModelParams, ModelSpec};
/// # let params = synthetic::SyntheticParams { count: 30, ..Default::default() };
/// # let images = synthetic::generate(&params)?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let (params, normalisation) = (ModelParams::default(), prepare::normalisation(&images));
/// # let model = Model::new(ModelSpec { params, classes, size, normalisation }, 7)?;
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
///
/// // Instead of a new model: `Model::load("models/final/model.safetensors".as_ref())?`
/// std::fs::write(folder.join("broken.png"), b"no image")?;
/// let files = find(&[folder.to_path_buf()]).files.into_iter().map(|file| file.path);
/// let mut unreadable = Vec::new();
/// predict_files(&model, files, Views::None, &Silent, |found| {
///     match found {
///         Ok(prediction) => println!("{}: class {}", prediction.file.display(), prediction.ranked()[0].0),
///         Err(problem) => unreadable.push(problem),
///     }
///     Ok(())
/// })?;
/// assert_eq!(unreadable.len(), 1);
/// # Ok::<(), cifar_pipeline::Error>(())
/// ```
///
/// # Errors
/// Those of `each`, if there is not enough memory for a batch, and if the user asks to stop. An
/// unreadable file is no error.
pub fn predict_files(
    model: &Model,
    files: impl ExactSizeIterator<Item = PathBuf>,
    views: Views,
    progress: &dyn Progress,
    mut each: impl FnMut(Result<Prediction, DataError>) -> Result<()>,
) -> Result<()> {
    predict_batches(model, files, views, false, progress, |found| each(found.map(|(prediction, _)| prediction)))
}

/// What an explanation needs besides the prediction.
struct Evidence {
    /// The image as the network sees it.
    pixels: Vec<u8>,
    /// The class-activation map of the predicted class, and its height and width.
    map: Vec<f32>,
    size: [usize; 2],
}

/// As [`predict_files`]. With `explain`, every prediction has its evidence, if the network has
/// class-activation maps.
fn predict_batches(
    model: &Model,
    files: impl ExactSizeIterator<Item = PathBuf>,
    views: Views,
    explain: bool,
    progress: &dyn Progress,
    mut each: impl FnMut(Result<(Prediction, Option<Evidence>), DataError>) -> Result<()>,
) -> Result<()> {
    let (size, classes) = (model.spec().size, model.spec().classes.len());
    let compute = |pixels: &[u8]| {
        let maps = if explain { model.class_activations(pixels)? } else { None };
        Ok((predict_pixels(model, pixels, views)?.probabilities()?, maps))
    };
    let of_batch = |batch: ImageBatch, computed: Option<(Vec<f32>, _)>| {
        let (probabilities, maps): (_, Option<FeatureMap>) = computed.unwrap_or_default();
        let mut index = 0;
        for (file, found) in batch.files {
            let original = match found {
                Ok(original) => original,
                Err(problem) => {
                    each(Err(problem))?;
                    continue;
                }
            };
            let probabilities = probabilities[index * classes..(index + 1) * classes].to_vec();
            let values = maps.as_ref().map(FeatureMap::values).transpose().map_err(ModelError::from)?;
            let evidence = maps.as_ref().zip(values).map(|(maps, values)| {
                let [height, width] = [maps.dims()[1], maps.dims()[2]];
                let values = &values[index * height * width * classes..][..height * width * classes];
                let map = values.iter().skip(predicted_class(&probabilities)).step_by(classes).copied().collect();
                let pixels = batch.pixels[index * size.bytes()..(index + 1) * size.bytes()].to_vec();
                Evidence { pixels, map, size: [height, width] }
            });
            index += 1;
            each(Ok((Prediction { file, original, size, probabilities }, evidence)))?;
        }
        Ok(())
    };
    for_each_batch(files, model.resize(), WHAT, compute, of_batch, progress)
}

/// Options of [`run`].
#[derive(Debug, Clone, Default)]
pub struct PredictOptions {
    /// The model file; that of the project if none.
    pub model: Option<PathBuf>,
    /// The augmented copies over which predictions are averaged.
    pub views: Views,
    /// The precision of the network's products.
    pub precision: Precision,
    /// The number of classes per image in the table, at least 1.
    pub top: usize,
    /// The file for the table, if wanted.
    pub csv: Option<PathBuf>,
    /// The folder for pictures of class-activation maps, if wanted.
    pub explain: Option<PathBuf>,
}

/// What `predict` did.
#[derive(Debug, Default, Serialize)]
pub struct Predicted {
    /// Number of classified images.
    pub images: usize,
    /// Number of files and folders that could not be read.
    pub unreadable: usize,
    /// Number of hidden and system files that were skipped.
    pub skipped: usize,
    /// Number of images that did not have the size that the model expects.
    pub resized: usize,
    /// The table, if one was written.
    pub csv: Option<PathBuf>,
    /// The folder of pictures, if some were drawn.
    pub explain: Option<PathBuf>,
}

impl Predicted {
    /// Returns an error if a file could not be read.
    ///
    /// # Errors
    /// The number of such files.
    pub fn result(&self) -> Result<()> {
        let (unreadable, all) = (self.unreadable, self.images + self.unreadable);
        ensure!(unreadable == 0, "{unreadable} of {all} images could not be read");
        Ok(())
    }
}

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} images", self.images)?;
        for path in [&self.csv, &self.explain].into_iter().flatten() {
            write!(f, "\nresults: {}", path.display())?;
        }
        Ok(())
    }
}

/// Loads the model of `file`, or that of the project.
pub(super) fn load(project: &Project, file: Option<&PathBuf>, reporter: &dyn Reporter) -> Result<Model> {
    let model = Model::load(&file.cloned().unwrap_or_else(|| project.layout.model_file()))?;
    if model.origin.as_ref().is_some_and(|origin| origin.source.is_synthetic()) {
        reporter.warn("this model was trained on the SYNTHETIC set: it knows drawn figures, not photographs");
    }
    Ok(model)
}

/// Receives the classes of the model, and the prediction of a file or why it cannot be read.
pub type Each<'a> = dyn FnMut(&[String], Result<&Prediction, &DataError>) + 'a;

/// Classifies the files of `found`, and writes the table and the pictures that `options` ask for.
/// Calls `each` for every file, in order.
///
/// # Errors
/// If the model is missing or damaged or cannot be explained, a result cannot be written, or the
/// user asks to stop. An unreadable file is no error; [`Predicted::result`] returns one.
pub fn run(
    project: &Project,
    options: &PredictOptions,
    found: Found,
    reporter: &dyn Reporter,
    each: &mut Each,
) -> Result<Predicted> {
    for path in [&options.csv, &options.explain].into_iter().flatten() {
        refuse_links_to(&project.layout, path)?;
    }
    let mut model = load(project, options.model.as_ref(), reporter)?;
    model.set_precision(options.precision);
    note_precision(options.precision, reporter)?;
    let Found { files, problems, skipped } = found;
    let mut done =
        Predicted { skipped, csv: options.csv.clone(), explain: options.explain.clone(), ..Predicted::default() };
    let mut table = options.csv.as_deref().map(|path| Table::create(path, &model, options.top)).transpose()?;
    let mut pictures = options.explain.as_deref().map(|folder| Pictures::new(folder, &model)).transpose()?;
    let classes = &model.spec().classes;
    for problem in &problems {
        done.unreadable += 1;
        each(classes, Err(problem));
    }
    let (paths, relative): (Vec<PathBuf>, Vec<PathBuf>) =
        files.into_iter().map(|FoundFile { path, relative }| (path, relative)).unzip();
    let mut relative = relative.into_iter();
    let (mut first, explain) = (None, pictures.is_some());
    predict_batches(&model, paths.into_iter(), options.views, explain, reporter, |found| {
        let relative = relative.next().unwrap_or_default();
        match found {
            Err(problem) => {
                done.unreadable += 1;
                each(classes, Err(&problem));
            }
            Ok((prediction, evidence)) => {
                done.images += 1;
                if prediction.original != model.spec().size {
                    done.resized += 1;
                    first.get_or_insert((shown(&prediction.file), prediction.original));
                }
                each(classes, Ok(&prediction));
                if let Some(table) = &mut table {
                    table.add(&prediction)?;
                }
                if let (Some(pictures), Some(evidence)) = (&mut pictures, evidence) {
                    pictures.add(&prediction, &relative, evidence)?;
                }
            }
        }
        Ok(())
    })?;
    if let Some(pictures) = pictures {
        pictures.finish()?;
    }
    if let Some(table) = table {
        table.finish()?;
    }
    if let Some((file, original)) = first {
        let size = model.spec().size;
        reporter.note(&match (done.resized, done.images) {
            (1, _) => format!("{file}: resized from {original} to {size}"),
            (resized, images) => {
                format!("{resized} of {images} images: resized to {size}; the first, {file}, from {original}")
            }
        });
    }
    if skipped > 0 {
        let files = if skipped == 1 { "file" } else { "files" };
        reporter.note(&format!("{skipped} hidden or system {files} skipped"));
    }
    Ok(done)
}

#[cfg(test)]
mod tests;

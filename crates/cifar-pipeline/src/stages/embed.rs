//! `embed`: writes the features that the last layer of the network receives, of image files or of a
//! split.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::image_file::Found;
use cifar_data::output::write_file;
use cifar_data::prepare::{PreparedReport, TestSet, TrainingData};
use cifar_data::spreadsheet::csv;
use cifar_data::{DataError, Dataset, Progress, memory};
use cifar_eval::predictions::predicted_class;
use cifar_model::{Embeddings, FeatureMap, Model, ModelError, predict_with_features};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde_json::json;

use super::image_batches::{ImageBatch, for_each_batch};
use super::predict::load;
use crate::links::refuse_links_to;
use crate::{Project, Reporter, Result, ensure};

/// The task that progress is reported for.
const WHAT: &str = "embedding";
/// The only key of the metadata.
const METADATA_KEY: &str = "cifar_embeddings";
/// Version of the files' layout.
const SCHEMA: u32 = 1;
/// Most bytes of a safetensors header that readers accept.
const LONGEST_HEADER: usize = 100_000_000;

/// The features of image files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileEmbeddings {
    /// The files that could be read, in order.
    pub files: Vec<PathBuf>,
    /// The class that the model predicts for each file: an index into its classes.
    pub predicted: Vec<usize>,
    /// Files × `width` features: the input of the network's last layer.
    pub features: Vec<f32>,
    /// Features per image; 0 if no file could be read.
    pub width: usize,
}

/// Computes the features of image files, which are decoded as
/// [`predict_files`](super::predict::predict_files) decodes them. Calls `unreadable` for every file
/// that cannot be read.
///
/// ```
/// use cifar_data::Silent;
/// use cifar_pipeline::stages::embed::embed_files;
/// # use cifar_data::{prepare, sources::synthetic};
/// # use cifar_model::{Model, ModelParams, ModelSpec};
/// # let params = synthetic::SyntheticParams { count: 30, ..Default::default() };
/// # let images = synthetic::generate(&params)?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let (params, normalisation) = (ModelParams::default(), prepare::normalisation(&images));
/// # let model = Model::new(ModelSpec { params, classes, size, normalisation }, 7)?;
///
/// let files = vec!["no/such/file.png".into()];
/// let mut problems = Vec::new();
/// let embedded = embed_files(&model, files.into_iter(), &Silent, |problem| problems.push(problem))?;
/// assert_eq!(embedded.features.len(), embedded.files.len() * embedded.width);
/// assert_eq!(problems.len(), 1);
/// # Ok::<(), cifar_pipeline::Error>(())
/// ```
///
/// # Errors
/// If there is not enough memory for the features, or the user asks to stop. An unreadable file is
/// no error.
pub fn embed_files(
    model: &Model,
    files: impl ExactSizeIterator<Item = PathBuf>,
    progress: &dyn Progress,
    mut unreadable: impl FnMut(DataError),
) -> Result<FileEmbeddings> {
    let (spec, count) = (model.spec(), files.len());
    let mut found = FileEmbeddings::default();
    let compute = |pixels: &[u8]| {
        let (features, logits) = model.features(pixels)?;
        let logits = logits.flatten_all().and_then(|logits| logits.to_vec1::<f32>());
        Ok((features, logits.map_err(ModelError::from)?))
    };
    let of_batch = |batch: ImageBatch, computed: Option<(FeatureMap, Vec<f32>)>| {
        for (path, image) in batch.files {
            match image {
                Ok(_) => found.files.push(path),
                Err(problem) => unreadable(problem),
            }
        }
        if let Some((features, logits)) = computed {
            if found.width == 0 {
                found.width = features.dims()[1];
                check_memory(count, found.width)?;
                found.features.reserve_exact(count * found.width);
            }
            found.features.extend_from_slice(features.values().map_err(cifar_model::ModelError::from)?);
            found.predicted.extend(logits.chunks_exact(spec.classes.len()).map(predicted_class));
        }
        Ok(())
    };
    for_each_batch(files, model.resize(), WHAT, compute, of_batch, progress)?;
    Ok(found)
}

/// Checks that the features of all images fit into memory: the values, their bytes and the file.
fn check_memory(images: usize, width: usize) -> Result<()> {
    let needed = (images as u64).saturating_mul(width as u64).saturating_mul(3 * 4);
    Ok(memory::check(&format!("embedding {images} images"), needed, "embed fewer images at a time")?)
}

/// The images of a project that can be embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitName {
    /// Training images.
    Train,
    /// Validation images.
    Val,
    /// Test images.
    Test,
    /// The shared test images: those of v1, v2 and v3.
    Pool,
}

impl SplitName {
    /// Returns the name as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
            Self::Pool => "pool",
        }
    }
}

/// The images to embed.
#[derive(Debug)]
pub enum Images {
    /// A split of the project.
    Split(SplitName),
    /// Image files.
    Files(Found),
}

/// Options of [`run`].
#[derive(Debug, Clone, Default)]
pub struct EmbedOptions {
    /// The model file; that of the project if none.
    pub model: Option<PathBuf>,
    /// The files to write, without their extensions.
    pub out: Option<PathBuf>,
}

/// What `embed` wrote.
#[derive(Debug, Serialize)]
pub struct Embedded {
    /// Number of images.
    pub images: usize,
    /// Number of features per image.
    pub width: usize,
    /// Number of files and folders that could not be read.
    pub unreadable: usize,
    /// The features.
    pub features: PathBuf,
    /// The table of the images, in the order of the features.
    pub table: PathBuf,
}

impl Embedded {
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

impl fmt::Display for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { images, width, features, table, .. } = self;
        write!(f, "{images} images, {width} features each\nresults: {}, {}", features.display(), table.display())
    }
}

/// Writes the features of `images` as safetensors (`features`, N × width; `ids` of a split), and a
/// table of the images as CSV.
///
/// # Errors
/// If the model, or the images of a split, are missing, damaged or stale, or a file cannot be
/// written. An unreadable image file is no error; [`Embedded::result`] returns one.
pub fn run(
    project: &Project,
    options: &EmbedOptions,
    images: Images,
    reporter: &dyn Reporter,
    unreadable: &mut dyn FnMut(&DataError),
) -> Result<Embedded> {
    let name = if let Images::Split(split) = &images { split.name() } else { "images" };
    let out = options.out.clone().unwrap_or_else(|| project.layout.embeddings().join(name));
    let [features, table] = ["safetensors", "csv"].map(|extension| with_extension(&out, extension));
    for path in [&features, &table] {
        refuse_links_to(&project.layout, path)?;
    }
    let model = load(project, options.model.as_ref(), reporter)?;
    let mut counted = 0;
    let files = match images {
        Images::Split(split) => of_split(project, options, &model, split, reporter)?,
        Images::Files(found) => {
            let mut count = |problem: &DataError| {
                counted += 1;
                unreadable(problem);
            };
            found.problems.iter().for_each(&mut count);
            of_files(&model, found, reporter, &mut count)?
        }
    };
    write_file(&features, &files.features)?;
    write_file(&table, &files.table)?;
    Ok(Embedded { images: files.images, width: files.width, unreadable: counted, features, table })
}

/// The content of both files.
struct Files {
    images: usize,
    width: usize,
    features: Vec<u8>,
    table: Vec<u8>,
}

/// Appends an extension. A point in the name is part of it.
fn with_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{extension}"));
    path.with_file_name(name)
}

fn of_split(
    project: &Project,
    options: &EmbedOptions,
    model: &Model,
    split: SplitName,
    reporter: &dyn Reporter,
) -> Result<Files> {
    let (layout, params) = (&project.layout, project.params()?);
    let prepared = layout.prepared();
    let report = PreparedReport::read(&prepared)?;
    report.check(&prepared, params.dataset_version, &params.split)?;
    // Another model may be of other images, as long as they have these classes and this size.
    if options.model.is_none() {
        model.expect_trained_on(&report, &layout.model_file())?;
    }
    let of_set = |set: &Dataset| embed_set(model, set, split.name(), reporter);
    match split {
        SplitName::Train => of_set(&TrainingData::open(&prepared)?.train),
        SplitName::Val => of_set(&TrainingData::open(&prepared)?.val),
        SplitName::Test => of_set(TestSet::open(&layout.prepared_test(), report.test_fingerprint())?.dataset()),
        SplitName::Pool => of_set(TestSet::open(&layout.pool(), &report.pool_fingerprint)?.dataset()),
    }
}

fn embed_set(model: &Model, set: &Dataset, name: &str, progress: &dyn Progress) -> Result<Files> {
    let Embeddings { logits, features, width } = predict_with_features(model, set, WHAT, progress)?;
    check_memory(set.len(), width)?;
    let (classes, source) = (set.classes(), &set.header().source.description);
    let row = |(index, sample): (usize, &cifar_data::Sample)| {
        let [label, predicted] = [usize::from(sample.label), predicted_class(logits.row(index))];
        let (id, file) = (sample.id.to_string(), sample.file.clone());
        [id, file, classes[label].clone(), classes[predicted].clone(), source.clone()]
    };
    let columns = ["id", "file", "label", "predicted", "source"];
    let table = csv(&columns, set.samples().iter().enumerate().map(row));
    let ids: Vec<i64> = set.samples().iter().map(|sample| i64::from(sample.id.0)).collect();
    let about = json!({"schema": SCHEMA, "model": model.seal(), "images": name, "source": source});
    let features = encode(&features, [set.len(), width], Some(&ids), about.to_string())?;
    Ok(Files { images: set.len(), width, features, table })
}

fn of_files(
    model: &Model,
    found: Found,
    progress: &dyn Progress,
    unreadable: &mut dyn FnMut(&DataError),
) -> Result<Files> {
    let paths: Vec<PathBuf> = found.files.into_iter().map(|file| file.path).collect();
    let embedded = embed_files(model, paths.into_iter(), progress, |problem| unreadable(&problem))?;
    let FileEmbeddings { files, predicted, features, width } = embedded;
    ensure!(!files.is_empty(), "no image could be read, so there are no features");
    let classes = &model.spec().classes;
    let trained_on = model.origin.as_ref().map_or("", |origin| &origin.source.description);
    let row = |(file, predicted): (&PathBuf, &usize)| {
        let label = class_of(file, classes).unwrap_or_default();
        [file.to_string_lossy().into_owned(), label.into(), classes[*predicted].clone(), trained_on.into()]
    };
    let table = csv(&["file", "label", "predicted", "trained_on"], files.iter().zip(&predicted).map(row));
    let names: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
    let about = json!({"schema": SCHEMA, "model": model.seal(), "files": names}).to_string();
    let (images, most) = (files.len(), LONGEST_HEADER / 1_000_000);
    ensure!(
        about.len() < LONGEST_HEADER,
        "the names of {images} files are longer than {most} MB; embed fewer at a time"
    );
    Ok(Files { images, width, features: encode(&features, [images, width], None, about)?, table })
}

/// Returns the class that a file's folder has as its name.
fn class_of<'a>(file: &Path, classes: &'a [String]) -> Option<&'a str> {
    let folder = file.parent()?.file_name()?.to_str()?;
    classes.iter().find(|class| *class == folder).map(String::as_str)
}

/// Returns a safetensors file.
fn encode(features: &[f32], dims: [usize; 2], ids: Option<&[i64]>, about: String) -> Result<Vec<u8>> {
    let values: Vec<u8> = features.iter().flat_map(|value| value.to_le_bytes()).collect();
    let numbers: Option<Vec<u8>> = ids.map(|ids| ids.iter().flat_map(|id| id.to_le_bytes()).collect());
    let wrong = |e: safetensors::SafeTensorError| crate::Error::failed(format!("features cannot be encoded: {e}"));
    let mut tensors = vec![("features", TensorView::new(Dtype::F32, dims.to_vec(), &values).map_err(wrong)?)];
    if let Some(numbers) = &numbers {
        tensors.push(("ids", TensorView::new(Dtype::I64, vec![dims[0]], numbers).map_err(wrong)?));
    }
    // One key only: the header is a hash map, whose order would change the bytes from run to run.
    let metadata = HashMap::from([(METADATA_KEY.to_string(), about)]);
    safetensors::serialize(tensors, Some(metadata)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_file_may_be_its_class() {
        let classes = ["cat", "dog"].map(String::from);
        let class = |file: &str| class_of(Path::new(file), &classes);
        assert_eq!(
            [class("x/dog/1.png"), class("cat/1.png"), class("x/1.png"), class("cat")],
            [Some("dog"), Some("cat"), None, None]
        );
    }

    #[test]
    fn extensions_are_appended() {
        assert_eq!(with_extension(Path::new("a/v1.2"), "csv"), Path::new("a/v1.2.csv"));
    }
}

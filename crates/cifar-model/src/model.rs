//! A network with everything needed to use it, and the file format.
//!
//! The file is safetensors: every tensor under its name, and one metadata key, `cifar_model`. Its
//! value is JSON with the schema version, the [`ModelSpec`], the [`ModelOrigin`] and a hash of the
//! whole file ([`cifar_data::seal`]). Equal models give identical bytes. The schema version is 3.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use cifar_data::output::write_file;
use cifar_data::prepare::{Normalisation, PreparedReport};
use cifar_data::seal::{self, PLACEHOLDER};
use cifar_data::splits::Split;
use cifar_data::{DataError, Dataset, Fit, ImageSize, Resize, Source, Stage};
use cifar_kernels::PixelView;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::memory::check_memory;
use crate::networks::{Extent, LayerSummary, ModelParams, Network, build};
use crate::parameters::Parameters;
use crate::{FeatureMap, Mode, ModelError, Result, images_to_feature_map, views_to_feature_map};

const SCHEMA: u32 = 3;
const METADATA_KEY: &str = "cifar_model";

/// The architecture of a network, and the classes and images that it expects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The architecture and its parameters.
    pub params: ModelParams,
    /// Class names; logit k is that of class k.
    pub classes: Vec<String>,
    /// Size of the images.
    pub size: ImageSize,
    /// The normalisation of pixels.
    pub normalisation: Normalisation,
}

/// The origin of a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOrigin {
    /// The source of the data.
    pub source: Source,
    /// The chosen partitions, such as `v1+v2`.
    pub dataset_version: String,
    /// Hash of the training images and their labels.
    pub training_fingerprint: String,
    /// Hash of the validation images and their labels, which may have selected the epoch.
    pub validation_fingerprint: String,
    /// The run's seed.
    pub seed: u64,
    /// The epoch whose weights these are, counted from 1.
    pub epoch: usize,
    /// The numeric target: the ISA and target on which bits are reproducible. If a run was resumed
    /// on another one, all are listed, joined by ` and `.
    pub arithmetic: String,
    /// The hash of the model file that the run started from ([`Model::seal`]); none if it started
    /// from random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// The parameters that were set for this run alone, by key such as `train.epochs`. Usually none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    schema: u32,
    spec: ModelSpec,
    origin: Option<ModelOrigin>,
    seal: String,
}

/// A network with its tensors and description.
///
/// ```
/// use cifar_model::Model;
/// # use cifar_data::prepare::normalisation;
/// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
/// # use cifar_model::{Architecture, ModelParams, ModelSpec};
/// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::of(Architecture::SimpleCnn);
/// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
/// # let folder = tempfile::tempdir().map_err(candle_core::Error::wrap)?;
/// # let path = folder.path().join("model.safetensors");
///
/// let model = Model::new(spec, 7)?;
/// model.prepare(&images)?;
/// model.save(&path)?;
/// let loaded = Model::load(&path)?;
/// assert_eq!(loaded.spec(), model.spec());
/// assert_eq!(loaded.parameters().count(), model.parameters().count());
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
pub struct Model {
    spec: ModelSpec,
    parameters: Parameters,
    network: Box<dyn Network>,
    /// The origin; `None` before training.
    pub origin: Option<ModelOrigin>,
    seal: Option<String>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("spec", &self.spec).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Model {
    /// Builds a network with initial values drawn from `seed`.
    ///
    /// This does not check whether there is enough memory; [`ModelSpec::plan`] estimates what is
    /// needed.
    ///
    /// # Errors
    /// If the images are too small or too large for the architecture, or there are fewer than two
    /// classes or too many.
    pub fn new(spec: ModelSpec, seed: u64) -> Result<Self> {
        spec.plan()?;
        let mut parameters = Parameters::new(seed);
        let network = build(&spec.params, spec.classes.len(), spec.size, &mut parameters)?;
        Ok(Self { spec, parameters, network, origin: None, seal: None })
    }

    /// Returns the description of the network and its input.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Returns how images of another size are fitted to the model's size: as its training images
    /// were. Images without a rule are stretched.
    pub fn fit(&self) -> Fit {
        self.origin.as_ref().and_then(|origin| origin.source.fit).unwrap_or(Fit::Stretch)
    }

    /// Returns the size of the model's images, and how other images are fitted to it.
    pub fn resize(&self) -> Resize {
        Resize { size: self.spec.size, fit: self.fit() }
    }

    /// Returns the hash of the file from which the model was loaded ([`cifar_data::seal`]), or an
    /// empty string.
    pub fn seal(&self) -> &str {
        self.seal.as_deref().unwrap_or_default()
    }

    /// Returns the tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns a description of the layers.
    pub fn summary(&self) -> Vec<LayerSummary> {
        self.network.summary()
    }

    /// Returns the sizes of the activations.
    pub(crate) fn extent(&self) -> Extent {
        self.network.extent()
    }

    /// Sets tensors that the architecture computes from the training images before the first step,
    /// such as whitening filters. Without this call they keep values drawn from the seed.
    ///
    /// # Errors
    /// If there are no images, or they do not have the size that the model expects.
    pub fn prepare(&self, train: &Dataset) -> Result<()> {
        if train.is_empty() || train.size() != self.spec.size {
            return Err(ModelError::Unsuitable(format!(
                "the network expects images of {} pixels, found {} images of {}",
                self.spec.size,
                train.len(),
                train.size()
            )));
        }
        self.network.prepare(train, &self.spec.normalisation)
    }

    /// Returns logits `[N, classes]` of N × height × width × RGB bytes.
    ///
    /// # Errors
    /// As [`images_to_feature_map`].
    pub fn forward(&self, pixels: &[u8], mode: &Mode) -> Result<Tensor> {
        let images = images_to_feature_map(pixels, self.spec.size, &self.spec.normalisation)?;
        self.network.forward(images, mode)
    }

    /// Returns logits `[N, classes]` of N images of height × width × RGB bytes in evaluation mode.
    /// Each image is shifted and mirrored by its view.
    ///
    /// # Errors
    /// As [`views_to_feature_map`].
    pub fn forward_views(&self, images: &[&[u8]], views: &[PixelView]) -> Result<Tensor> {
        let images = views_to_feature_map(images, views, self.spec.size, &self.spec.normalisation)?;
        self.network.forward(images, &Mode::Evaluate)
    }

    /// Returns features `[N, F]`, the input of the last layer, and logits `[N, classes]` of N ×
    /// height × width × RGB bytes in evaluation mode.
    ///
    /// # Errors
    /// As [`images_to_feature_map`].
    pub fn features(&self, pixels: &[u8]) -> Result<(FeatureMap, Tensor)> {
        let images = images_to_feature_map(pixels, self.spec.size, &self.spec.normalisation)?;
        let features = self.network.features(images, &Mode::Evaluate)?;
        let logits = self.network.classify(&features, &Mode::Evaluate)?;
        Ok((features, logits))
    }

    /// Returns class-activation maps `[N, h, w, classes]` of N × height × width × RGB bytes: what each
    /// place of the last feature maps adds to the logit of each class (Zhou et al. 2016, arXiv
    /// 1512.04150). `None` if the network has more than one layer after its last feature maps.
    ///
    /// The sum of a class's map, plus the bias of the last layer if it has one, is the logit of the
    /// class. After max pooling, each feature counts at the place of its maximum.
    ///
    /// ```
    /// use cifar_model::Model;
    /// # use cifar_data::prepare::normalisation;
    /// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
    /// # use cifar_model::{Architecture, ModelParams, ModelSpec};
    /// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
    /// # let (classes, size) = (images.classes().to_vec(), images.size());
    /// # let params = ModelParams { widths: vec![4; 3], ..ModelParams::of(Architecture::Airbench94) };
    /// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
    ///
    /// let model = Model::new(spec, 7)?; // airbench94
    /// let maps = model.class_activations(images.image(0))?.expect("a linear layer after the pooling");
    /// assert_eq!(maps.dims(), [1, 3, 3, 10]);
    /// # Ok::<(), cifar_model::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`images_to_feature_map`].
    pub fn class_activations(&self, pixels: &[u8]) -> Result<Option<FeatureMap>> {
        let images = images_to_feature_map(pixels, self.spec.size, &self.spec.normalisation)?;
        self.network.class_activations(images)
    }

    /// Checks that the model was trained on this prepared set. Otherwise test images might be among
    /// those that the model was trained on. `path` is the model's file, for errors.
    ///
    /// # Errors
    /// [`DataError::Stale`] if the training or validation images, or their labels, differ from those
    /// of the model, or the model does not say what it was trained on.
    pub fn expect_trained_on(&self, data: &PreparedReport, path: &Path) -> Result<()> {
        let made_by = Stage::Train.alone();
        let stale = |problem: String| DataError::Stale { path: path.to_path_buf(), problem, made_by };
        let origin = self.origin.as_ref().ok_or_else(|| stale("does not say what it was trained on".into()))?;
        let splits = [(Split::Train, &origin.training_fingerprint), (Split::Val, &origin.validation_fingerprint)];
        match splits.iter().find(|(split, fingerprint)| data.fingerprint(*split) != **fingerprint) {
            Some((split, _)) => {
                let images = if *split == Split::Train { "training" } else { "validation" };
                let problem = format!("was trained on other {images} images or labels than those of the prepared set");
                Err(stale(problem).into())
            }
            None => Ok(()),
        }
    }

    /// Writes the model to a file, which is replaced atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (spec, origin) = (self.spec.clone(), self.origin.clone());
        let metadata = Metadata { schema: SCHEMA, spec, origin, seal: PLACEHOLDER.into() };
        let json = serde_json::to_string(&metadata).map_err(|e| ModelError::malformed(path, e.to_string()))?;
        let tensors = self.parameters.all().map(|(name, var)| {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok((name.to_string(), var.dims().to_vec(), bytes))
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map_err(|e| ModelError::malformed(path, e.to_string()))?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        // One key only: the header is a hash map, whose order would change the bytes from run to
        // run.
        let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
        let mut bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|e| ModelError::malformed(path, e.to_string()))?;
        seal::seal(&mut bytes).map_err(|e| ModelError::malformed(path, e.to_string()))?;
        Ok(write_file(path, &bytes)?)
    }

    /// Reads a model written by [`Model::save`].
    ///
    /// # Errors
    /// [`DataError::Missing`] if there is no such file. Otherwise if the file cannot be read, is
    /// damaged or has another schema, or there is not enough memory.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong = |problem: String| ModelError::malformed(path, problem);
        let unreadable = |e: std::io::Error| {
            let problem = format!("cannot read the model: {e}");
            if e.kind() != std::io::ErrorKind::NotFound {
                return wrong(problem);
            }
            DataError::Missing { path: path.to_path_buf(), problem, made_by: Stage::Train.alone() }.into()
        };
        // Memory for the file, its values, and a network of them.
        let needed = std::fs::metadata(path).map_err(unreadable)?.len().saturating_mul(4);
        check_memory(&format!("{}: reading this model", path.display()), needed, "use a smaller model")?;
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let not_ours = |e: safetensors::SafeTensorError| wrong(format!("is not a valid safetensors file ({e})"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(not_ours)?;
        let json =
            header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or_else(|| {
                wrong(format!("has no `{METADATA_KEY}` metadata, so it is not a model of this program"))
            })?;
        let schema = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v.get("schema")?.as_u64());
        if schema != Some(u64::from(SCHEMA)) {
            let found = schema.map_or("none".to_string(), |s| s.to_string());
            return Err(wrong(format!(
                "has schema {found}, this program reads schema {SCHEMA}; train the model again"
            )));
        }
        let seal = seal::check(&bytes).map_err(|e| wrong(e.to_string()))?;
        let Metadata { spec, origin, .. } = serde_json::from_str(json)
            .map_err(|e| wrong(format!("describes a network that this program does not support ({e})")))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(not_ours)?;
        // The description is compared with the stored tensors before anything is built from it.
        let plan = spec.plan().map_err(|e| wrong(e.to_string()))?;
        if tensors.len() != plan.tensors.len() {
            let (name, count) = (spec.params.architecture.name(), plan.tensors.len());
            return Err(wrong(format!("has {} tensors, expected {count} for {name}", tensors.len())));
        }
        for (name, dims) in &plan.tensors {
            let tensor = tensors.tensor(name).map_err(|_| wrong(format!("has no tensor `{name}`")))?;
            if tensor.shape() != dims || tensor.dtype() != Dtype::F32 {
                let (dtype, shape) = (tensor.dtype(), tensor.shape());
                return Err(wrong(format!("tensor `{name}` is {dtype:?} {shape:?}, expected F32 {dims:?}")));
            }
        }
        let mut model = Self::new(spec, 0)?;
        (model.origin, model.seal) = (origin, Some(seal));
        for (name, var) in model.parameters.all() {
            let tensor = tensors.tensor(name).map_err(|_| wrong(format!("has no tensor `{name}`")))?;
            let values: Vec<f32> =
                tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if values.iter().any(|v| !v.is_finite()) {
                return Err(wrong(format!("tensor `{name}` has values that are not finite")));
            }
            var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu)?)?;
        }
        Ok(model)
    }
}

impl candle_core::Module for Model {
    /// Returns logits of normalised images `[N, height, width, 3]` in evaluation mode.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.network.forward(FeatureMap::from_tensor(images)?, &Mode::Evaluate).map_err(candle_core::Error::wrap)
    }
}

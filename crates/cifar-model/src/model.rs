//! A network with everything needed to use it.

mod file;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use cifar_data::prepare::{Normalisation, PreparedReport};
use cifar_data::splits::Split;
use cifar_data::{DataError, Dataset, Fit, ImageSize, Resize, Source, Stage};
use cifar_kernels::{PixelView, on_pool};
use serde::{Deserialize, Serialize};

pub(crate) use self::file::{is_model, read};
use crate::networks::{Extent, LayerSummary, ModelParams, Network, build};
use crate::parameters::Parameters;
use crate::{FeatureMap, Mode, ModelError, Precision, Result, images_to_feature_map, views_to_feature_map};

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
    /// The finished runs that this run continued, the first one first. Usually none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continues: Vec<Continued>,
    /// The parameters that were set for this run alone, by key such as `train.epochs`. Usually none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// A finished run that a longer one continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continued {
    /// The hash of its model file ([`Model::seal`]).
    pub model: String,
    /// Its epochs.
    pub epochs: usize,
}

/// What is known of a network that another program trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The name of the layout.
    pub layout: &'static str,
    /// Whether its classes have names. Otherwise the model has names that no class can have.
    pub names_classes: bool,
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
    imported: Option<Imported>,
    precision: Precision,
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
        let precision = Precision::F32;
        Ok(Self { spec, parameters, network, origin: None, seal: None, imported: None, precision })
    }

    /// Builds a network with the values of a [`Parameters::snapshot`].
    ///
    /// # Errors
    /// As [`Model::new`], or if the snapshot is of another network.
    pub fn from_snapshot(spec: ModelSpec, values: &[Tensor]) -> Result<Self> {
        let model = Self::new(spec, 0)?;
        model.parameters.restore(values)?;
        Ok(model)
    }

    /// Returns the description of the network and its input.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Returns the precision of forward passes: [`Precision::F32`] or [`Precision::Bf16`].
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets the precision of forward passes, and of gradients from them. A new or loaded model has
    /// [`Precision::F32`]. [`Precision::Auto`] is resolved here.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision.resolved();
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
    /// empty string. The hash of an imported file also covers its normalisation and class names.
    pub fn seal(&self) -> &str {
        self.seal.as_deref().unwrap_or_default()
    }

    /// Returns what is known of the network if another program trained it.
    pub fn imported(&self) -> Option<&Imported> {
        self.imported.as_ref()
    }

    /// Returns whether the names of its classes are known. Only an imported file may not have them.
    pub fn names_classes(&self) -> bool {
        self.imported.is_none_or(|imported| imported.names_classes)
    }

    /// Builds a network that another program trained, whose file has the hash `seal`. Its tensors are
    /// not set yet.
    pub(crate) fn of_other_program(spec: ModelSpec, seal: String, imported: Imported) -> Result<Self> {
        Ok(Self { seal: Some(seal), imported: Some(imported), ..Self::new(spec, 0)? })
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
        on_pool(|| self.network.forward(self.images(pixels)?, mode))
    }

    /// Returns logits `[N, classes]` of N images of height × width × RGB bytes in evaluation mode.
    /// Each image is shifted and mirrored by its view.
    ///
    /// # Errors
    /// As [`views_to_feature_map`].
    pub fn forward_views(&self, images: &[&[u8]], views: &[PixelView]) -> Result<Tensor> {
        on_pool(|| {
            let images = views_to_feature_map(images, views, self.spec.size, &self.spec.normalisation)?;
            self.network.forward(images.with_precision(self.precision), &Mode::Evaluate)
        })
    }

    /// Returns features `[N, F]`, the input of the last layer, and logits `[N, classes]` of N ×
    /// height × width × RGB bytes in evaluation mode.
    ///
    /// # Errors
    /// As [`images_to_feature_map`].
    pub fn features(&self, pixels: &[u8]) -> Result<(FeatureMap, Tensor)> {
        on_pool(|| {
            let features = self.network.features(self.images(pixels)?, &Mode::Evaluate)?;
            let logits = self.network.classify(&features, &Mode::Evaluate)?;
            Ok((features, logits))
        })
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
        on_pool(|| self.network.class_activations(self.images(pixels)?))
    }

    /// Returns the normalised images with the precision of the model.
    fn images(&self, pixels: &[u8]) -> Result<FeatureMap> {
        let images = images_to_feature_map(pixels, self.spec.size, &self.spec.normalisation)?;
        Ok(images.with_precision(self.precision))
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
}

impl candle_core::Module for Model {
    /// Returns logits of normalised images `[N, height, width, 3]` in evaluation mode.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let images = FeatureMap::from_tensor(images)?.with_precision(self.precision);
        self.network.forward(images, &Mode::Evaluate).map_err(candle_core::Error::wrap)
    }
}

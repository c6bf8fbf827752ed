//! The architectures, by name, and their parameters.

mod airbench;
mod builder;
mod resnet18;
mod simple_cnn;

use candle_core::Tensor;
use cifar_data::prepare::Normalisation;
use cifar_data::{Dataset, ImageSize};
use serde::{Deserialize, Serialize};

use crate::parameters::Parameters;
use crate::{FeatureMap, Mode, ModelError, Result};

pub(crate) use airbench::NORM as AIRBENCH_NORM;
pub use airbench::{Airbench, AirbenchParams};
pub use resnet18::{ResNet18, ResNet18Params};
pub use simple_cnn::{SimpleCnn, SimpleCnnParams};

/// The name of the last layer, which computes the logits.
pub(crate) const HEAD: &str = "head";
/// Maximum channels of a layer.
const LARGEST_WIDTH: usize = 4096;

/// The available architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Three blocks of two 3×3 convolutions and a pooling, two dense layers.
    SimpleCnn,
    /// Whitening, three groups of two 3×3 convolutions, a head. Published for 94 % on lossless
    /// CIFAR-10 in eight epochs with Muon.
    Airbench94,
    /// As `Airbench94`, twice as wide and with residual groups of three. Published for 96 % on
    /// lossless CIFAR-10 in forty epochs.
    Airbench96,
    /// Four stages of two residual blocks, for small images.
    #[serde(rename = "resnet18")]
    ResNet18,
}

impl Architecture {
    /// Returns the name as parameters and model files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleCnn => "simple_cnn",
            Self::Airbench94 => "airbench94",
            Self::Airbench96 => "airbench96",
            Self::ResNet18 => "resnet18",
        }
    }

    /// Returns the name of the first layer ([`crate::parameters::layer_of`]).
    pub fn stem(self) -> &'static str {
        match self {
            Self::SimpleCnn => "block1.conv1",
            Self::Airbench94 | Self::Airbench96 => "whitening",
            Self::ResNet18 => "stem",
        }
    }
}

/// The parameters of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedModelParams")]
pub struct ModelParams {
    /// The architecture.
    pub architecture: Architecture,
    /// Channels of its groups, blocks or stages, each 1 to 4,096: four for `resnet18`, three for
    /// all others.
    pub widths: Vec<usize>,
    /// Fraction of the dense layer's values that training drops, 0 ≤ dropout < 1. Only `simple_cnn`
    /// uses it; 0 elsewhere.
    pub dropout: f32,
    /// Fraction of the values after each pooling that training drops, 0 ≤ `conv_dropout` < 1. Only
    /// `simple_cnn` uses it; 0 elsewhere.
    pub conv_dropout: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedModelParams {
    architecture: Architecture,
    widths: Vec<usize>,
    dropout: f32,
    conv_dropout: f32,
}

impl TryFrom<UncheckedModelParams> for ModelParams {
    type Error = ModelError;

    fn try_from(p: UncheckedModelParams) -> Result<Self> {
        let UncheckedModelParams { architecture, widths, dropout, conv_dropout } = p;
        let params = Self { architecture, widths, dropout, conv_dropout };
        params.check().map(|()| params)
    }
}

impl ModelParams {
    /// Returns the default parameters of an architecture.
    ///
    /// ```
    /// use cifar_model::{Architecture, ModelParams};
    ///
    /// assert_eq!(ModelParams::of(Architecture::ResNet18).widths, [64, 128, 256, 512]);
    /// ```
    pub fn of(architecture: Architecture) -> Self {
        let dropout = if architecture == Architecture::SimpleCnn { 0.3 } else { 0.0 };
        let widths = match architecture {
            Architecture::SimpleCnn => SimpleCnnParams::default().widths.to_vec(),
            Architecture::Airbench94 => AirbenchParams::AIRBENCH94.widths.to_vec(),
            Architecture::Airbench96 => AirbenchParams::AIRBENCH96.widths.to_vec(),
            Architecture::ResNet18 => ResNet18Params::default().widths.to_vec(),
        };
        Self { architecture, widths, dropout, conv_dropout: 0.0 }
    }

    /// Checks that all values are in their ranges.
    fn check(&self) -> Result<()> {
        match self.architecture {
            Architecture::ResNet18 => self.widths_of::<4>().map(|_| ())?,
            _ => self.widths_of::<3>().map(|_| ())?,
        }
        for (key, value) in [("dropout", self.dropout), ("conv_dropout", self.conv_dropout)] {
            let wrong = |allowed: String| ModelError::Parameter { key, value: value.to_string(), allowed };
            if !(0.0..1.0).contains(&value) {
                return Err(wrong("allowed is 0 up to, not including, 1".into()));
            }
            if self.architecture != Architecture::SimpleCnn && value != 0.0 {
                return Err(wrong(format!("{} has no dropout; set it to 0", self.architecture.name())));
            }
        }
        Ok(())
    }
}

impl ModelParams {
    /// Returns the widths, of which the architecture needs `N`.
    fn widths_of<const N: usize>(&self) -> Result<[usize; N]> {
        let widths: Option<[usize; N]> = self.widths.as_slice().try_into().ok();
        widths.filter(|widths| widths.iter().all(|width| (1..=LARGEST_WIDTH).contains(width))).ok_or_else(|| {
            ModelError::Parameter {
                key: "widths",
                value: format!("{:?}", self.widths),
                allowed: format!("{} needs {N} widths, each 1 to {LARGEST_WIDTH}", self.architecture.name()),
            }
        })
    }
}

impl Default for ModelParams {
    fn default() -> Self {
        Self::of(Architecture::SimpleCnn)
    }
}

/// A row of a network's summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerSummary {
    /// The layer's name.
    pub name: String,
    /// Shape of its output for one image.
    pub output: Vec<usize>,
    /// Number of trained values.
    pub parameters: usize,
    /// Floating-point operations of a forward pass for one image; a multiply-add counts as two.
    pub flops: u64,
}

/// The number of activation values of a network, per image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Total of the activations that training stores for the backward pass.
    pub kept: usize,
    /// Values of the largest activation.
    pub largest: usize,
    /// As `kept`, with channels rounded up to 32, as maps in bf16 have them.
    pub kept_padded: usize,
    /// As `largest`, with channels rounded up to 32.
    pub largest_padded: usize,
}

/// A network: computes features and logits from normalised images.
pub trait Network: Send + Sync {
    /// Sets tensors that are computed from the training images before the first step. Most networks
    /// have none.
    ///
    /// # Errors
    /// If candle refuses a shape.
    fn prepare(&self, _train: &Dataset, _normalisation: &Normalisation) -> Result<()> {
        Ok(())
    }

    /// Computes `[N, height, width, 3]` → `[N, features]`, the input of the last layer, in `f32`.
    ///
    /// # Errors
    /// If candle refuses a shape.
    fn features(&self, images: FeatureMap, mode: &Mode) -> Result<FeatureMap>;

    /// Computes `[N, features]` → logits `[N, classes]`.
    ///
    /// # Errors
    /// If candle refuses a shape.
    fn classify(&self, features: &FeatureMap, mode: &Mode) -> Result<Tensor>;

    /// Computes `[N, height, width, 3]` → logits `[N, classes]`.
    ///
    /// # Errors
    /// If candle refuses a shape.
    fn forward(&self, images: FeatureMap, mode: &Mode) -> Result<Tensor> {
        self.classify(&self.features(images, mode)?, mode)
    }

    /// Computes the class-activation maps of `[N, height, width, 3]` in evaluation mode, as
    /// [`Model::class_activations`](crate::Model::class_activations) says. `None` if the logits are
    /// no sum over places.
    ///
    /// # Errors
    /// If candle refuses a shape.
    fn class_activations(&self, _images: FeatureMap) -> Result<Option<FeatureMap>> {
        Ok(None)
    }

    /// Returns a description of the layers, from the input to the logits.
    fn summary(&self) -> Vec<LayerSummary>;

    /// Returns the sizes of the activations.
    fn extent(&self) -> Extent;
}

/// Builds a network and its parameters.
pub(crate) fn build(
    params: &ModelParams,
    classes: usize,
    size: ImageSize,
    parameters: &mut Parameters,
) -> Result<Box<dyn Network>> {
    params.check()?;
    Ok(match params.architecture {
        Architecture::SimpleCnn => {
            let (dropout, conv_dropout) = (params.dropout, params.conv_dropout);
            let widths = params.widths_of()?;
            let params = SimpleCnnParams { widths, dropout, conv_dropout, ..Default::default() };
            Box::new(SimpleCnn::new(&params, classes, size, parameters)?)
        }
        Architecture::Airbench94 => {
            let params = AirbenchParams { widths: params.widths_of()?, ..AirbenchParams::AIRBENCH94 };
            Box::new(Airbench::new(&params, classes, size, parameters)?)
        }
        Architecture::Airbench96 => {
            let params = AirbenchParams { widths: params.widths_of()?, ..AirbenchParams::AIRBENCH96 };
            Box::new(Airbench::new(&params, classes, size, parameters)?)
        }
        Architecture::ResNet18 => {
            let params = ResNet18Params { widths: params.widths_of()?, ..Default::default() };
            Box::new(ResNet18::new(&params, classes, size, parameters)?)
        }
    })
}

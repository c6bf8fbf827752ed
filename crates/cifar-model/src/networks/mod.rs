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

pub use airbench::{Airbench, AirbenchParams};
pub use resnet18::{ResNet18, ResNet18Params};
pub use simple_cnn::{SimpleCnn, SimpleCnnParams};

/// The networks that can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Three blocks of two 3×3 convolutions and a pooling, two dense layers.
    SimpleCnn,
    /// Whitening, three groups of two 3×3 convolutions, a head: 94 % in ten epochs.
    Airbench94,
    /// The same, twice as wide and with residual groups of three: 96 % in forty epochs.
    Airbench96,
    /// Four stages of two residual blocks, for small images.
    #[serde(rename = "resnet18")]
    ResNet18,
}

impl Architecture {
    /// Its name in params.yaml.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleCnn => "simple_cnn",
            Self::Airbench94 => "airbench94",
            Self::Airbench96 => "airbench96",
            Self::ResNet18 => "resnet18",
        }
    }
}

/// What describes a network. Part of params.yaml, block `model`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedModelParams")]
pub struct ModelParams {
    /// The network.
    pub architecture: Architecture,
    /// Share of the dense layer's values that training drops, 0 ≤ dropout < 1. Only `simple_cnn` drops; 0 elsewhere.
    pub dropout: f32,
    /// Share of the values behind each pooling that training drops, 0 ≤ `conv_dropout` < 1. Only `simple_cnn` drops; 0
    /// elsewhere.
    pub conv_dropout: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedModelParams {
    architecture: Architecture,
    dropout: f32,
    conv_dropout: f32,
}

impl TryFrom<UncheckedModelParams> for ModelParams {
    type Error = ModelError;

    fn try_from(p: UncheckedModelParams) -> Result<Self> {
        let params = Self { architecture: p.architecture, dropout: p.dropout, conv_dropout: p.conv_dropout };
        params.check().map(|()| params)
    }
}

impl ModelParams {
    /// The usual values for a network.
    pub fn of(architecture: Architecture) -> Self {
        let dropout = if architecture == Architecture::SimpleCnn { 0.3 } else { 0.0 };
        Self { architecture, dropout, conv_dropout: 0.0 }
    }

    /// Refuses values outside of their range.
    fn check(&self) -> Result<()> {
        for (key, value) in [("dropout", self.dropout), ("conv_dropout", self.conv_dropout)] {
            let wrong = |allowed: String| ModelError::Parameter { key, value: value.to_string(), allowed };
            if !(0.0..1.0).contains(&value) {
                return Err(wrong("allowed is 0 up to, not including, 1".into()));
            }
            if self.architecture != Architecture::SimpleCnn && value != 0.0 {
                return Err(wrong(format!("{} drops nothing: set it to 0", self.architecture.name())));
            }
        }
        Ok(())
    }
}

impl Default for ModelParams {
    fn default() -> Self {
        Self::of(Architecture::SimpleCnn)
    }
}

/// One line of a network's summary.
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

/// A network: normalised images in, logits out.
pub trait Network: Send + Sync {
    /// Sets what the network takes from the training images before the first step. Most take nothing.
    fn prepare(&self, _train: &Dataset, _normalisation: &Normalisation) -> Result<()> {
        Ok(())
    }

    /// [N, height, width, 3] → logits [N, classes].
    fn forward(&self, images: FeatureMap, mode: &Mode) -> Result<Tensor>;

    /// Its layers, from the input to the logits.
    fn summary(&self) -> Vec<LayerSummary>;
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
            let params = SimpleCnnParams { dropout, conv_dropout, ..Default::default() };
            Box::new(SimpleCnn::new(&params, classes, size, parameters)?)
        }
        Architecture::Airbench94 => Box::new(Airbench::new(&AirbenchParams::AIRBENCH94, classes, size, parameters)?),
        Architecture::Airbench96 => Box::new(Airbench::new(&AirbenchParams::AIRBENCH96, classes, size, parameters)?),
        Architecture::ResNet18 => Box::new(ResNet18::new(&ResNet18Params::default(), classes, size, parameters)?),
    })
}

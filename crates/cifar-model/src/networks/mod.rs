//! The architectures, by name, and their parameters.

mod simple_cnn;

use candle_core::Tensor;
use cifar_data::ImageSize;
use serde::{Deserialize, Serialize};

use crate::parameters::Parameters;
use crate::{Mode, ModelError, Result};

pub use simple_cnn::SimpleCnn;

/// The networks that can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Three blocks of two 3×3 convolutions and a pooling, two dense layers.
    SimpleCnn,
}

impl Architecture {
    /// Its name in params.yaml.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleCnn => "simple_cnn",
        }
    }
}

/// What describes a network. Part of params.yaml, block `model`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedModelParams")]
pub struct ModelParams {
    /// The network.
    pub architecture: Architecture,
    /// Share of the dense layer's values that training drops, 0 ≤ dropout < 1.
    pub dropout: f32,
    /// Share of the values behind each pooling that training drops, 0 ≤ `conv_dropout` < 1.
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
        for (key, value) in [("dropout", p.dropout), ("conv_dropout", p.conv_dropout)] {
            if !(0.0..1.0).contains(&value) {
                return Err(ModelError::Parameter {
                    key,
                    value: value.to_string(),
                    allowed: "allowed is 0 up to, not including, 1".into(),
                });
            }
        }
        Ok(Self { architecture: p.architecture, dropout: p.dropout, conv_dropout: p.conv_dropout })
    }
}

impl Default for ModelParams {
    fn default() -> Self {
        Self { architecture: Architecture::SimpleCnn, dropout: 0.3, conv_dropout: 0.0 }
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
    /// [N, height, width, 3] → logits [N, classes].
    fn forward(&self, images: &Tensor, mode: &Mode) -> Result<Tensor>;

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
    match params.architecture {
        Architecture::SimpleCnn => Ok(Box::new(SimpleCnn::new(params, classes, size, parameters)?)),
    }
}

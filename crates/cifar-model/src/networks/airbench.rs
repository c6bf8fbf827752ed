//! The networks of the fastest known CIFAR-10 trainings (Jordan 2024, arXiv 2404.00498):
//! `airbench94` and `airbench96`.
//!
//! The layers are a frozen 2×2 whitening convolution and GELU; three groups that each halve the
//! image; global max pooling; and a head without bias, whose logits are divided by the number of
//! features. A group is conv3×3 → 2×2 max pooling → norm → GELU, followed once (94) or twice (96)
//! by conv3×3 → norm → GELU. In a group of three, the output of the first GELU is added before the
//! last one. 32×32 pixels become 31 → 15 → 7 → 3 → 1.

use candle_core::Tensor;
use cifar_data::prepare::Normalisation;
use cifar_data::{Dataset, ImageSize};
use cifar_kernels::Activation;

use super::builder::Builder;
use super::{Extent, LayerSummary, Network};
use crate::layers::{BatchNorm, Conv, Linear, NormParams, Whitening};
use crate::parameters::{Init, Parameters};
use crate::{FeatureMap, Mode, Result, ops};

/// The parameters of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AirbenchParams {
    /// The name in errors.
    pub name: &'static str,
    /// Channels of the three groups.
    pub widths: [usize; 3],
    /// Convolutions per group, at least 1.
    pub convolutions: usize,
    /// Whether the output of a group's first activation is added before its last one.
    pub residual: bool,
}

impl AirbenchParams {
    /// The widths published for 94 % on lossless CIFAR-10.
    pub const AIRBENCH94: Self = Self { name: "airbench94", widths: [64, 256, 256], convolutions: 2, residual: false };
    /// The widths published for 96 % on lossless CIFAR-10.
    pub const AIRBENCH96: Self = Self { name: "airbench96", widths: [128, 512, 512], convolutions: 3, residual: true };
}

/// Batch norm without a trained scale, with a tiny ε and fast running statistics.
pub(crate) const NORM: NormParams = NormParams { epsilon: 1e-12, momentum: 0.4, scale: false };

/// A network of the family.
#[derive(Debug)]
pub struct Airbench {
    whitening: Whitening,
    groups: Vec<Vec<(Conv, BatchNorm)>>,
    residual: bool,
    head: Linear,
    features: usize,
    summary: Vec<LayerSummary>,
    extent: Extent,
}

impl Airbench {
    /// Builds the network for images of at least 9×9 pixels: whitening removes one row and column,
    /// and three poolings halve the rest three times.
    ///
    /// # Errors
    /// If the images are smaller.
    pub fn new(params: &AirbenchParams, classes: usize, size: ImageSize, parameters: &mut Parameters) -> Result<Self> {
        let mut builder = Builder::new(parameters, params.name, size, 9)?;
        let whitening = builder.whitening("whitening", Activation::Gelu)?;
        let mut groups = Vec::new();
        for (number, outputs) in (1..).zip(params.widths) {
            let mut group = Vec::new();
            for index in 1..=params.convolutions {
                let name = format!("group{number}.conv{index}");
                let conv = builder.conv(&name, outputs, 3, 1, Init::Dirac)?;
                if index == 1 {
                    builder.pool_in_pass(2);
                }
                let norm = builder.batch_norm(&format!("{name}.norm"), NORM, Activation::Gelu)?;
                group.push((conv, norm));
                if index == 1 {
                    builder.describe_pool(&format!("group{number}.pool"));
                }
            }
            groups.push(group);
        }
        builder.global_pool("pool");
        let features = builder.shape()[2];
        let head = builder.head(classes, false, Init::UniformStandardised)?;
        let (summary, extent) = builder.finish();
        Ok(Self { whitening, groups, residual: params.residual, head, features, summary, extent })
    }
}

impl Airbench {
    /// Computes `[N, height, width, 3]` → `[N, h, w, features]`, the input of the global pooling.
    fn maps(&self, images: FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        let mut x = self.whitening.forward(&images, mode)?;
        std::mem::drop(images);
        for group in &self.groups {
            let mut first = None;
            for (index, (conv, norm)) in group.iter().enumerate() {
                x = if index == 0 { conv.forward_pooled(&x, mode)? } else { conv.forward(&x, mode)? };
                let residual = if index + 1 == group.len() { first.take() } else { None };
                x = norm.forward(&x, residual.as_ref(), mode)?;
                if self.residual && index == 0 {
                    first = Some(x.clone());
                }
            }
        }
        Ok(x)
    }
}

impl Network for Airbench {
    fn prepare(&self, train: &Dataset, normalisation: &Normalisation) -> Result<()> {
        self.whitening.prepare(train, normalisation)
    }

    fn features(&self, images: FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        Ok(ops::global_max_pool(&self.maps(images, mode)?)?)
    }

    fn class_activations(&self, images: FeatureMap) -> Result<Option<FeatureMap>> {
        let maps = ops::maxima_in_place(&self.maps(images, &Mode::Evaluate)?)?;
        Ok(Some(self.head.at_each_place(&maps, 1.0 / self.features as f32)?))
    }

    fn classify(&self, features: &FeatureMap, mode: &Mode) -> Result<Tensor> {
        Ok((self.head.forward(features, mode)?.to_tensor()? / self.features as f64)?)
    }

    fn summary(&self) -> Vec<LayerSummary> {
        self.summary.clone()
    }

    fn extent(&self) -> Extent {
        self.extent
    }
}

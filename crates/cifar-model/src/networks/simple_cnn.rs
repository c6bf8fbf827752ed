//! The usual first network for CIFAR-10: conv32-conv32-pool, conv64-conv64-pool,
//! conv128-conv128-pool, dense128, dense. Batch norm and ReLU follow every convolution and the
//! first dense layer.

use candle_core::Tensor;
use cifar_data::ImageSize;
use cifar_kernels::Activation;

use super::builder::Builder;
use super::{Extent, LayerSummary, Network};
use crate::layers::{BatchNorm, Conv, Linear, NormParams};
use crate::parameters::{Fan, Init, Parameters};
use crate::{FeatureMap, Mode, Result, ops};

/// Side of a pooling window, and its stride.
const POOLING: usize = 2;

/// The parameters of the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimpleCnnParams {
    /// Channels of the three blocks.
    pub widths: [usize; 3],
    /// Outputs of the first dense layer.
    pub dense: usize,
    /// Fraction of the dense layer's values that training drops, 0 ≤ dropout < 1.
    pub dropout: f32,
    /// Fraction of the values after each pooling that training drops, 0 ≤ `conv_dropout` < 1.
    pub conv_dropout: f32,
}

impl Default for SimpleCnnParams {
    fn default() -> Self {
        Self { widths: [32, 64, 128], dense: 128, dropout: 0.0, conv_dropout: 0.0 }
    }
}

/// Three blocks of two 3×3 convolutions and a pooling, a dense layer, a head.
#[derive(Debug)]
pub struct SimpleCnn {
    params: SimpleCnnParams,
    blocks: Vec<[(Conv, BatchNorm); 2]>,
    dense: (Linear, BatchNorm),
    head: Linear,
    summary: Vec<LayerSummary>,
    extent: Extent,
}

impl SimpleCnn {
    /// Builds the network for images of at least 8×8 pixels, since three poolings halve them three
    /// times.
    ///
    /// # Errors
    /// If the images are smaller.
    pub fn new(params: &SimpleCnnParams, classes: usize, size: ImageSize, parameters: &mut Parameters) -> Result<Self> {
        let he = Init::HeNormal(Fan::In);
        let mut builder = Builder::new(parameters, "simple_cnn", size, 8)?;
        let mut blocks = Vec::new();
        for (number, outputs) in (1..).zip(params.widths) {
            let [first, last] = [1, 2].map(|index| format!("block{number}.conv{index}"));
            let conv = builder.conv(&first, outputs, 3, 1, he)?;
            let norm = builder.batch_norm(&format!("{first}.norm"), NormParams::STANDARD, Activation::Relu)?;
            let last_conv = builder.conv(&last, outputs, 3, 1, he)?;
            builder.norm_and_pool_in_pass(POOLING);
            let pooled = builder.batch_norm(&format!("{last}.norm"), NormParams::STANDARD, Activation::Relu)?;
            builder.describe_pool(&format!("block{number}.pool"));
            blocks.push([(conv, norm), (last_conv, pooled)]);
        }
        let dense = (
            builder.linear("dense", params.dense, false, he)?,
            builder.batch_norm("dense.norm", NormParams::STANDARD, Activation::Relu)?,
        );
        let head = builder.head(classes, true, Init::Uniform)?;
        let (summary, extent) = builder.finish();
        Ok(Self { params: *params, blocks, dense, head, summary, extent })
    }
}

fn drop(input: &FeatureMap, rate: f32, layer: u32, mode: &Mode) -> Result<FeatureMap> {
    match *mode {
        Mode::Train { seed, epoch, ids } => Ok(ops::dropout(input, rate, seed, epoch, layer, ids)?),
        Mode::Evaluate => Ok(input.clone()),
    }
}

impl Network for SimpleCnn {
    fn features(&self, images: FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        let mut x = images;
        for (layer, block) in (0..).zip(&self.blocks) {
            let [(conv, norm), (last, pooled)] = block;
            x = norm.forward(&conv.forward(&x, mode)?, None, mode)?;
            x = pooled.forward_pooled(&last.forward(&x, mode)?, POOLING, mode)?;
            x = drop(&x, self.params.conv_dropout, layer, mode)?;
        }
        let (dense, norm) = &self.dense;
        x = dense.forward(&x.flatten()?, mode)?;
        x = norm.forward(&x, None, mode)?;
        Ok(ops::to_f32(&drop(&x, self.params.dropout, self.blocks.len() as u32, mode)?)?)
    }

    fn classify(&self, features: &FeatureMap, mode: &Mode) -> Result<Tensor> {
        Ok(self.head.forward(features, mode)?.to_tensor()?)
    }

    fn summary(&self) -> Vec<LayerSummary> {
        self.summary.clone()
    }

    fn extent(&self) -> Extent {
        self.extent
    }
}

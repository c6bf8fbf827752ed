//! ResNet-18 with the usual stem for small images (He et al. 2015, arXiv 1512.03385): a 3×3
//! convolution without pooling, four stages of two basic blocks, global average pooling, and a
//! head.
//!
//! A basic block is relu(norm(conv3×3(relu(norm(conv3×3(x))))) + shortcut(x)). The first block of a
//! stage may have stride 2. If a block changes the shape, its shortcut is a 1×1 convolution with
//! norm; otherwise it is x itself.

use candle_core::Tensor;
use cifar_data::ImageSize;
use cifar_kernels::Activation;

use super::builder::Builder;
use super::{Extent, LayerSummary, Network};
use crate::layers::{BatchNorm, Conv, Linear, NormParams};
use crate::parameters::{Fan, Init, Parameters};
use crate::{FeatureMap, Mode, Result, ops};

/// The parameters of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNet18Params {
    /// Channels of the four stages; the stem has those of the first.
    pub widths: [usize; 4],
    /// Strides of the four stages.
    pub strides: [usize; 4],
}

impl Default for ResNet18Params {
    fn default() -> Self {
        Self { widths: [64, 128, 256, 512], strides: [1, 2, 2, 2] }
    }
}

/// A convolution with its norm.
type ConvNorm = (Conv, BatchNorm);

#[derive(Debug)]
struct BasicBlock {
    first: ConvNorm,
    second: ConvNorm,
    /// `None` if the input itself is added.
    shortcut: Option<ConvNorm>,
}

/// The network.
#[derive(Debug)]
pub struct ResNet18 {
    stem: ConvNorm,
    blocks: Vec<BasicBlock>,
    head: Linear,
    summary: Vec<LayerSummary>,
    extent: Extent,
}

/// Builds filters without bias, He-normal by fan-out as in torchvision, and a norm.
fn conv_norm(
    builder: &mut Builder,
    name: &str,
    outputs: usize,
    kernel: usize,
    stride: usize,
    activation: Activation,
) -> Result<ConvNorm> {
    let conv = builder.conv(name, outputs, kernel, stride, Init::HeNormal(Fan::Out))?;
    Ok((conv, builder.batch_norm(&format!("{name}.norm"), NormParams::STANDARD, activation)?))
}

impl BasicBlock {
    fn new(builder: &mut Builder, name: &str, outputs: usize, stride: usize) -> Result<Self> {
        let input = builder.shape();
        let first = conv_norm(builder, &format!("{name}.conv1"), outputs, 3, stride, Activation::Relu)?;
        let second = conv_norm(builder, &format!("{name}.conv2"), outputs, 3, 1, Activation::Relu)?;
        let shortcut = if stride == 1 && input[2] == outputs {
            None
        } else {
            builder.branch_from(input);
            Some(conv_norm(builder, &format!("{name}.skip"), outputs, 1, stride, Activation::Identity)?)
        };
        Ok(Self { first, second, shortcut })
    }

    fn forward(&self, x: &FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some((conv, norm)) => norm.forward(&conv.forward(x, mode)?, None, mode)?,
        };
        let mut y = self.first.0.forward(x, mode)?;
        y = self.first.1.forward(&y, None, mode)?;
        y = self.second.0.forward(&y, mode)?;
        self.second.1.forward(&y, Some(&shortcut), mode)
    }
}

impl ResNet18 {
    /// Builds the network for images of any size, since strides round up.
    ///
    /// # Errors
    /// If candle refuses a shape.
    pub fn new(params: &ResNet18Params, classes: usize, size: ImageSize, parameters: &mut Parameters) -> Result<Self> {
        let mut builder = Builder::new(parameters, "resnet18", size, 1)?;
        let stem = conv_norm(&mut builder, "stem", params.widths[0], 3, 1, Activation::Relu)?;
        let mut blocks = Vec::new();
        for (stage, (width, stride)) in (1..).zip(params.widths.into_iter().zip(params.strides)) {
            for (block, stride) in [(1, stride), (2, 1)] {
                blocks.push(BasicBlock::new(&mut builder, &format!("stage{stage}.{block}"), width, stride)?);
            }
        }
        builder.global_pool("pool");
        let head = builder.head(classes, true, Init::Uniform)?;
        let (summary, extent) = builder.finish();
        Ok(Self { stem, blocks, head, summary, extent })
    }
}

impl ResNet18 {
    /// Computes `[N, height, width, 3]` → `[N, h, w, features]`, the input of the global pooling.
    fn maps(&self, images: FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        let mut x = self.stem.0.forward(&images, mode)?;
        drop(images);
        x = self.stem.1.forward(&x, None, mode)?;
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        Ok(x)
    }
}

impl Network for ResNet18 {
    fn features(&self, images: FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        Ok(ops::global_average_pool(&self.maps(images, mode)?)?)
    }

    fn class_activations(&self, images: FeatureMap) -> Result<Option<FeatureMap>> {
        let maps = self.maps(images, &Mode::Evaluate)?;
        let places: usize = maps.dims()[1..3].iter().product();
        Ok(Some(self.head.at_each_place(&maps, 1.0 / places as f32)?))
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

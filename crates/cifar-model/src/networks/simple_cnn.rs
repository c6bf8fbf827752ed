//! The plain network of many a first CIFAR-10 project: conv32-conv32-pool, conv64-conv64-pool, conv128-conv128-pool,
//! dense128, dense. Every convolution and the first dense layer are followed by batch norm and ReLU.

use candle_core::Tensor;
use cifar_data::ImageSize;
use cifar_kernels::Activation;

use super::{LayerSummary, ModelParams, Network};
use crate::layers::{BatchNorm, Conv, Linear};
use crate::ops;
use crate::parameters::Parameters;
use crate::{Mode, ModelError, Result};

const WIDTHS: [usize; 3] = [32, 64, 128];
const DENSE: usize = 128;

/// Three blocks of two 3×3 convolutions and a pooling (widths 32, 64, 128), a dense layer of 128, a head.
pub struct SimpleCnn {
    blocks: Vec<[(Conv, BatchNorm); 2]>,
    dense: (Linear, BatchNorm),
    head: Linear,
    dropout: f32,
    conv_dropout: f32,
    summary: Vec<LayerSummary>,
}

impl SimpleCnn {
    /// For images of at least 8×8 pixels, since three poolings halve them three times.
    pub fn new(params: &ModelParams, classes: usize, size: ImageSize, parameters: &mut Parameters) -> Result<Self> {
        let (mut height, mut width, mut channels) = (size.height, size.width, 3);
        if height.min(width) < 8 {
            return Err(ModelError::Unsuitable(format!(
                "simple_cnn needs images of at least 8×8 pixels, these have {size}"
            )));
        }
        let mut blocks = Vec::new();
        let mut summary = Vec::new();
        for (index, outputs) in WIDTHS.into_iter().enumerate() {
            let mut conv = |number: usize, channels: usize| -> Result<(Conv, BatchNorm)> {
                let name = format!("block{}.conv{number}", index + 1);
                summary.push(LayerSummary {
                    name: name.clone(),
                    output: vec![height, width, outputs],
                    parameters: 9 * channels * outputs + 2 * outputs,
                    flops: 2 * 9 * (channels * outputs * height * width) as u64,
                });
                let conv = Conv::new(parameters, &name, channels, outputs, 3, 1, 1)?;
                Ok((conv, BatchNorm::new(parameters, &format!("{name}.norm"), outputs, Activation::Relu)?))
            };
            blocks.push([conv(1, channels)?, conv(2, outputs)?]);
            (height, width, channels) = (height / 2, width / 2, outputs);
            summary.push(LayerSummary {
                name: format!("block{}.pool", index + 1),
                output: vec![height, width, channels],
                parameters: 0,
                flops: 0,
            });
        }
        let features = height * width * channels;
        let mut describe = |name: &str, inputs: usize, outputs: usize, vectors: usize| {
            summary.push(LayerSummary {
                name: name.into(),
                output: vec![outputs],
                parameters: inputs * outputs + vectors * outputs,
                flops: 2 * (inputs * outputs) as u64,
            });
        };
        describe("dense", features, DENSE, 2);
        describe("head", DENSE, classes, 1);
        let dense = (
            Linear::new(parameters, "dense", features, DENSE, false)?,
            BatchNorm::new(parameters, "dense.norm", DENSE, Activation::Relu)?,
        );
        let head = Linear::new(parameters, "head", DENSE, classes, true)?;
        Ok(Self { blocks, dense, head, dropout: params.dropout, conv_dropout: params.conv_dropout, summary })
    }

    fn drop(input: &Tensor, rate: f32, layer: u32, mode: &Mode) -> Result<Tensor> {
        match *mode {
            Mode::Train { seed, epoch, ids } => Ok(ops::dropout(input, rate, seed, epoch, layer, ids)?),
            Mode::Evaluate => Ok(input.clone()),
        }
    }
}

impl Network for SimpleCnn {
    fn forward(&self, images: &Tensor, mode: &Mode) -> Result<Tensor> {
        let mut x = images.clone();
        for (layer, block) in (0..).zip(&self.blocks) {
            for (conv, norm) in block {
                x = norm.forward(&conv.forward(&x, mode)?, mode)?;
            }
            x = Self::drop(&ops::max_pool(&x, 2)?, self.conv_dropout, layer, mode)?;
        }
        let (dense, norm) = &self.dense;
        let x = norm.forward(&dense.forward(&x.flatten_from(1)?, mode)?, mode)?;
        let x = Self::drop(&x, self.dropout, WIDTHS.len() as u32, mode)?;
        self.head.forward(&x, mode)
    }

    fn summary(&self) -> Vec<LayerSummary> {
        self.summary.clone()
    }
}

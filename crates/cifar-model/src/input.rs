//! The one place where `u8` pixels become a tensor, and how a forward pass is meant.

use candle_core::{Device, Error, Tensor};
use cifar_data::prepare::Normalisation;
use cifar_data::{ImageSize, SampleId};

use crate::Result;

/// What a forward pass is for.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a> {
    /// Batch statistics, dropout, gradients.
    Train {
        /// The run's seed.
        seed: u64,
        /// The epoch, counted from 0.
        epoch: u64,
        /// Identity of each image of the batch.
        ids: &'a [SampleId],
    },
    /// Running statistics, no dropout, no gradients.
    Evaluate,
}

impl Mode<'_> {
    /// True in training.
    pub fn is_train(&self) -> bool {
        matches!(self, Self::Train { .. })
    }

    /// A parameter's values: tracked in training, detached otherwise, so that evaluation keeps no activations.
    pub(crate) fn value(&self, var: &candle_core::Var) -> Tensor {
        if self.is_train() { var.as_tensor().clone() } else { var.as_detached_tensor() }
    }
}

/// Normalises N × height × width × RGB bytes to a tensor [N, height, width, 3]: (value / 255 − mean) / std.
///
/// # Errors
/// If the pixels are not whole images or there are none.
pub fn images_to_tensor(pixels: &[u8], size: ImageSize, normalisation: &Normalisation) -> Result<Tensor> {
    let mut values = vec![0.0; pixels.len()];
    cifar_kernels::normalise_pixels(pixels, 3, &normalisation.mean, &normalisation.std, &mut values)
        .map_err(Error::wrap)?;
    let count = pixels.len() / size.bytes();
    Ok(Tensor::from_vec(values, (count, size.height, size.width, 3), &Device::Cpu)?)
}

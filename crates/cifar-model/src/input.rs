//! The one place where `u8` pixels become numbers, and how a forward pass is meant.

use candle_core::Error;
use cifar_data::prepare::Normalisation;
use cifar_data::{ImageSize, SampleId};
use cifar_kernels::{Buffer, PixelView};

use crate::{FeatureMap, Result};

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
}

/// Normalises N × height × width × RGB bytes to a feature map [N, height, width, 3]: (value / 255 − mean) / std.
///
/// # Errors
/// If the pixels are not whole images or there are none.
pub fn images_to_feature_map(pixels: &[u8], size: ImageSize, normalisation: &Normalisation) -> Result<FeatureMap> {
    let mut values = Buffer::new(pixels.len());
    cifar_kernels::normalise_pixels(pixels, 3, &normalisation.mean, &normalisation.std, &mut values)
        .map_err(Error::wrap)?;
    let count = pixels.len() / size.bytes();
    Ok(FeatureMap::new(values, &[count, size.height, size.width, 3])?)
}

/// As [`images_to_feature_map`], of images each moved and mirrored by its view.
///
/// # Errors
/// As there, and if there are not as many views as images, or one moves its image out of sight.
pub fn views_to_feature_map(
    images: &[&[u8]],
    views: &[PixelView],
    size: ImageSize,
    normalisation: &Normalisation,
) -> Result<FeatureMap> {
    let (count, ImageSize { height, width }) = (images.len(), size);
    let mut values = Buffer::new(count * size.bytes());
    let Normalisation { mean, std, .. } = normalisation;
    cifar_kernels::normalise_views(images, [height, width], 3, views, mean, std, &mut values).map_err(Error::wrap)?;
    Ok(FeatureMap::new(values, &[count, height, width, 3])?)
}

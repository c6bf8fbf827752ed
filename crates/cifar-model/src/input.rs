//! The conversion of `u8` pixels to numbers, which is done only here, and the mode of a forward
//! pass.

use candle_core::Error;
use cifar_data::prepare::Normalisation;
use cifar_data::{ImageSize, SampleId};
use cifar_kernels::{Buffer, PixelView};

use crate::{FeatureMap, Result};

/// The purpose of a forward pass.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a> {
    /// Uses batch statistics and dropout, and tracks gradients.
    Train {
        /// The run's seed.
        seed: u64,
        /// The epoch, counted from 0.
        epoch: u64,
        /// The id of each image of the batch.
        ids: &'a [SampleId],
    },
    /// Uses running statistics, without dropout and gradients.
    Evaluate,
}

impl Mode<'_> {
    /// Returns whether the mode is [`Mode::Train`].
    pub fn is_train(&self) -> bool {
        matches!(self, Self::Train { .. })
    }
}

/// Normalises N × height × width × RGB bytes to a feature map `[N, height, width, 3]`:
/// (value / 255 − mean) / std.
///
/// ```
/// use cifar_data::ImageSize;
/// use cifar_data::prepare::Normalisation;
/// use cifar_model::images_to_feature_map;
///
/// let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] };
/// let size = ImageSize { height: 1, width: 2 };
/// let images = images_to_feature_map(&[255; 6], size, &normalisation)?;
/// assert_eq!((images.dims(), images.values()?), (&[1, 1, 2, 3][..], &[2.0; 6][..]));
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
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

/// Normalises images as [`images_to_feature_map`], each shifted and mirrored by its view.
///
/// # Errors
/// As [`images_to_feature_map`]; also if views and images differ in number, or a view moves its
/// image by its height or width or more.
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

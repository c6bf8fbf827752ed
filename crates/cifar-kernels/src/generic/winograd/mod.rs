//! 3×3 convolutions of stride 1 or 2 by Winograd's minimal filtering (Lavin & Gray 2015, arXiv 1509.09308): a tile of m×m
//! outputs costs (m+2)² multiplications a pair of channels instead of 9m².
//!
//! A filter, a polynomial with three coefficients, is evaluated at the points 0, 1, −1, ∞, 2, −2 along each axis; a tile
//! of the image is brought to the same points; there the convolution is a product, one matrix product of [tiles,
//! channels] and [channels, filters] a pair of points (a *plane*); and the products are brought back.
//!
//! What is unusual here:
//! - **Tiles of several sizes share the filter's planes.** Tiles of 2, 3 and 4 outputs use the first 4, 5 and 6 points,
//!   and everything that depends on the number of points stands on the image's side. So a map is covered by tiles of 4
//!   and one of 2 or 3 at its end, without waste: 7 = 4 + 3 costs 121 products instead of 144, 14 = 3·4 + 2 costs 484
//!   instead of 576.
//! - **The input's gradient is the transpose of the forward pass**, not another convolution, so it works on the same
//!   tiles as the filters' gradient and both share the transformed output gradients.
//! - **2×2 max pooling is part of the last step**, and its inverse part of the first step backward.
//!
//! Files: [`geometry`] (how a map is cut), [`transforms`] (to the points and back, along one axis), [`weights`],
//! [`forward`], [`backward`].

pub(crate) mod backward;
pub(crate) mod forward;
mod geometry;
mod transforms;
mod weights;

use crate::Conv2dShape;
use crate::arms::Simd;
use crate::error::{Result, check_offsets};

/// Whether a convolution is computed this way. Decided by the shape alone: both ways round differently.
pub(crate) fn is_suited(shape: &Conv2dShape) -> bool {
    let fits = shape.kernel == 3 && shape.stride <= 2 && shape.padding <= 2;
    // Few channels leave the vectors of the transforms empty, and a map of one row has no tile.
    fits && shape.in_channels.min(shape.out_channels) >= 8 && shape.out_height.min(shape.out_width) >= 2
}

/// Refuses a convolution whose planes are too large for the offsets of the matrix products.
pub(crate) fn check(op: &'static str, shape: &Conv2dShape) -> Result<()> {
    let tiles = geometry::Geometry::new(shape, false).tiles();
    // A block of several images has fewer than `SHARE` times `TILES` tiles; larger images make blocks of their own.
    let rows = tiles.max(backward::SHARE * backward::TILES);
    let channels = shape.in_channels.max(shape.out_channels);
    check_offsets(op, rows, channels.next_multiple_of(geometry::LINE) + geometry::LINE)
}

/// A vector of zeros for what lies outside of an image.
fn zeros<S: Simd>(channels: usize) -> Vec<f32> {
    vec![0.0; channels.next_multiple_of(S::LANES)]
}

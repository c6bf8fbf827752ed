//! 3×3 convolutions of stride 1 or 2 by Winograd's minimal filtering (Lavin & Gray 2015, arXiv
//! 1509.09308). A tile of m×m outputs costs (m+2)² multiplications per pair of channels instead of
//! 9m².
//!
//! A filter is a polynomial with three coefficients along each axis. It is evaluated at the points
//! 0, 1, −1, ∞, 2, −2, and a tile of the image is transformed to the same points. There the
//! convolution is a product: one matrix product of `[tiles, channels]` and `[channels, filters]`
//! per pair of points (a *plane*). The products are then transformed back.
//!
//! Differences from the usual algorithm:
//! - **Tiles of several sizes share the planes of the filter.** Tiles of 2, 3 and 4 outputs use the
//!   first 4, 5 and 6 points, and everything that depends on the number of points is on the image's
//!   side. A map is thus covered by tiles of 4 and one of 2 or 3 at its end, without waste: 7 = 4 +
//!   3 costs 121 products instead of 144, and 14 = 3·4 + 2 costs 484 instead of 576.
//! - **The input's gradient is the transpose of the forward pass**, not another convolution. It
//!   uses the same tiles as the filters' gradient, and both share the transformed output gradients.
//! - **2×2 max pooling is part of the last step**, and its inverse is part of the first backward
//!   step.
//!
//! Modules: [`geometry`] (tiles), [`transforms`] (to the points and back along one axis),
//! [`weights`], [`input_tiles`], [`output_tiles`], [`gradient_tiles`], [`forward`], [`backward`].

pub(crate) mod backward;
pub(crate) mod forward;
mod geometry;
mod gradient_tiles;
mod input_tiles;
mod output_tiles;
mod transforms;
mod weights;

use crate::Conv2dShape;
use crate::error::{Result, check_offsets};
use crate::isa::Simd;

/// Returns whether a convolution is computed this way. This depends only on the shape, since the
/// two methods round differently.
pub(crate) fn is_suited(shape: &Conv2dShape) -> bool {
    let fits = shape.kernel == 3 && shape.stride <= 2 && shape.padding <= 2;
    // With few channels the vectors of the transforms are mostly empty, and a map of one row has no
    // tile.
    fits && shape.in_channels.min(shape.out_channels) >= 8 && shape.out_height.min(shape.out_width) >= 2
}

/// Checks that the planes of a convolution fit the offsets of the matrix products.
pub(crate) fn check(op: &'static str, shape: &Conv2dShape) -> Result<()> {
    let tiles = geometry::Geometry::new(shape, false).tiles();
    // A block of several images has fewer than `SHARE` times `TILES` tiles; larger images form
    // their own blocks.
    let rows = tiles.max(backward::SHARE * backward::TILES);
    let channels = shape.in_channels.max(shape.out_channels);
    check_offsets(op, rows, channels.next_multiple_of(geometry::LINE) + geometry::LINE)
}

/// Returns a vector of zeros, for pixels outside of an image.
fn zeros<S: Simd>(channels: usize) -> Vec<f32> {
    vec![0.0; channels.next_multiple_of(S::LANES)]
}

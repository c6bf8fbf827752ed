//! Both gradients, one block of images at a time: transform all tiles to the points, multiply plane
//! by plane, transform all tiles back.
//!
//! The sums of the filters' gradient run over the tiles of a plane and over the blocks in a fixed
//! order, so no bit depends on which thread computes which plane.

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::{Geometry, Planes};
use super::gradient_tiles::{Gradients, gradient_image, input_gradient_image};
use super::input_tiles::{image_len, transform_image};
use super::{weights, zeros};
use crate::generic::destination::Destination;
use crate::generic::matmul::{Columns, Rows, Target, multiply, multiply_transposed};
use crate::generic::shared::Shared;
use crate::isa::Simd;
use crate::{Buffer, Conv2dShape};

/// Approximate values of both sides' planes per block: they stay in the last-level cache.
const BLOCK: usize = 1_500_000;
/// Maximum tiles per block, unless a single image has more.
pub(super) const TILES: usize = 1024;
/// Blocks are multiples of this many images, so that two or four threads have equal work.
pub(super) const SHARE: usize = 4;

/// Computes the requested gradients of a convolution or, with `places`, of one with max pooling.
pub(crate) fn backward<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    images: &[f32],
    weight: &[f32],
    output_grad: &[f32],
    places: Option<&[u8]>,
    input_grad: Option<&mut [f32]>,
    weight_grad: Option<&mut [f32]>,
) {
    let geometry = Geometry::new(shape, places.is_some());
    let planes = geometry.planes();
    let (inputs, outputs) = (geometry.inputs, geometry.outputs);
    let filters = input_grad.is_some().then(|| weights::transform(s, &geometry, weight, true));
    let tiles = (BLOCK / (planes * (inputs + outputs))).clamp(64, TILES);
    let block = (tiles / geometry.tiles()).next_multiple_of(SHARE).clamp(1, shape.batch);
    let rows = block * geometry.tiles();
    let (left, right) = (Planes::new::<S>(rows, inputs), Planes::new::<S>(rows, outputs));
    let (left_offsets, right_offsets) = (left.offsets(rows), right.offsets(rows));
    let (mut left_values, mut right_values) = (Buffer::<f32>::new(left.len(planes)), Buffer::new(right.len(planes)));
    let sums = Planes::new::<S>(inputs, outputs);
    let mut sum_values = Buffer::new(if weight_grad.is_some() { sums.len(planes) } else { 0 });
    let needs_weight_grad = weight_grad.is_some();
    let (input_zeros, output_zeros) = (zeros::<S>(inputs), zeros::<S>(outputs));
    let (left_shared, right_shared) = (Shared::new(&mut left_values), Shared::new(&mut right_values));
    let sum_shared = Shared::new(&mut sum_values);
    let input_shared = input_grad.map(Shared::new);

    let destination = Destination::of(images.len());
    let grads = Gradients { values: output_grad, places, image: output_grad.len() / shape.batch };
    // Computes the input's gradient of one image of a block from the products.
    let write_input_grad = |block: &Range<usize>, image: usize| {
        if let Some(input_grad) = input_shared {
            let to = input_grad.at((block.start + image) * image_len(shape));
            let planes = (left_shared.at(0).cast_const(), &left);
            // SAFETY: each task writes its own image, whose length the entry point checked.
            unsafe { input_gradient_image(s, shape, &geometry, planes, block.len(), image, to, destination) };
        }
    };
    let mut before = 0..0;
    for first in (0..shape.batch).step_by(block) {
        let now = first..shape.batch.min(first + block);
        let count = now.len();
        // The images of equal blocks have the same rows, so a task can write the gradient of one and
        // reuse its rows, which are in its cache.
        let has_rows_of_before = count == before.len();
        if !has_rows_of_before {
            (0..before.len()).into_par_iter().with_max_len(1).for_each(|image| write_input_grad(&before, image));
        }
        (0..count).into_par_iter().with_max_len(1).for_each(|image| {
            if has_rows_of_before {
                write_input_grad(&before, image);
            }
            // SAFETY: all slices have the checked lengths; each image has its own rows in a plane.
            unsafe {
                if needs_weight_grad {
                    let pixels = images.as_ptr().add((first + image) * image_len(shape));
                    transform_image(s, shape, &geometry, pixels, &input_zeros, left_shared.at(0), &left, count, image);
                }
                gradient_image(
                    s,
                    &geometry,
                    grads,
                    first + image,
                    &output_zeros,
                    right_shared.at(0),
                    &right,
                    count,
                    image,
                );
            }
        });
        (0..planes).into_par_iter().with_max_len(1).for_each(|plane| {
            let used = geometry.rows(count, plane);
            let a = left_shared.at(plane * left.plane + used.start * left.row);
            let b = right_shared.at(plane * right.plane + used.start * right.row);
            if needs_weight_grad {
                let sum = sum_shared.at(plane * sums.plane);
                let c = Target { base: sum, stride: sums.row, padded: true, add: true };
                let a = Rows { base: a, offsets: &left_offsets[..used.len()] };
                let b = Columns { base: b, stride: right.row, padded: true };
                // SAFETY: each task has its own planes, whose rows are padded to whole vectors.
                unsafe {
                    if first == 0 {
                        std::ptr::write_bytes(sum, 0, sums.plane);
                    }
                    multiply_transposed(s, a, inputs, b, outputs, c);
                }
            }
            if let Some(filters) = &filters {
                let b = Rows { base: b, offsets: &right_offsets[..used.len()] };
                let c = Target { base: a, stride: left.row, padded: true, add: false };
                // SAFETY: as above. The gradients overwrite the inputs, which are no longer needed.
                unsafe { multiply(s, b, outputs, filters.plane(plane), inputs, c) };
            }
        });
        before = now;
    }
    (0..before.len()).into_par_iter().with_max_len(1).for_each(|image| write_input_grad(&before, image));
    if let Some(weight_grad) = weight_grad {
        weights::transform_back(s, &geometry, &sum_values, sums.row, sums.plane, weight_grad);
    }
}

//! Both gradients, one block of images at a time: transform all tiles to the points, multiply plane
//! by plane, transform all tiles back.
//!
//! The sums of the filters' gradient run over the tiles of a plane and over the blocks in a fixed
//! order, so no bit depends on which thread computes which plane.

use rayon::prelude::*;

use super::geometry::{Geometry, POINTS, Planes};
use super::input_tiles::{by_size, image_len, transform_image};
use super::transforms::{input_adjoint, output_adjoint};
use super::{weights, zeros};
use crate::generic::matmul::{Columns, Rows, Target, multiply, multiply_transposed};
use crate::generic::scratch::with_scratch;
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
    let (mut left_values, mut right_values) = (Buffer::new(left.len(planes)), Buffer::new(right.len(planes)));
    let sums = Planes::new::<S>(inputs, outputs);
    let mut sum_values = Buffer::new(if weight_grad.is_some() { sums.len(planes) } else { 0 });
    let needs_weight_grad = weight_grad.is_some();
    let (input_zeros, output_zeros) = (zeros::<S>(inputs), zeros::<S>(outputs));
    let (left_shared, right_shared) = (Shared::new(&mut left_values), Shared::new(&mut right_values));
    let sum_shared = Shared::new(&mut sum_values);
    let input_shared = input_grad.map(Shared::new);

    let grads = Gradients { values: output_grad, places, image: output_grad.len() / shape.batch };
    for first in (0..shape.batch).step_by(block) {
        let count = block.min(shape.batch - first);
        (0..count).into_par_iter().with_max_len(1).for_each(|image| {
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
        if let Some(input_grad) = input_shared {
            (0..count).into_par_iter().with_max_len(1).for_each(|image| {
                let to = input_grad.at((first + image) * image_len(shape));
                // SAFETY: each task writes its own image, whose length the entry point checked.
                unsafe { input_gradient_image(s, shape, &geometry, left_shared.at(0), &left, count, image, to) };
            });
        }
    }
    if let Some(weight_grad) = weight_grad {
        weights::transform_back(s, &geometry, &sum_values, sums.row, sums.plane, weight_grad);
    }
}

/// The given gradients of the outputs.
#[derive(Clone, Copy)]
struct Gradients<'a> {
    values: &'a [f32],
    places: Option<&'a [u8]>,
    /// Values per image.
    image: usize,
}

/// Computes A y Aᵀ of every tile of image `source` into the rows of `image`.
///
/// # Safety
/// `base` has the planes of `images` images.
#[inline(never)]
unsafe fn gradient_image<S: Simd>(
    s: S,
    geometry: &Geometry,
    grads: Gradients,
    source: usize,
    zeros: &[f32],
    base: *mut f32,
    planes: &Planes,
    images: usize,
    image: usize,
) {
    s.vectorize(
        #[inline(always)]
        || {
            let values = &grads.values[source * grads.image..(source + 1) * grads.image];
            let places = grads.places.map(|places| &places[source * grads.image..(source + 1) * grads.image]);
            for ty in 0..geometry.y.tiles() {
                for tx in 0..geometry.x.tiles() {
                    let (ny, nx) = (geometry.y.inputs(ty), geometry.x.inputs(tx));
                    let to = base.wrapping_add(geometry.row(images, image, ty, tx) * planes.row);
                    // SAFETY: as the caller guarantees.
                    unsafe {
                        match places {
                            None => {
                                by_size!(
                                    geometry.stride,
                                    ny,
                                    nx,
                                    gradient_tile(s, geometry, values, zeros, ty, tx, to, planes.plane)
                                );
                            }
                            Some(places) => {
                                by_size!(
                                    geometry.stride,
                                    ny,
                                    nx,
                                    pooled_tile(s, geometry, values, places, ty, tx, to, planes.plane)
                                );
                            }
                        }
                    }
                }
            }
        },
    );
}

/// Transforms the gradients of a tile's outputs to the points.
#[inline(always)]
unsafe fn to_points<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    outputs: [[S::V; MX]; MY],
    to: *mut f32,
    plane: usize,
    points_x: usize,
) {
    let mut rows = [[s.splat(0.0); MX]; NY];
    for j in 0..MX {
        let mut column = [s.splat(0.0); MY];
        for (value, row) in column.iter_mut().zip(&outputs) {
            *value = row[j];
        }
        let column: [S::V; NY] = output_adjoint(s, column);
        for (row, value) in rows.iter_mut().zip(column) {
            row[j] = value;
        }
    }
    for (i, row) in rows.into_iter().enumerate() {
        let row: [S::V; NX] = output_adjoint(s, row);
        for (j, value) in row.into_iter().enumerate() {
            // SAFETY: rows of planes have room for whole vectors.
            unsafe { s.store(to.wrapping_add((i * points_x + j) * plane), value) };
        }
    }
}

#[inline(always)]
unsafe fn gradient_tile<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    geometry: &Geometry,
    values: &[f32],
    zeros: &[f32],
    ty: usize,
    tx: usize,
    to: *mut f32,
    plane: usize,
) {
    let channels = geometry.outputs;
    let mut from = [[zeros.as_ptr(); MX]; MY];
    for (i, row) in from.iter_mut().enumerate() {
        for (j, from) in row.iter_mut().enumerate() {
            let (y, x) = (ty * geometry.y.size + i, tx * geometry.x.size + j);
            if y < geometry.y.len && x < geometry.x.len {
                *from = values[(y * geometry.x.len + x) * channels..].as_ptr();
            }
        }
    }
    for channel in (0..channels).step_by(S::LANES) {
        let count = channels - channel;
        let mut outputs = [[s.splat(0.0); MX]; MY];
        for (outputs, from) in outputs.iter_mut().zip(&from) {
            for (value, from) in outputs.iter_mut().zip(from) {
                let from = from.wrapping_add(channel);
                // SAFETY: each pointer is followed by `channels` values.
                *value = unsafe { if count >= S::LANES { s.load(from) } else { s.load_first(from, count) } };
            }
        }
        // SAFETY: as the caller guarantees.
        unsafe { to_points::<S, NY, NX, MY, MX>(s, outputs, to.wrapping_add(channel), plane, geometry.x.points()) };
    }
}

#[inline(always)]
unsafe fn pooled_tile<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    geometry: &Geometry,
    values: &[f32],
    places: &[u8],
    ty: usize,
    tx: usize,
    to: *mut f32,
    plane: usize,
) {
    let (channels, width) = (geometry.outputs, geometry.x.len / 2);
    for channel in (0..channels).step_by(S::LANES) {
        let count = S::LANES.min(channels - channel);
        let mut outputs = [[s.splat(0.0); MX]; MY];
        for i in 0..MY / 2 {
            for j in 0..MX / 2 {
                let at = ((ty * geometry.y.size / 2 + i) * width + tx * geometry.x.size / 2 + j) * channels + channel;
                // SAFETY: at least `count` channels of the pixel remain.
                let (value, place) = unsafe {
                    (
                        s.load_first(values[at..at + count].as_ptr(), count),
                        s.load_bytes(places[at..at + count].as_ptr(), count),
                    )
                };
                for taken in 0..4 {
                    outputs[2 * i + taken / 2][2 * j + taken % 2] =
                        s.where_equal(place, s.splat(taken as f32), value, s.splat(0.0));
                }
            }
        }
        // SAFETY: as the caller guarantees.
        unsafe { to_points::<S, NY, NX, MY, MX>(s, outputs, to.wrapping_add(channel), plane, geometry.x.points()) };
    }
}

/// Writes the gradient of an image: B v Bᵀ of every tile, added where tiles overlap.
///
/// # Safety
/// `base` has the planes of `images` images, and `to` has room for an image.
#[inline(never)]
unsafe fn input_gradient_image<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    geometry: &Geometry,
    base: *const f32,
    planes: &Planes,
    images: usize,
    image: usize,
    to: *mut f32,
) {
    let channels = geometry.inputs;
    let pixel = channels.next_multiple_of(S::LANES);
    let line = geometry.x.covered() * pixel;
    with_scratch([POINTS * line], |[band]| {
        s.vectorize(
            #[inline(always)]
            || {
                // The gradients of the padded rows that one row of tiles covers. The first of them
                // also belong to the row of tiles above.
                band.fill(0.0);
                for ty in 0..geometry.y.tiles() {
                    let ny = geometry.y.inputs(ty);
                    for tx in 0..geometry.x.tiles() {
                        let nx = geometry.x.inputs(tx);
                        let from = base.wrapping_add(geometry.row(images, image, ty, tx) * planes.row);
                        let band = band.as_mut_ptr().wrapping_add(tx * geometry.x.step * pixel);
                        let points_x = geometry.x.points();
                        // SAFETY: the rows and columns of the tile are in the band.
                        unsafe {
                            by_size!(
                                geometry.stride,
                                ny,
                                nx,
                                add_tile(s, from, planes.plane, points_x, band, line, pixel)
                            );
                        }
                    }
                    let is_last = ty + 1 == geometry.y.tiles();
                    let done = if is_last { ny } else { geometry.y.step };
                    for row in 0..done {
                        let y = (ty * geometry.y.step + row).wrapping_sub(shape.padding);
                        if y < shape.in_height {
                            let row = &band[row * line..(row + 1) * line];
                            // SAFETY: row `y` is in the image.
                            unsafe { write_row(shape, row, pixel, to.wrapping_add(y * shape.in_width * channels)) };
                        }
                    }
                    if !is_last {
                        band.copy_within(done * line..ny * line, 0);
                        band[(ny - done) * line..].fill(0.0);
                    }
                }
                // Rows that no tile covers: those that the pooling ignores.
                let covered = geometry.y.covered().saturating_sub(shape.padding);
                for y in covered..shape.in_height {
                    // SAFETY: row `y` is in the image.
                    unsafe {
                        std::ptr::write_bytes(
                            to.wrapping_add(y * shape.in_width * channels),
                            0,
                            shape.in_width * channels,
                        );
                    };
                }
            },
        );
    });
}

/// Copies a padded row of gradients to a row of an image. Pixels that no tile covers become 0.
#[inline(always)]
unsafe fn write_row(shape: &Conv2dShape, row: &[f32], pixel: usize, to: *mut f32) {
    let channels = shape.in_channels;
    let seen = (row.len() / pixel).saturating_sub(shape.padding).min(shape.in_width);
    let from = &row[shape.padding.min(row.len() / pixel) * pixel..];
    // SAFETY: `to` has room for a row of the image; `from` has the `seen` pixels after the padding.
    unsafe {
        if channels == pixel {
            std::ptr::copy_nonoverlapping(from.as_ptr(), to, seen * channels);
        } else {
            for (x, from) in from.chunks_exact(pixel).enumerate().take(seen) {
                std::ptr::copy_nonoverlapping(from.as_ptr(), to.wrapping_add(x * channels), channels);
            }
        }
        std::ptr::write_bytes(to.wrapping_add(seen * channels), 0, (shape.in_width - seen) * channels);
    }
}

#[inline(always)]
unsafe fn add_tile<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    from: *const f32,
    plane: usize,
    points_x: usize,
    band: *mut f32,
    line: usize,
    pixel: usize,
) {
    for channel in (0..pixel).step_by(S::LANES) {
        let mut rows = [[s.splat(0.0); NX]; NY];
        for j in 0..NX {
            let mut column = [s.splat(0.0); NY];
            for (i, value) in column.iter_mut().enumerate() {
                // SAFETY: rows of planes have room for whole vectors.
                *value = unsafe { s.load(from.wrapping_add((i * points_x + j) * plane + channel)) };
            }
            for (row, value) in rows.iter_mut().zip(input_adjoint::<S, NY, MY>(s, column)) {
                row[j] = value;
            }
        }
        for (i, row) in rows.into_iter().enumerate() {
            for (j, value) in input_adjoint::<S, NX, MX>(s, row).into_iter().enumerate() {
                let at = band.wrapping_add(i * line + j * pixel + channel);
                // SAFETY: the caller guarantees that the tile is in the band.
                unsafe { s.store(at, s.add(s.load(at), value)) };
            }
        }
    }
}

//! The forward pass: each task takes a group of images from the input to the (pooled) output.

use rayon::prelude::*;

use super::geometry::{Geometry, POINTS, Planes};
use super::transforms::{input, output};
use super::{weights, zeros};
use crate::Conv2dShape;
use crate::generic::matmul::{Rows, Target, multiply};
use crate::generic::scratch::with_scratch;
use crate::generic::shared::Shared;
use crate::isa::Simd;

/// Tiles per task: enough to outweigh the cost of reading the filters, and few enough for their
/// planes to stay in the caches.
const TILES: usize = 64;

/// Writes the convolution to `out` or, with `places`, its 2×2 maxima and their positions.
pub(crate) fn forward<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    images: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    mut places: Option<&mut [u8]>,
) {
    let geometry = Geometry::new(shape, places.is_some());
    let filters = weights::transform(s, &geometry, weight, false);
    let group = (TILES / geometry.tiles()).clamp(1, shape.batch);
    let rows = group * geometry.tiles();
    let (left, product) = (Planes::new::<S>(rows, geometry.inputs), Planes::new::<S>(rows, geometry.outputs));
    let offsets = left.offsets(rows);
    let zeros = zeros::<S>(geometry.inputs);
    let bias: Option<Vec<f32>> = bias.map(|bias| {
        let mut padded = bias.to_vec();
        padded.resize(bias.len().next_multiple_of(S::LANES), 0.0);
        padded
    });

    let pooled = places.is_some();
    let out_image = out.len() / shape.batch;
    let (out, places) = (Shared::new(out), places.as_mut().map(|places| Shared::new(places)));
    (0..shape.batch.div_ceil(group)).into_par_iter().with_max_len(1).for_each(|task| {
        let first = task * group;
        let count = group.min(shape.batch - first);
        let planes = geometry.planes();
        with_scratch([left.len(planes), product.len(planes)], |[left_values, product_values]| {
            let (left_base, product_base) = (left_values.as_mut_ptr(), product_values.as_mut_ptr());
            for image in 0..count {
                // SAFETY: image `first + image` is in `images`, whose length the entry point
                // checked; the rows of `image` are in the planes.
                unsafe {
                    let pixels = images.as_ptr().add((first + image) * image_len(shape));
                    transform_image(s, shape, &geometry, pixels, &zeros, left_base, &left, count, image);
                }
            }
            for plane in 0..planes {
                let used = geometry.rows(count, plane);
                let a = Rows {
                    base: left_base.wrapping_add(plane * left.plane + used.start * left.row),
                    offsets: &offsets[..used.len()],
                };
                let c = Target {
                    base: product_base.wrapping_add(plane * product.plane + used.start * product.row),
                    stride: product.row,
                    padded: true,
                    add: false,
                };
                // SAFETY: the rows are in both planes, which are padded to whole vectors.
                unsafe { multiply(s, a, geometry.inputs, filters.plane(plane), geometry.outputs, c) };
            }
            for image in 0..count {
                let at = (first + image) * out_image;
                // SAFETY: each task writes its own images; see `output_image`.
                unsafe {
                    let to = Output { values: out.at(at), places: places.map(|places| places.at(at)) };
                    output_image(s, &geometry, product_base, &product, count, image, bias.as_deref(), pooled, to);
                }
            }
        });
    });
}

pub(super) fn image_len(shape: &Conv2dShape) -> usize {
    shape.in_height * shape.in_width * shape.in_channels
}

/// Calls the function that is compiled for tiles with `ny` × `nx` points.
macro_rules! by_size {
    ($stride:expr, $ny:expr, $nx:expr, $call:ident ( $($argument:expr),* $(,)? )) => {
        match ($ny, $nx) {
            (5, 5) if $stride == 2 => $call::<S, 5, 5, 2, 2>($($argument),*),
            (6, 6) => $call::<S, 6, 6, 4, 4>($($argument),*),
            (6, 5) => $call::<S, 6, 5, 4, 3>($($argument),*),
            (6, 4) => $call::<S, 6, 4, 4, 2>($($argument),*),
            (5, 6) => $call::<S, 5, 6, 3, 4>($($argument),*),
            (5, 5) => $call::<S, 5, 5, 3, 3>($($argument),*),
            (5, 4) => $call::<S, 5, 4, 3, 2>($($argument),*),
            (4, 6) => $call::<S, 4, 6, 2, 4>($($argument),*),
            (4, 5) => $call::<S, 4, 5, 2, 3>($($argument),*),
            (4, 4) => $call::<S, 4, 4, 2, 2>($($argument),*),
            (ny, nx) => unreachable!("no tile has {ny}×{nx} points"),
        }
    };
}
pub(super) use by_size;

/// Computes Bᵀ d B of every tile of one image into the rows of `image` in the planes.
///
/// # Safety
/// `pixels` points to a whole image, and `base` has the planes of `images` images.
#[inline(never)]
pub(super) unsafe fn transform_image<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    geometry: &Geometry,
    pixels: *const f32,
    zeros: &[f32],
    base: *mut f32,
    planes: &Planes,
    images: usize,
    image: usize,
) {
    s.vectorize(
        #[inline(always)]
        || {
            let c = geometry.inputs;
            for ty in 0..geometry.y.tiles() {
                for tx in 0..geometry.x.tiles() {
                    let (ny, nx) = (geometry.y.inputs(ty), geometry.x.inputs(tx));
                    let mut inputs = [zeros.as_ptr(); POINTS * POINTS];
                    for i in 0..ny {
                        let y = (ty * geometry.y.step + i).wrapping_sub(shape.padding);
                        if y >= shape.in_height {
                            continue;
                        }
                        for j in 0..nx {
                            let x = (tx * geometry.x.step + j).wrapping_sub(shape.padding);
                            if x < shape.in_width {
                                inputs[i * POINTS + j] = pixels.wrapping_add((y * shape.in_width + x) * c);
                            }
                        }
                    }
                    let to = base.wrapping_add(geometry.row(images, image, ty, tx) * planes.row);
                    let points_x = geometry.x.points();
                    // SAFETY: each pointer is followed by `c` values, and each plane has a row for
                    // this tile.
                    unsafe {
                        by_size!(geometry.stride, ny, nx, transform_tile(s, &inputs, c, to, planes.plane, points_x));
                    };
                }
            }
        },
    );
}

#[inline(always)]
unsafe fn transform_tile<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    inputs: &[*const f32; POINTS * POINTS],
    channels: usize,
    to: *mut f32,
    plane: usize,
    points_x: usize,
) {
    let mut channel = 0;
    while channel < channels {
        let count = channels - channel;
        let mut rows = [[s.splat(0.0); NX]; NY];
        for j in 0..NX {
            let mut column = [s.splat(0.0); NY];
            for (i, value) in column.iter_mut().enumerate() {
                let from = inputs[i * POINTS + j].wrapping_add(channel);
                // SAFETY: the caller guarantees `channels` values.
                *value = unsafe { if count >= S::LANES { s.load(from) } else { s.load_first(from, count) } };
            }
            for (row, value) in rows.iter_mut().zip(input::<S, NY, MY>(s, column)) {
                row[j] = value;
            }
        }
        for (i, row) in rows.into_iter().enumerate() {
            for (j, value) in input::<S, NX, MX>(s, row).into_iter().enumerate() {
                // SAFETY: rows of planes have room for whole vectors.
                unsafe { s.store(to.wrapping_add((i * points_x + j) * plane + channel), value) };
            }
        }
        channel += S::LANES;
    }
}

/// Where the results of an image are written.
#[derive(Clone, Copy)]
struct Output {
    values: *mut f32,
    places: Option<*mut u8>,
}

/// Computes Aᵀ m A of every tile of one image and writes it to the output, or its 2×2 maxima.
///
/// # Safety
/// `base` has the planes of `images` images, and `out` has room for the (pooled) output of one.
#[inline(never)]
unsafe fn output_image<S: Simd>(
    s: S,
    geometry: &Geometry,
    base: *const f32,
    planes: &Planes,
    images: usize,
    image: usize,
    bias: Option<&[f32]>,
    pooled: bool,
    out: Output,
) {
    s.vectorize(
        #[inline(always)]
        || {
            for ty in 0..geometry.y.tiles() {
                for tx in 0..geometry.x.tiles() {
                    let (ny, nx) = (geometry.y.inputs(ty), geometry.x.inputs(tx));
                    let from = base.wrapping_add(geometry.row(images, image, ty, tx) * planes.row);
                    // SAFETY: as the caller guarantees.
                    unsafe {
                        if pooled {
                            by_size!(
                                geometry.stride,
                                ny,
                                nx,
                                pool_tile(s, geometry, from, planes.plane, ty, tx, bias, out)
                            );
                        } else {
                            by_size!(
                                geometry.stride,
                                ny,
                                nx,
                                output_tile(s, geometry, from, planes.plane, ty, tx, bias, out)
                            );
                        }
                    }
                }
            }
        },
    );
}

/// Returns the outputs of a tile for the vector of channels at `channel`.
#[inline(always)]
unsafe fn tile_outputs<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    from: *const f32,
    plane: usize,
    points_x: usize,
    bias: Option<&[f32]>,
    channel: usize,
) -> [[S::V; MX]; MY] {
    let mut rows = [[s.splat(0.0); NX]; MY];
    for j in 0..NX {
        let mut column = [s.splat(0.0); NY];
        for (i, value) in column.iter_mut().enumerate() {
            // SAFETY: rows of planes have room for whole vectors.
            *value = unsafe { s.load(from.wrapping_add((i * points_x + j) * plane + channel)) };
        }
        let column: [S::V; MY] = output(s, column);
        for (row, value) in rows.iter_mut().zip(column) {
            row[j] = value;
        }
    }
    let mut outputs = [[s.splat(0.0); MX]; MY];
    for (outputs, row) in outputs.iter_mut().zip(rows) {
        *outputs = output(s, row);
    }
    if let Some(bias) = bias {
        // SAFETY: the bias is padded to whole vectors.
        let bias = unsafe { s.load(bias[channel..channel + S::LANES].as_ptr()) };
        for value in outputs.iter_mut().flatten() {
            *value = s.add(*value, bias);
        }
    }
    outputs
}

#[inline(always)]
unsafe fn output_tile<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    geometry: &Geometry,
    from: *const f32,
    plane: usize,
    ty: usize,
    tx: usize,
    bias: Option<&[f32]>,
    out: Output,
) {
    let channels = geometry.outputs;
    for channel in (0..channels).step_by(S::LANES) {
        let count = S::LANES.min(channels - channel);
        // SAFETY: as the caller guarantees.
        let outputs = unsafe { tile_outputs::<S, NY, NX, MY, MX>(s, from, plane, geometry.x.points(), bias, channel) };
        for (i, row) in outputs.iter().enumerate() {
            let y = ty * geometry.y.size + i;
            for (j, value) in row.iter().enumerate() {
                let x = tx * geometry.x.size + j;
                // A tile of 2 at the end of an axis with a single remaining output extends beyond
                // it.
                if y < geometry.y.len && x < geometry.x.len {
                    let to = out.values.wrapping_add((y * geometry.x.len + x) * channels + channel);
                    // SAFETY: the pixel is in the output, and at least `count` of its channels
                    // remain.
                    unsafe { if count == S::LANES { s.store(to, *value) } else { s.store_first(to, *value, count) } };
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn pool_tile<S: Simd, const NY: usize, const NX: usize, const MY: usize, const MX: usize>(
    s: S,
    geometry: &Geometry,
    from: *const f32,
    plane: usize,
    ty: usize,
    tx: usize,
    bias: Option<&[f32]>,
    out: Output,
) {
    let (channels, width) = (geometry.outputs, geometry.x.len / 2);
    for channel in (0..channels).step_by(S::LANES) {
        let count = S::LANES.min(channels - channel);
        // SAFETY: as the caller guarantees.
        let outputs = unsafe { tile_outputs::<S, NY, NX, MY, MX>(s, from, plane, geometry.x.points(), bias, channel) };
        for i in 0..MY / 2 {
            for j in 0..MX / 2 {
                let mut best = (outputs[2 * i][2 * j], s.splat(0.0));
                for place in 1..4 {
                    let value = outputs[2 * i + place / 2][2 * j + place % 2];
                    best = s.take_larger(best.0, best.1, value, s.splat(place as f32));
                }
                let at = ((ty * geometry.y.size / 2 + i) * width + tx * geometry.x.size / 2 + j) * channels + channel;
                // SAFETY: with pooling, tiles cover even numbers of rows and columns, all of them
                // in the output; at least `count` channels remain.
                unsafe {
                    s.store_first(out.values.wrapping_add(at), best.0, count);
                    if let Some(places) = out.places {
                        s.store_bytes(places.wrapping_add(at), best.1, count);
                    }
                }
            }
        }
    }
}

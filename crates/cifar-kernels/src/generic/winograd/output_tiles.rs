//! The outputs of tiles, or their 2×2 maxima, from the products at the points.

use super::geometry::{Geometry, Planes};
use super::input_tiles::by_size;
use super::transforms::output;
use crate::generic::destination::Destination;
use crate::isa::Simd;

/// Where the results of an image are written.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub(super) values: *mut f32,
    pub(super) places: Option<*mut u8>,
    /// The first channel, a multiple of the lanes, whose product is the first of a row.
    pub(super) first: usize,
    /// The channel after the last.
    pub(super) end: usize,
    pub(super) destination: Destination,
}

/// Computes Aᵀ m A of every tile of one image and writes it to the output, or its 2×2 maxima.
///
/// # Safety
/// `base` has the planes of `images` images for the channels of `out`, which has room for the
/// (pooled) output of an image.
#[inline(never)]
pub(super) unsafe fn output_image<S: Simd>(
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
            out.destination.finish(s);
        },
    );
}

/// Returns the outputs of a tile for the vector of channels at `channel`, whose products are at
/// `from`.
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
            *value = unsafe { s.load(from.wrapping_add((i * points_x + j) * plane)) };
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
    for channel in (out.first..out.end).step_by(S::LANES) {
        let count = S::LANES.min(channels - channel);
        let from = from.wrapping_add(channel - out.first);
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
                    unsafe { out.destination.store(s, to, *value, count) };
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
    for channel in (out.first..out.end).step_by(S::LANES) {
        let count = S::LANES.min(channels - channel);
        let from = from.wrapping_add(channel - out.first);
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
                    out.destination.store(s, out.values.wrapping_add(at), best.0, count);
                    if let Some(places) = out.places {
                        s.store_bytes(places.wrapping_add(at), best.1, count);
                    }
                }
            }
        }
    }
}

//! The gradients of tiles: those of the outputs to the points, and those of the inputs back.

use super::geometry::{Geometry, POINTS, Planes};
use super::input_tiles::by_size;
use super::transforms::{input_adjoint, output_adjoint};
use crate::Conv2dShape;
use crate::generic::destination::Destination;
use crate::generic::scratch::with_scratch;
use crate::isa::Simd;

/// The given gradients of the outputs.
#[derive(Clone, Copy)]
pub(super) struct Gradients<'a> {
    pub(super) values: &'a [f32],
    pub(super) places: Option<&'a [u8]>,
    /// Values per image.
    pub(super) image: usize,
}

/// Computes A y Aᵀ of every tile of image `source` into the rows of `image`.
///
/// # Safety
/// `base` has the planes of `images` images.
#[inline(never)]
pub(super) unsafe fn gradient_image<S: Simd>(
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
pub(super) unsafe fn input_gradient_image<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    geometry: &Geometry,
    (base, planes): (*const f32, &Planes),
    images: usize,
    image: usize,
    to: *mut f32,
    destination: Destination,
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
                            unsafe {
                                write_row(
                                    s,
                                    shape,
                                    row,
                                    pixel,
                                    to.wrapping_add(y * shape.in_width * channels),
                                    destination,
                                );
                            };
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
                destination.finish(s);
            },
        );
    });
}

/// Copies a padded row of gradients to a row of an image. Pixels that no tile covers become 0.
#[inline(always)]
unsafe fn write_row<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    row: &[f32],
    pixel: usize,
    to: *mut f32,
    destination: Destination,
) {
    let channels = shape.in_channels;
    let seen = (row.len() / pixel).saturating_sub(shape.padding).min(shape.in_width);
    let from = &row[shape.padding.min(row.len() / pixel) * pixel..];
    // SAFETY: `to` has room for a row of the image; `from` has the `seen` pixels after the padding.
    unsafe {
        if channels == pixel && destination == Destination::Memory {
            for at in (0..seen * channels).step_by(S::LANES) {
                destination.store(s, to.wrapping_add(at), s.load(from.as_ptr().wrapping_add(at)), S::LANES);
            }
        } else if channels == pixel {
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

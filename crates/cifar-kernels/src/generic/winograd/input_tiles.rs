//! The tiles of an image at the points.

use super::geometry::{Geometry, POINTS, Planes};
use super::transforms::input;
use crate::Conv2dShape;
use crate::isa::Simd;

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

//! Pooling in bf16 over square windows. Rows and columns that fill no window are ignored.

use std::ops::Range;

use rayon::prelude::*;

use super::blocked::BLOCK;
use super::{Bf16, BlockedShape};
use crate::PoolShape;
use crate::error::{Result, check_len};
use crate::isa::{isa, vectorised};
use crate::pool::check_places;

/// Computes the maximum of each window, and its position in the window.
///
/// This is [`max_pool_forward`](crate::max_pool_forward) with all slices blocked.
///
/// # Errors
/// If a slice has the wrong length, or the number of values overflows.
///
/// ```
/// use cifar_kernels::bf16::{Bf16, BlockedShape, max_pool_forward, to_blocked};
/// use cifar_kernels::{PoolDimensions, PoolShape};
///
/// let shape = PoolShape::new(PoolDimensions {
///     images: 1,
///     height: 2,
///     width: 2,
///     channels: 1,
///     window: 2,
///     stride: 2,
/// })?;
/// let mut input = vec![Bf16::ZERO; 4096];
/// to_blocked(&BlockedShape::new([1, 2, 2, 1])?, &[1.0, 2.0, 7.0, 4.0], &mut input)?;
/// let (mut output, mut places) = (vec![Bf16::ZERO; 1024], vec![0; 1024]);
/// max_pool_forward(&shape, &input, &mut output, &mut places)?;
/// assert_eq!((output[0].to_f32(), places[0]), (7.0, 2));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn max_pool_forward(shape: &PoolShape, input: &[Bf16], output: &mut [Bf16], places: &mut [u8]) -> Result<()> {
    const OP: &str = "bf16::max_pool_forward";
    let [x, y] = blocked_shapes(shape)?;
    check_len(OP, "input", input, x.len())?;
    check_len(OP, "output", output, y.len())?;
    check_len(OP, "places", places, y.len())?;
    let isa = isa()?;
    let maps = output.par_chunks_mut(y.pixels * BLOCK).zip(places.par_chunks_mut(y.pixels * BLOCK));
    maps.zip(input.par_chunks(x.pixels * BLOCK)).for_each(|((output, places), input)| {
        vectorised(
            isa,
            #[inline(always)]
            || {
                let (input, _) = input.as_chunks::<BLOCK>();
                let blocks = output.as_chunks_mut::<BLOCK>().0.iter_mut().zip(places.as_chunks_mut::<BLOCK>().0);
                for (pixel, (output, places)) in blocks.enumerate() {
                    for (from, place) in window(*shape, pixel) {
                        keep_maxima(&input[from], place, output, places);
                    }
                }
            },
        );
    });
    Ok(())
}

/// Computes the gradient of [`max_pool_forward`]: each output's gradient goes to the input that was
/// its maximum.
///
/// # Errors
/// If a slice has the wrong length, or `places` has a position outside of the window.
pub fn max_pool_backward(
    shape: &PoolShape,
    places: &[u8],
    output_grad: &[Bf16],
    input_grad: &mut [Bf16],
) -> Result<()> {
    const OP: &str = "bf16::max_pool_backward";
    let [x, y] = blocked_shapes(shape)?;
    check_places(OP, "places", places, y.len(), shape.window * shape.window)?;
    check_len(OP, "output_grad", output_grad, y.len())?;
    check_len(OP, "input_grad", input_grad, x.len())?;
    let isa = isa()?;
    let maps = input_grad.par_chunks_mut(x.pixels * BLOCK).zip(output_grad.par_chunks(y.pixels * BLOCK));
    maps.zip(places.par_chunks(y.pixels * BLOCK)).for_each(|((input_grad, output_grad), places)| {
        vectorised(
            isa,
            #[inline(always)]
            || {
                let (places, output_grad) = (places.as_chunks::<BLOCK>().0, output_grad.as_chunks::<BLOCK>().0);
                for (pixel, input_grad) in input_grad.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                    let mut sums = [0.0; BLOCK];
                    for (from, place) in windows_with(*shape, pixel) {
                        for ((sum, at), grad) in sums.iter_mut().zip(&places[from]).zip(&output_grad[from]) {
                            *sum += if *at == place { grad.to_f32() } else { 0.0 };
                        }
                    }
                    round(&sums, 1.0, input_grad);
                }
            },
        );
    });
    Ok(())
}

/// Computes the mean of each window. A window of the size of the image is global pooling.
///
/// This is [`average_pool_forward`](crate::average_pool_forward) with all slices blocked.
///
/// # Errors
/// If a slice has the wrong length, or the number of values overflows.
pub fn average_pool_forward(shape: &PoolShape, input: &[Bf16], output: &mut [Bf16]) -> Result<()> {
    const OP: &str = "bf16::average_pool_forward";
    let [x, y] = blocked_shapes(shape)?;
    check_len(OP, "input", input, x.len())?;
    check_len(OP, "output", output, y.len())?;
    average(shape, y.pixels, x.pixels, input, output, window)
}

/// Computes the gradient of [`average_pool_forward`]: each output's gradient is spread over its
/// window.
///
/// # Errors
/// If a slice has the wrong length, or the number of values overflows.
pub fn average_pool_backward(shape: &PoolShape, output_grad: &[Bf16], input_grad: &mut [Bf16]) -> Result<()> {
    const OP: &str = "bf16::average_pool_backward";
    let [x, y] = blocked_shapes(shape)?;
    check_len(OP, "output_grad", output_grad, y.len())?;
    check_len(OP, "input_grad", input_grad, x.len())?;
    average(shape, x.pixels, y.pixels, output_grad, input_grad, windows_with)
}

/// Computes the sum of the source pixels that `sources` returns for each target pixel, divided by
/// the number of pixels in a window.
fn average<I: Iterator<Item = (usize, u8)>>(
    shape: &PoolShape,
    target_pixels: usize,
    source_pixels: usize,
    source: &[Bf16],
    target: &mut [Bf16],
    sources: fn(PoolShape, usize) -> I,
) -> Result<()> {
    let (isa, part) = (isa()?, 1.0 / (shape.window * shape.window) as f32);
    let maps = target.par_chunks_mut(target_pixels * BLOCK).zip(source.par_chunks(source_pixels * BLOCK));
    maps.for_each(|(target, source)| {
        vectorised(
            isa,
            #[inline(always)]
            || {
                let (source, _) = source.as_chunks::<BLOCK>();
                for (pixel, target) in target.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                    let mut sums = [0.0; BLOCK];
                    for (from, _) in sources(*shape, pixel) {
                        for (sum, value) in sums.iter_mut().zip(&source[from]) {
                            *sum += value.to_f32();
                        }
                    }
                    round(&sums, part, target);
                }
            },
        );
    });
    Ok(())
}

/// Rounds sums · `factor`.
#[inline(always)]
fn round(sums: &[f32; BLOCK], factor: f32, values: &mut [Bf16; BLOCK]) {
    for (value, sum) in values.iter_mut().zip(sums) {
        *value = Bf16::from_f32(sum * factor);
    }
}

/// Replaces numbers of `maxima` by larger `values`, and their places by `place`. At place 0, all
/// are replaced.
#[inline(always)]
fn keep_maxima(values: &[Bf16; BLOCK], place: u8, maxima: &mut [Bf16; BLOCK], places: &mut [u8; BLOCK]) {
    for ((best, at), value) in maxima.iter_mut().zip(places).zip(values) {
        let (x, y) = (value.to_f32(), best.to_f32());
        let taken = place == 0 || x > y || (x.is_nan() && !y.is_nan());
        // Without a branch, so that the compiler vectorises it.
        (*best, *at) = (if taken { *value } else { *best }, if taken { place } else { *at });
    }
}

/// Returns the blocked shapes of input and output.
pub(super) fn blocked_shapes(shape: &PoolShape) -> Result<[BlockedShape; 2]> {
    Ok([
        BlockedShape::new([shape.batch, shape.in_height, shape.in_width, shape.channels])?,
        BlockedShape::new([shape.batch, shape.out_height, shape.out_width, shape.channels])?,
    ])
}

/// Returns the input pixels in the window of an output pixel, and their positions in it.
fn window(shape: PoolShape, pixel: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..shape.window * shape.window).map(move |place| (pixel_in_window(&shape, pixel, place), place as u8))
}

/// Returns the input pixel at a place in the window of an output pixel.
pub(super) fn pixel_in_window(shape: &PoolShape, pixel: usize, place: usize) -> usize {
    let [y, x] = [pixel / shape.out_width, pixel % shape.out_width].map(|at| at * shape.stride);
    (y + place / shape.window) * shape.in_width + x + place % shape.window
}

/// Returns the output pixels whose windows have an input pixel, and its position in them.
fn windows_with(shape: PoolShape, pixel: usize) -> impl Iterator<Item = (usize, u8)> {
    let [row, column] = [pixel / shape.in_width, pixel % shape.in_width];
    // The first window is the first one that does not end before the pixel.
    let windows = move |at: usize, count: usize| -> Range<usize> {
        (at + 1).saturating_sub(shape.window).div_ceil(shape.stride)..count.min(at / shape.stride + 1)
    };
    windows(row, shape.out_height).flat_map(move |y| {
        windows(column, shape.out_width).map(move |x| {
            let place = (row - y * shape.stride) * shape.window + column - x * shape.stride;
            (y * shape.out_width + x, place as u8)
        })
    })
}

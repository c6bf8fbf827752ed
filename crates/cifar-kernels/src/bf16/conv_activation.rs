//! Convolutions in `f32`, with bias and activation, whose results are rounded to bf16. They serve
//! first layers on pixels, whose few channels gain nothing from products in bf16.

use std::ops::Range;

use rayon::prelude::*;

use super::blocked::SIDE;
use super::gelu::with_rounded_function;
use super::rows::{Row, load, row, store, vectors, widened};
use super::{Bf16, BlockedShape, stream};
use crate::error::{Result, check_len};
use crate::generic::activation::Function;
use crate::generic::im2col::{ActivatedConv, FilterGradient};
use crate::generic::on_isa;
use crate::generic::shared::Shared;
use crate::isa::Simd;
use crate::{Activation, Buffer, Conv2dShape};

/// Pixels of an image that are computed at a time: their values stay in the first-level cache.
const PIXELS: usize = 32;
/// Pixels of a task, which computes them for a group of images.
const BAND: usize = 8 * PIXELS;

/// Computes [`conv2d_activation_forward`](crate::conv2d_activation_forward) in `f32`, with GELU as in
/// [`activation_forward`](super::activation_forward), and rounds the result to bf16.
///
/// `input` is `[images, height, width, in_channels]`. `output` has the blocked layout of
/// [`BlockedShape::of_output`].
///
/// # Errors
/// If a slice has the wrong length.
///
/// ```
/// use cifar_kernels::bf16::{self, Bf16, BlockedShape};
/// use cifar_kernels::{Activation, Conv2dDimensions, Conv2dShape};
///
/// let shape = Conv2dShape::new(Conv2dDimensions {
///     images: 1,
///     height: 1,
///     width: 2,
///     in_channels: 1,
///     out_channels: 1,
///     kernel: 1,
///     stride: 1,
///     padding: 0,
/// })?;
/// let to = BlockedShape::of_output(&shape)?;
/// let (input, weight, bias, relu) = ([1.0, 3.0], [1.0], [-2.0], Activation::Relu);
/// let mut output = vec![Bf16::NAN; to.len()];
/// bf16::conv2d_activation_forward(&shape, &input, &weight, &bias, relu, &mut output)?;
/// let mut values = [0.0; 2];
/// bf16::from_blocked(&to, &output, &mut values)?;
/// assert_eq!(values, [0.0, 1.0]);
///
/// // With the output as its own gradient.
/// let mut of_bias = [0.0];
/// bf16::conv2d_activation_bias_gradient(&shape, &input, &weight, &bias, relu, &output, &mut of_bias)?;
/// assert_eq!(of_bias, [1.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn conv2d_activation_forward(
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    output: &mut [Bf16],
) -> Result<()> {
    const OP: &str = "bf16::conv2d_activation_forward";
    let y = check(OP, shape, input, weight, bias)?;
    check_len(OP, "output", output, y.len())?;
    on_isa!(forward, shape, y, input, weight, bias, activation, output);
    Ok(())
}

/// Computes the gradient of [`conv2d_activation_forward`] with respect to the bias alone, for
/// filters that are not trained. `output_grad` is blocked; all sums are in `f32` or `f64`.
///
/// # Errors
/// If a slice has the wrong length.
pub fn conv2d_activation_bias_gradient(
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    output_grad: &[Bf16],
    bias_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "bf16::conv2d_activation_bias_gradient";
    let y = check(OP, shape, input, weight, bias)?;
    check_len(OP, "output_grad", output_grad, y.len())?;
    check_len(OP, "bias_grad", bias_grad, shape.out_channels)?;
    on_isa!(bias_gradient, shape, y, input, weight, bias, activation, output_grad, bias_grad);
    Ok(())
}

/// Computes the gradient of [`conv2d_activation_forward`] with respect to the filters, without an
/// activation. Products and sums are in `f32`. `input` is as there; `output_grad` is blocked.
///
/// # Errors
/// If a slice has the wrong length.
///
/// ```
/// use cifar_kernels::bf16::{self, BlockedShape};
/// use cifar_kernels::{Conv2dDimensions, Conv2dShape};
///
/// let shape = Conv2dShape::new(Conv2dDimensions {
///     images: 2,
///     height: 1,
///     width: 1,
///     in_channels: 1,
///     out_channels: 1,
///     kernel: 1,
///     stride: 1,
///     padding: 0,
/// })?;
/// let y = BlockedShape::of_output(&shape)?;
/// let mut output_grad = vec![bf16::Bf16::ZERO; y.len()];
/// bf16::to_blocked(&y, &[10.0, 1.0], &mut output_grad)?;
/// let mut weight_grad = [0.0];
/// bf16::conv2d_weight_gradient_f32(&shape, &[2.0, 3.0], &output_grad, &mut weight_grad)?;
/// assert_eq!(weight_grad, [23.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn conv2d_weight_gradient_f32(
    shape: &Conv2dShape,
    input: &[f32],
    output_grad: &[Bf16],
    weight_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "bf16::conv2d_weight_gradient_f32";
    let y = BlockedShape::of_output(shape)?;
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "output_grad", output_grad, y.len())?;
    check_len(OP, "weight_grad", weight_grad, shape.weight_len())?;
    on_isa!(weight_gradient, shape, y, input, output_grad, weight_grad);
    Ok(())
}

/// Checks the lengths of the arguments, and returns the shape of the output.
fn check(op: &'static str, shape: &Conv2dShape, input: &[f32], weight: &[f32], bias: &[f32]) -> Result<BlockedShape> {
    check_len(op, "input", input, shape.input_len())?;
    check_len(op, "weight", weight, shape.weight_len())?;
    check_len(op, "bias", bias, shape.out_channels)?;
    BlockedShape::of_output(shape)
}

fn forward<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    y: BlockedShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    output: &mut [Bf16],
) {
    with_rounded_function!(activation, forward_with(s, shape, y, input, weight, bias, output));
}

fn forward_with<S: Simd, F: Function>(
    s: S,
    f: F,
    shape: &Conv2dShape,
    y: BlockedShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [Bf16],
) {
    const { assert!(PIXELS <= ActivatedConv::<S, F>::WINDOWS, "the pixels are computed at a time") };
    let layer = ActivatedConv::new(s, f, shape, input, weight, Some(bias));
    let output = Shared::new(output.as_chunks_mut::<SIDE>().0);
    tasks(y).for_each(|Task { group, band }| {
        // SAFETY: this task alone has the rows of these images and pixels.
        let row = |pixel, block, image| unsafe { &mut *output.at(row_at(y, group, pixel, block) + image) };
        let (mut values, [images, _]) = (values_of_piece(y), y.filled(group, 0));
        for (image, pixels) in pieces(images, &band) {
            layer.values(windows(y, group, image, &pixels), &mut values[..pixels.len() * y.channels]);
            s.vectorize(
                #[inline(always)]
                || {
                    for (at, pixel) in pixels.enumerate() {
                        for block in 0..y.blocks() {
                            let [_, channels] = y.filled(group, block);
                            let mut rounded = [Bf16::ZERO; SIDE];
                            for (channel, value) in row_of(&values, y, at, block).iter().enumerate() {
                                let value = Bf16::from_f32(*value);
                                rounded[channel] = if channel < channels { value } else { Bf16::ZERO };
                            }
                            stream::copy(&rounded, row(pixel, block, image));
                        }
                    }
                },
            );
        }
        stream::finish();
        for pixel in band {
            (0..y.blocks()).for_each(|block| (images..SIDE).for_each(|image| *row(pixel, block, image) = ZEROS));
        }
    });
}

/// A row beyond the last image.
const ZEROS: [Bf16; SIDE] = [Bf16::ZERO; SIDE];

fn bias_gradient<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    y: BlockedShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    output_grad: &[Bf16],
    bias_grad: &mut [f32],
) {
    with_rounded_function!(activation, bias_gradient_with(s, shape, y, input, weight, bias, output_grad, bias_grad));
}

fn bias_gradient_with<S: Simd, F: Function>(
    s: S,
    f: F,
    shape: &Conv2dShape,
    y: BlockedShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output_grad: &[Bf16],
    bias_grad: &mut [f32],
) {
    let layer = ActivatedConv::new(s, f, shape, input, weight, Some(bias));
    // One sum per task; they are added in order.
    let of_task = |Task { group, band }: Task| {
        let (mut total, mut sums) = (vec![[0.0; SIDE]; y.blocks()], vec![[0.0_f32; SIDE]; y.blocks()]);
        let (mut slopes, [images, _]) = (values_of_piece(y), y.filled(group, 0));
        for (image, pixels) in pieces(images, &band) {
            layer.slopes(windows(y, group, image, &pixels), &mut slopes[..pixels.len() * y.channels]);
            sums.fill([0.0; SIDE]);
            s.vectorize(
                #[inline(always)]
                || {
                    for (at, pixel) in pixels.enumerate() {
                        for (block, sums) in sums.iter_mut().enumerate() {
                            let place = row_at(y, group, pixel, block) + image;
                            let (grads, slopes) = (widened(row(output_grad, place)), row_of(&slopes, y, at, block));
                            // The rows are far from each other: that of the next piece arrives while
                            // its slopes are computed.
                            let next = (place + PIXELS * SIDE) * SIDE;
                            s.prefetch(output_grad.as_ptr().wrapping_add(next).cast());
                            for channel in vectors::<S>() {
                                let [slope, grad] = [slopes, &grads].map(|row| load(s, row, channel));
                                let sum = load(s, sums, channel);
                                store(s, sums, channel, s.mul_add(slope, grad, sum));
                            }
                        }
                    }
                },
            );
            for (total, sum) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                *total += f64::from(*sum);
            }
        }
        total
    };
    let totals: Vec<Vec<[f64; SIDE]>> = tasks(y).map(of_task).collect();
    for (channel, grad) in bias_grad.iter_mut().enumerate() {
        *grad = totals.iter().map(|sums| sums[channel / SIDE][channel % SIDE]).sum::<f64>() as f32;
    }
}

fn weight_gradient<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    y: BlockedShape,
    input: &[f32],
    output_grad: &[Bf16],
    weight_grad: &mut [f32],
) {
    let of_windows = FilterGradient::new(s, shape, input);
    // One sum per task; they are added in order.
    let of_task = |Task { group, band }: Task| {
        let mut sum = vec![0.0; shape.weight_len()];
        let (mut grads, [images, _]) = (values_of_piece(y), y.filled(group, 0));
        for (image, pixels) in pieces(images, &band) {
            let (windows, count) = (windows(y, group, image, &pixels), pixels.len());
            s.vectorize(
                #[inline(always)]
                || {
                    for (at, pixel) in pixels.enumerate() {
                        // Values beyond the last channel are overwritten by those of the next pixel.
                        for block in 0..y.blocks() {
                            let place = row_at(y, group, pixel, block) + image;
                            let next = (place + PIXELS * SIDE) * SIDE;
                            s.prefetch(output_grad.as_ptr().wrapping_add(next).cast());
                            let to = &mut grads[at * y.channels + block * SIDE..][..SIDE];
                            to.copy_from_slice(&widened(row(output_grad, place)));
                        }
                    }
                },
            );
            of_windows.add(windows, &grads[..count * y.channels], &mut sum);
        }
        sum
    };
    let sums: Vec<Vec<f32>> = tasks(y).map(of_task).collect();
    for (at, grad) in weight_grad.iter_mut().enumerate() {
        let sum = sums.iter().map(|sums| f64::from(sums[at])).sum::<f64>() as f32;
        *grad = if sum.is_nan() { f32::NAN } else { sum };
    }
}

/// Some pixels of a group of images. The division depends on the shape alone, as the order of sums
/// depends on it.
struct Task {
    group: usize,
    band: Range<usize>,
}

fn tasks(y: BlockedShape) -> impl IndexedParallelIterator<Item = Task> {
    let bands = y.pixels.div_ceil(BAND);
    (0..y.groups() * bands).into_par_iter().map(move |task| {
        let first = task % bands * BAND;
        Task { group: task / bands, band: first..y.pixels.min(first + BAND) }
    })
}

/// Returns the images, each with some pixels of a band at a time.
fn pieces(images: usize, band: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
    let (start, end) = (band.start, band.end);
    (0..images)
        .flat_map(move |image| (start..end).step_by(PIXELS).map(move |first| (image, first..end.min(first + PIXELS))))
}

/// Returns the windows of pixels of an image, numbered over the whole batch.
fn windows(y: BlockedShape, group: usize, image: usize, pixels: &Range<usize>) -> Range<usize> {
    let first = (group * SIDE + image) * y.pixels;
    first + pixels.start..first + pixels.end
}

/// Returns where the rows of a block start, in rows.
#[inline(always)]
fn row_at(y: BlockedShape, group: usize, pixel: usize, block: usize) -> usize {
    ((group * y.blocks() + block) * y.pixels + pixel) * SIDE
}

/// Returns a buffer for the values of a piece, and 32 more, so that [`row_of`] can read whole rows at
/// the end.
fn values_of_piece(y: BlockedShape) -> Buffer<f32> {
    let mut values = Buffer::new(PIXELS * y.channels + SIDE);
    values.fill(0.0);
    values
}

/// Returns the values of 32 channels of a pixel. Beyond the last channel they have no meaning.
#[inline(always)]
fn row_of(values: &[f32], y: BlockedShape, pixel: usize, block: usize) -> &Row {
    values[pixel * y.channels + block * SIDE..].first_chunk().expect("there are 32 values after the last row")
}

//! Convolutions of any size and stride as matrix products (im2col): a block of windows is copied
//! into the rows of a matrix at a time.

mod cut;

use std::ops::Range;

use rayon::prelude::*;

use crate::generic::activation::{Function, with_function};
use crate::generic::matmul::{
    Columns, Rows, Target, multiply, multiply_transposed, pack, pack_transposed, packed_len, row_offsets,
};
use crate::generic::scratch::with_scratch;
use crate::generic::shared::Shared;
use crate::isa::Simd;
use crate::{Activation, Buffer, Conv2dShape};

use cut::Cut;
pub(crate) use cut::check;

/// Computes f(convolution + bias).
pub(crate) fn forward<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    output: &mut [f32],
) {
    with_function!(activation, forward_with(s, shape, input, weight, bias, output));
}

fn forward_with<S: Simd, F: Function>(
    s: S,
    f: F,
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let (cut, o) = (Cut::new(shape), shape.out_channels);
    let packed = packed_filters::<S>(shape, weight);
    let offsets = cut.offsets();
    let is_linear = F::IS_IDENTITY && bias.is_none();
    let bias = whole_vectors::<S>(bias.unwrap_or(&vec![0.0; o]));
    output.par_chunks_mut(cut.group * cut.windows * o).enumerate().for_each(|(task, output)| {
        let all = cut.windows(task);
        for windows in cut.blocks(all.clone()) {
            let out = &mut output[(windows.start - all.start) * o..(windows.end - all.start) * o];
            before_activation(s, &cut, windows, input, &packed, &offsets, out);
            if is_linear {
                continue;
            }
            s.vectorize(
                #[inline(always)]
                || {
                    add_and_apply(
                        s,
                        &bias,
                        out,
                        #[inline(always)]
                        |z| f.value(s, z),
                    );
                },
            );
        }
    });
}

/// Computes the gradient of [`forward`] with respect to the bias.
pub(crate) fn activation_bias_gradient<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    output_grad: &[f32],
    bias_grad: &mut [f32],
) {
    with_function!(activation, bias_gradient_with(s, shape, input, weight, bias, output_grad, bias_grad));
}

fn bias_gradient_with<S: Simd, F: Function>(
    s: S,
    f: F,
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output_grad: &[f32],
    bias_grad: &mut [f32],
) {
    let (cut, o) = (Cut::new(shape), shape.out_channels);
    let packed = packed_filters::<S>(shape, weight);
    let offsets = cut.offsets();
    let bias = whole_vectors::<S>(bias);
    // One sum per task; they are added in order.
    let sums: Vec<Vec<f64>> = (0..cut.tasks())
        .into_par_iter()
        .map(|task| {
            let mut total = vec![0.0; o];
            let mut sums = vec![0.0f32; o];
            let mut before = Buffer::new(cut.block * o);
            for windows in cut.blocks(cut.windows(task)) {
                let before = &mut before[..windows.len() * o];
                before_activation(s, &cut, windows.clone(), input, &packed, &offsets, before);
                sums.fill(0.0);
                let grads = &output_grad[windows.start * o..windows.end * o];
                s.vectorize(
                    #[inline(always)]
                    || {
                        add_and_apply(
                            s,
                            &bias,
                            before,
                            #[inline(always)]
                            |z| f.slope(s, z),
                        );
                        for (slope, grad) in before.chunks_exact(o).zip(grads.chunks_exact(o)) {
                            let vectors = slope.chunks(S::LANES).zip(grad.chunks(S::LANES));
                            for ((slope, grad), sum) in vectors.zip(sums.chunks_mut(S::LANES)) {
                                let n = slope.len();
                                // SAFETY: the three chunks have `n` values each.
                                unsafe {
                                    let slope = s.load_first(slope.as_ptr(), n);
                                    let grad = s.load_first(grad.as_ptr(), n);
                                    let old = s.load_first(sum.as_ptr(), n);
                                    s.store_first(sum.as_mut_ptr(), s.mul_add(grad, slope, old), n);
                                }
                            }
                        }
                    },
                );
                for (total, sum) in total.iter_mut().zip(&sums) {
                    *total += f64::from(*sum);
                }
            }
            total
        })
        .collect();
    for (channel, grad) in bias_grad.iter_mut().enumerate() {
        *grad = sums.iter().map(|sums| sums[channel]).sum::<f64>() as f32;
    }
}

/// Returns the bias of as many pixels as fill whole vectors together.
fn whole_vectors<S: Simd>(bias: &[f32]) -> Vec<f32> {
    let pixels = (1..=S::LANES).find(|pixels| (pixels * bias.len()).is_multiple_of(S::LANES));
    bias.repeat(pixels.expect("as many pixels as lanes fill whole vectors"))
}

/// Replaces the values of pixels by `f(value + bias)`.
#[inline(always)]
fn add_and_apply<S: Simd>(s: S, bias: &[f32], pixels: &mut [f32], f: impl Fn(S::V) -> S::V) {
    for values in pixels.chunks_mut(bias.len()) {
        for (value, bias) in values.chunks_mut(S::LANES).zip(bias.chunks(S::LANES)) {
            let n = value.len();
            // SAFETY: both chunks have at least `n` values.
            unsafe {
                let sum = s.add(s.load_first(value.as_ptr(), n), s.load_first(bias.as_ptr(), n));
                s.store_first(value.as_mut_ptr(), f(sum), n);
            }
        }
    }
}

fn packed_filters<S: Simd>(shape: &Conv2dShape, weight: &[f32]) -> Buffer<f32> {
    let (window, o) = (shape.window(), shape.out_channels);
    let mut packed = Buffer::new(packed_len::<S>(window, o));
    pack::<S>(weight, window, o, o, &mut packed);
    packed
}

/// Computes the convolution at some windows.
fn before_activation<S: Simd>(
    s: S,
    cut: &Cut,
    windows: Range<usize>,
    input: &[f32],
    packed: &[f32],
    offsets: &[u32],
    out: &mut [f32],
) {
    let (window, o, count) = (cut.shape.window(), cut.shape.out_channels, windows.len());
    with_scratch([count * window], |[laid_out]| {
        cut.gather(s, windows, input, laid_out);
        let a = Rows { base: laid_out.as_ptr(), offsets: &offsets[..count] };
        let c = Target { base: out.as_mut_ptr(), stride: o, padded: false, add: false };
        // SAFETY: `laid_out` has `count` windows, `out` has as many pixels, and `packed` is a whole
        // matrix.
        unsafe { multiply(s, a, window, packed.as_ptr(), o, c) };
    });
}

pub(crate) fn input_gradient<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    output_grad: &[f32],
    weight: &[f32],
    input_grad: &mut [f32],
) {
    let (cut, window, o) = (Cut::new(shape), shape.window(), shape.out_channels);
    let mut packed = Buffer::new(packed_len::<S>(o, window));
    pack_transposed::<S>(weight, o, window, o, &mut packed);
    let offsets = row_offsets(cut.block, o);
    let image = shape.input_len() / shape.batch;
    let images = Shared::new(input_grad);
    (0..cut.tasks()).into_par_iter().for_each(|task| {
        let all = cut.windows(task);
        let (first, last) = (all.start / cut.windows, all.end / cut.windows);
        // SAFETY: each task owns its images.
        unsafe { std::ptr::write_bytes(images.at(first * image), 0, (last - first) * image) };
        for windows in cut.blocks(all) {
            with_scratch([windows.len() * window], |[laid_out]| {
                let grads = &output_grad[windows.start * o..windows.end * o];
                let a = Rows { base: grads.as_ptr(), offsets: &offsets[..windows.len()] };
                let c = Target { base: laid_out.as_mut_ptr(), stride: window, padded: false, add: false };
                // SAFETY: `grads` has as many pixels as `laid_out` has windows; otherwise as above.
                unsafe {
                    multiply(s, a, o, packed.as_ptr(), window, c);
                    cut.scatter_add(s, windows, laid_out, images);
                }
            });
        }
    });
}

pub(crate) fn weight_gradient<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    input: &[f32],
    output_grad: &[f32],
    weight_grad: &mut [f32],
) {
    /// Total number of values of the partial sums, and the minimum and maximum number of sums.
    const SUMMED: usize = 1 << 20;
    const SUMS: [usize; 2] = [4, 16];
    let (cut, window, o) = (Cut::new(shape), shape.window(), shape.out_channels);
    let offsets = cut.offsets();
    let tasks = cut.tasks();
    // Depends only on the shape, since the order of additions determines the bits.
    let sums = (SUMMED / shape.weight_len()).clamp(SUMS[0], SUMS[1]).min(tasks);
    let mut partial = Buffer::new(sums * shape.weight_len());
    partial.par_chunks_mut(shape.weight_len()).enumerate().for_each(|(part, sum)| {
        sum.fill(0.0);
        for windows in (tasks * part / sums..tasks * (part + 1) / sums).flat_map(|task| cut.blocks(cut.windows(task))) {
            with_scratch([windows.len() * window], |[laid_out]| {
                cut.gather(s, windows.clone(), input, laid_out);
                let grads = &output_grad[windows.start * o..windows.end * o];
                let a = Rows { base: laid_out.as_ptr(), offsets: &offsets[..windows.len()] };
                let b = Columns { base: grads.as_ptr(), stride: o, padded: false };
                let c = Target { base: sum.as_mut_ptr(), stride: o, padded: false, add: true };
                // SAFETY: `grads` has as many pixels as `laid_out` has windows, and `sum` is a
                // whole matrix.
                unsafe { multiply_transposed(s, a, window, b, o, c) };
            });
        }
    });
    let len = weight_grad.len();
    weight_grad.par_chunks_mut(super::reduce::CHUNK).enumerate().for_each(|(chunk, grads)| {
        let start = chunk * super::reduce::CHUNK;
        s.vectorize(
            #[inline(always)]
            || {
                grads.copy_from_slice(&partial[start..start + grads.len()]);
                for part in 1..sums {
                    let from = part * len + start;
                    for (grad, value) in grads.iter_mut().zip(&partial[from..]) {
                        *grad += value;
                    }
                }
            },
        );
    });
}

//! Convolutions of any size and stride as matrix products (im2col): a block of windows is copied
//! into the rows of a matrix at a time. The forward pass reads windows without padding where they
//! are, if it can ([`direct`]).

mod cut;
mod direct;

use std::ops::Range;

use rayon::prelude::*;

use crate::generic::activation::{Function, with_function};
use crate::generic::matmul::{
    Columns, Rows, Target, multiply, multiply_runs, multiply_transposed, pack, pack_transposed, packed_len, row_offsets,
};
use crate::generic::scratch::with_scratch;
use crate::generic::shared::Shared;
use crate::isa::Simd;
use crate::{Activation, Buffer, Conv2dShape};

use cut::Cut;
pub(crate) use cut::check;
use direct::Direct;

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
    let (layer, o) = (ActivatedConv::new(s, f, shape, input, weight, bias), shape.out_channels);
    let cut = &layer.cut;
    output.par_chunks_mut(cut.group * cut.windows * o).enumerate().for_each(|(task, output)| {
        let all = cut.windows(task);
        for windows in cut.blocks(all.clone()) {
            let out = &mut output[(windows.start - all.start) * o..(windows.end - all.start) * o];
            layer.values(windows, out);
        }
    });
}

/// A convolution with bias and activation, of which some windows are computed at a time.
pub(crate) struct ActivatedConv<'a, S, F> {
    s: S,
    f: F,
    cut: Cut<'a>,
    input: &'a [f32],
    packed: Buffer<f32>,
    offsets: Vec<u32>,
    direct: Option<Direct>,
    /// The bias of as many pixels as fill whole vectors together.
    bias: Vec<f32>,
    /// Whether there is neither a bias nor an activation.
    is_linear: bool,
}

impl<'a, S: Simd, F: Function> ActivatedConv<'a, S, F> {
    /// Windows that can be computed at a time, whatever the shape.
    pub(crate) const WINDOWS: usize = cut::WINDOWS[0];

    pub(crate) fn new(
        s: S,
        f: F,
        shape: &'a Conv2dShape,
        input: &'a [f32],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Self {
        let (cut, packed) = (Cut::new(shape), packed_filters::<S>(shape, weight));
        let (offsets, is_linear) = (cut.offsets(), F::IS_IDENTITY && bias.is_none());
        let bias = whole_vectors::<S>(bias.unwrap_or(&vec![0.0; shape.out_channels]));
        Self { s, f, input, packed, offsets, direct: Direct::new(shape), bias, is_linear, cut }
    }

    /// Computes f(convolution + bias) `[windows, out_channels]`.
    pub(crate) fn values(&self, windows: Range<usize>, values: &mut [f32]) {
        self.convolve(windows, values);
        if !self.is_linear {
            self.apply(
                values,
                #[inline(always)]
                |z| self.f.value(self.s, z),
            );
        }
    }

    /// Computes f′(convolution + bias) `[windows, out_channels]`.
    pub(crate) fn slopes(&self, windows: Range<usize>, slopes: &mut [f32]) {
        self.convolve(windows, slopes);
        self.apply(
            slopes,
            #[inline(always)]
            |z| self.f.slope(self.s, z),
        );
    }

    /// Computes the convolution.
    fn convolve(&self, windows: Range<usize>, out: &mut [f32]) {
        let (s, cut, count) = (self.s, &self.cut, windows.len());
        let (window, o, packed) = (cut.shape.window(), cut.shape.out_channels, self.packed.as_ptr());
        assert_eq!(out.len(), count * o, "there is room for all windows");
        let c = Target { base: out.as_mut_ptr(), stride: o, padded: false, add: false };
        if let Some(direct) = &self.direct
            && let Some((image, places)) = direct.places(cut, windows.clone())
        {
            let image = &self.input[image];
            let a = Rows { base: image.as_ptr(), offsets: places };
            // SAFETY: the places are those of windows in `image`, `out` has as many pixels, and
            // `packed` is a whole matrix.
            unsafe { multiply_runs(s, a, direct.runs, window, packed, o, c) };
            return;
        }
        with_scratch([count * window], |[laid_out]| {
            cut.gather(s, windows, self.input, laid_out);
            let a = Rows { base: laid_out.as_ptr(), offsets: &self.offsets[..count] };
            // SAFETY: `laid_out` has `count` windows; otherwise as above.
            unsafe { multiply(s, a, window, packed, o, c) };
        });
    }

    /// Replaces the values of pixels by `function(value + bias)`.
    #[inline(always)]
    fn apply(&self, pixels: &mut [f32], function: impl Fn(S::V) -> S::V) {
        self.s.vectorize(
            #[inline(always)]
            || add_and_apply(self.s, &self.bias, pixels, function),
        );
    }
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
    let (layer, o) = (ActivatedConv::new(s, f, shape, input, weight, Some(bias)), shape.out_channels);
    let cut = &layer.cut;
    // One sum per task; they are added in order.
    let sums: Vec<Vec<f64>> = (0..cut.tasks())
        .into_par_iter()
        .map(|task| {
            let mut total = vec![0.0; o];
            let mut sums = vec![0.0f32; o];
            let mut slopes = Buffer::new(cut.block * o);
            for windows in cut.blocks(cut.windows(task)) {
                let slopes = &mut slopes[..windows.len() * o];
                layer.slopes(windows.clone(), slopes);
                sums.fill(0.0);
                let grads = &output_grad[windows.start * o..windows.end * o];
                s.vectorize(
                    #[inline(always)]
                    || {
                        for (slope, grad) in slopes.chunks_exact(o).zip(grads.chunks_exact(o)) {
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

/// The gradient of the filters, as a sum over windows.
pub(crate) struct FilterGradient<'a, S> {
    s: S,
    cut: Cut<'a>,
    offsets: Vec<u32>,
    input: &'a [f32],
}

impl<'a, S: Simd> FilterGradient<'a, S> {
    pub(crate) fn new(s: S, shape: &'a Conv2dShape, input: &'a [f32]) -> Self {
        let cut = Cut::new(shape);
        Self { s, input, offsets: cut.offsets(), cut }
    }

    /// Adds the products of some windows with their gradients `[windows, out_channels]` to `sum`
    /// `[window, out_channels]`.
    pub(crate) fn add(&self, windows: Range<usize>, grads: &[f32], sum: &mut [f32]) {
        let (s, cut) = (self.s, &self.cut);
        let (window, o, first) = (cut.shape.window(), cut.shape.out_channels, windows.start);
        assert_eq!(sum.len(), cut.shape.weight_len(), "the sum is a whole matrix");
        for windows in cut.blocks(windows) {
            with_scratch([windows.len() * window], |[laid_out]| {
                cut.gather(s, windows.clone(), self.input, laid_out);
                let grads = &grads[(windows.start - first) * o..(windows.end - first) * o];
                let a = Rows { base: laid_out.as_ptr(), offsets: &self.offsets[..windows.len()] };
                let b = Columns { base: grads.as_ptr(), stride: o, padded: false };
                let c = Target { base: sum.as_mut_ptr(), stride: o, padded: false, add: true };
                // SAFETY: `grads` has as many pixels as `laid_out` has windows, and `sum` is a
                // whole matrix.
                unsafe { multiply_transposed(s, a, window, b, o, c) };
            });
        }
    }
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
    let (of_windows, o) = (FilterGradient::new(s, shape, input), shape.out_channels);
    let cut = &of_windows.cut;
    let tasks = cut.tasks();
    // Depends only on the shape, since the order of additions determines the bits.
    let sums = (SUMMED / shape.weight_len()).clamp(SUMS[0], SUMS[1]).min(tasks);
    let mut partial = Buffer::new(sums * shape.weight_len());
    partial.par_chunks_mut(shape.weight_len()).enumerate().for_each(|(part, sum)| {
        sum.fill(0.0);
        for windows in (tasks * part / sums..tasks * (part + 1) / sums).map(|task| cut.windows(task)) {
            of_windows.add(windows.clone(), &output_grad[windows.start * o..windows.end * o], sum);
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

//! Convolutions of any size and stride as matrix products: the windows of some output pixels are laid out as the rows of
//! a matrix (im2col), a block at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::activation::{Function, with_function};
use super::matmul::{
    Columns, Rows, Target, multiply, multiply_transposed, pack, pack_transposed, packed_len, row_offsets,
};
use super::scratch::with_scratch;
use super::shared::Shared;
use crate::arms::Simd;
use crate::error::{Result, check_offsets};
use crate::{Activation, Buffer, Conv2dShape};

/// Values of the windows that are laid out at once: they stay in the second-level cache.
const LAID_OUT: usize = 96 * 1024;
/// Windows at least and at most of a block: enough to pay for reading the filters.
const WINDOWS: [usize; 2] = [48, 256];

/// Refuses a convolution whose blocks are too large for the offsets of the matrix products.
pub(crate) fn check(op: &'static str, shape: &Conv2dShape) -> Result<()> {
    check_offsets(op, Cut::new(shape).block, shape.window().max(shape.out_channels))
}

/// A convolution, cut into tasks of whole images and blocks of windows.
struct Cut<'a> {
    shape: &'a Conv2dShape,
    /// Images of a task.
    group: usize,
    /// Windows of a block.
    block: usize,
    /// Windows of an image.
    windows: usize,
}

impl<'a> Cut<'a> {
    fn new(shape: &'a Conv2dShape) -> Self {
        let block = (LAID_OUT / shape.window()).clamp(WINDOWS[0], WINDOWS[1]);
        let windows = shape.out_height * shape.out_width;
        Self { shape, group: (block / windows).clamp(1, shape.batch), block, windows }
    }

    fn tasks(&self) -> usize {
        self.shape.batch.div_ceil(self.group)
    }

    /// The windows of task `task`, counted over the whole batch.
    fn windows(&self, task: usize) -> Range<usize> {
        let (first, images) = (task * self.group, self.group);
        first * self.windows..self.shape.batch.min(first + images) * self.windows
    }

    /// Blocks of windows, counted over the whole batch.
    fn blocks(&self, windows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (end, block) = (windows.end, self.block);
        windows.step_by(block).map(move |start| start..end.min(start + block))
    }

    /// Calls `inside(input range, window offset)` for every run of taps that lies inside of an image and `outside(range)`
    /// for what lies in the padding. A run is the part of one filter row that lies inside the image.
    #[inline(always)]
    fn for_each_run(
        &self,
        windows: Range<usize>,
        mut inside: impl FnMut(Range<usize>, usize),
        mut outside: impl FnMut(Range<usize>),
    ) {
        let shape = self.shape;
        let (c, k, window) = (shape.in_channels, shape.kernel, shape.window());
        let (mut image, at) = (windows.start / self.windows, windows.start % self.windows);
        let (mut y, mut x) = (at / shape.out_width, at % shape.out_width);
        for index in 0..windows.len() {
            // The window's left edge, in padded coordinates; columns first..last of the filter lie inside the image.
            let left = x * shape.stride;
            let first = shape.padding.saturating_sub(left).min(k);
            let last = (shape.in_width + shape.padding).saturating_sub(left).clamp(first, k);
            for i in 0..k {
                let start = index * window + i * k * c;
                let row = y * shape.stride + i;
                if first == last || row < shape.padding || row >= shape.in_height + shape.padding {
                    outside(start..start + k * c);
                    continue;
                }
                outside(start..start + first * c);
                let row = image * shape.in_height + row - shape.padding;
                let from = (row * shape.in_width + left + first - shape.padding) * c;
                inside(from..from + (last - first) * c, start + first * c);
                outside(start + last * c..start + k * c);
            }
            x += 1;
            if x == shape.out_width {
                (x, y) = (0, y + 1);
            }
            if y == shape.out_height {
                (y, image) = (0, image + 1);
            }
        }
    }

    /// Lays out some windows.
    fn gather<S: Simd>(&self, s: S, windows: Range<usize>, images: &[f32], laid_out: &mut [f32]) {
        let to = Shared::new(laid_out);
        let len = laid_out.len();
        assert_eq!(len, windows.len() * self.shape.window(), "every window has its place");
        s.vectorize(
            #[inline(always)]
            || {
                self.for_each_run(
                    windows,
                    #[inline(always)]
                    |from, at| {
                        let run = &images[from];
                        // SAFETY: runs lie within their window, and the windows are all there.
                        unsafe { copy(s, run.as_ptr(), to.at(at), run.len()) };
                    },
                    #[inline(always)]
                    |padding| {
                        // SAFETY: as above.
                        unsafe { std::ptr::write_bytes(to.at(padding.start), 0, padding.len()) };
                    },
                );
            },
        );
    }

    /// Adds laid-out windows to the pixels that they came from.
    ///
    /// # Safety
    /// Nobody else may use the images that the windows belong to.
    unsafe fn scatter_add<S: Simd>(&self, s: S, windows: Range<usize>, laid_out: &[f32], images: Shared<f32>) {
        s.vectorize(
            #[inline(always)]
            || {
                self.for_each_run(
                    windows,
                    #[inline(always)]
                    |to, at| {
                        let run = &laid_out[at..at + to.len()];
                        for (index, from) in run.chunks(S::LANES).enumerate() {
                            let pixel = images.at(to.start + index * S::LANES);
                            // SAFETY: the run lies in an image, which is this caller's.
                            unsafe {
                                let sum =
                                    s.add(s.load_first(pixel, from.len()), s.load_first(from.as_ptr(), from.len()));
                                s.store_first(pixel, sum, from.len());
                            }
                        }
                    },
                    |_| {},
                );
            },
        );
    }

    /// Where laid-out windows begin.
    fn offsets(&self) -> Vec<u32> {
        row_offsets(self.block, self.shape.window())
    }
}

/// Copies a run, most of which are short.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, to: *mut f32, len: usize) {
    let mut at = 0;
    // SAFETY: the caller vouches for `len` values at both ends.
    unsafe {
        while at + S::LANES <= len {
            s.store(to.add(at), s.load(from.add(at)));
            at += S::LANES;
        }
        if at < len {
            s.store_first(to.add(at), s.load_first(from.add(at), len - at), len - at);
        }
    }
}

/// f(convolution + bias).
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
    output.par_chunks_mut(cut.group * cut.windows * o).enumerate().for_each(|(task, output)| {
        let all = cut.windows(task);
        for windows in cut.blocks(all.clone()) {
            let out = &mut output[(windows.start - all.start) * o..(windows.end - all.start) * o];
            before_activation(s, &cut, windows, input, &packed, &offsets, out);
            if F::IS_IDENTITY && bias.is_none() {
                continue;
            }
            s.vectorize(
                #[inline(always)]
                || {
                    let zeros = vec![0.0; o];
                    let bias = bias.unwrap_or(&zeros);
                    for pixel in out.chunks_exact_mut(o) {
                        for (y, b) in pixel.chunks_mut(S::LANES).zip(bias.chunks(S::LANES)) {
                            // SAFETY: both chunks have `b.len()` values.
                            unsafe {
                                let sum = s.add(s.load_first(y.as_ptr(), b.len()), s.load_first(b.as_ptr(), b.len()));
                                s.store_first(y.as_mut_ptr(), f.value(s, sum), b.len());
                            }
                        }
                    }
                },
            );
        }
    });
}

/// The gradient of [`forward`] with respect to the bias.
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
    // A sum a task; they join in order.
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
                        for (z, grad) in before.chunks_exact(o).zip(grads.chunks_exact(o)) {
                            let vectors = z.chunks(S::LANES).zip(grad.chunks(S::LANES)).zip(bias.chunks(S::LANES));
                            for (((z, grad), bias), sum) in vectors.zip(sums.chunks_mut(S::LANES)) {
                                let n = z.len();
                                // SAFETY: the four chunks have `n` values each.
                                unsafe {
                                    let z = s.add(s.load_first(z.as_ptr(), n), s.load_first(bias.as_ptr(), n));
                                    let grad = s.load_first(grad.as_ptr(), n);
                                    let old = s.load_first(sum.as_ptr(), n);
                                    s.store_first(sum.as_mut_ptr(), s.mul_add(grad, f.slope(s, z), old), n);
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

fn packed_filters<S: Simd>(shape: &Conv2dShape, weight: &[f32]) -> Buffer<f32> {
    let (window, o) = (shape.window(), shape.out_channels);
    let mut packed = Buffer::new(packed_len::<S>(window, o));
    pack::<S>(weight, window, o, o, &mut packed);
    packed
}

/// The convolution at some windows.
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
        // SAFETY: there are `count` windows in `laid_out`, as many pixels in `out`, and a whole matrix in `packed`.
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
        // SAFETY: a task has images of its own.
        unsafe { std::ptr::write_bytes(images.at(first * image), 0, (last - first) * image) };
        for windows in cut.blocks(all) {
            with_scratch([windows.len() * window], |[laid_out]| {
                let grads = &output_grad[windows.start * o..windows.end * o];
                let a = Rows { base: grads.as_ptr(), offsets: &offsets[..windows.len()] };
                let c = Target { base: laid_out.as_mut_ptr(), stride: window, padded: false, add: false };
                // SAFETY: there are as many pixels in `grads` as windows in `laid_out`; and as above.
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
    /// Partial sums take up about so many values together, within these numbers of sums.
    const SUMMED: usize = 1 << 20;
    const SUMS: [usize; 2] = [4, 16];
    let (cut, window, o) = (Cut::new(shape), shape.window(), shape.out_channels);
    let offsets = cut.offsets();
    let tasks = cut.tasks();
    // By the shape alone: the order of additions decides the bits.
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
                // SAFETY: there are as many pixels in `grads` as windows in `laid_out`, and `sum` is a whole matrix.
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

//! Batch norm: two passes forward (statistics, values) and two backward (sums, values).
//! Max pooling after it takes part in the passes over values and gradients.

mod output_gradient;

use std::ops::Range;

use rayon::prelude::*;

pub(crate) use output_gradient::{Dense, OutputGradient, Pooled};

use super::activation::{Function, with_function};
use super::reduce::CHUNK;
use super::shared::Shared;
use crate::isa::Simd;
use crate::{Activation, BatchNormGradients, BatchStatistics, PoolShape};

/// Values that a task sums in `f32` before adding to the `f64` sums: a few hundred additions per
/// channel.
const SUMMED: usize = 16 * 1024;
/// Tasks per sum. The number is fixed, and so is the order of additions.
const TASKS: usize = 32;

/// Computes two sums over rows `[rows, channels]`. `add(row range, sums, other sums)` adds some
/// rows in `f32`.
fn sum_rows(rows: usize, channels: usize, add: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync) -> [Vec<f64>; 2] {
    let block = (SUMMED / channels).clamp(1, 256);
    let tasks = TASKS.min(rows.div_ceil(block));
    let partial: Vec<[Vec<f64>; 2]> = (0..tasks)
        .into_par_iter()
        .with_max_len(1)
        .map(|task| {
            let mut total = [vec![0.0; channels], vec![0.0; channels]];
            let mut sums = [vec![0.0; channels], vec![0.0; channels]];
            let (start, end) = (rows * task / tasks, rows * (task + 1) / tasks);
            for first in (start..end).step_by(block) {
                let [one, other] = &mut sums;
                one.fill(0.0);
                other.fill(0.0);
                add(first..end.min(first + block), one, other);
                for (total, sums) in total.iter_mut().zip(&sums) {
                    for (total, sum) in total.iter_mut().zip(sums) {
                        *total += f64::from(*sum);
                    }
                }
            }
            total
        })
        .collect();
    let mut total = [vec![0.0; channels], vec![0.0; channels]];
    for (total, column) in total.iter_mut().zip(0..) {
        for sums in &partial {
            for (total, sum) in total.iter_mut().zip(&sums[column as usize]) {
                *total += sum;
            }
        }
    }
    total
}

/// Computes the mean and variance of each channel. The sums are of distances from the mean of the
/// first rows, so that a large mean does not cause cancellation.
pub(crate) fn statistics<S: Simd>(s: S, rows: usize, channels: usize, input: &[f32], epsilon: f32) -> BatchStatistics {
    const FIRST: usize = 8;
    let first = FIRST.min(rows);
    let origin: Vec<f32> =
        (0..channels).map(|c| (0..first).map(|row| input[row * channels + c]).sum::<f32>() / first as f32).collect();
    let [sums, squares] = sum_rows(rows, channels, |range, sums, squares| {
        s.vectorize(
            #[inline(always)]
            || {
                for row in range {
                    for c in (0..channels).step_by(S::LANES) {
                        let n = S::LANES.min(channels - c);
                        // SAFETY: at least `n` channels remain from `c`, in every row of `range`
                        // and in all vectors.
                        unsafe {
                            let x = s.sub(load(s, input, row * channels + c, n), load(s, &origin, c, n));
                            store(s, sums, c, s.add(load(s, sums, c, n), x), n);
                            store(s, squares, c, s.mul_add(x, x, load(s, squares, c, n)), n);
                        }
                    }
                }
            },
        );
    });
    let n = rows as f64;
    let (mut mean, mut variance, mut inverse_std) = (vec![], vec![], vec![]);
    for ((origin, sum), square) in origin.iter().zip(sums).zip(squares) {
        let distance = sum / n;
        let v = (square / n - distance * distance).max(0.0);
        mean.push((f64::from(*origin) + distance) as f32);
        variance.push(v as f32);
        inverse_std.push((1.0 / (v + f64::from(epsilon)).sqrt()) as f32);
    }
    BatchStatistics { mean, variance, inverse_std }
}

/// Loads `n` values at index `at`.
///
/// # Safety
/// `values` has at least `at + n` elements.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, values: &[f32], at: usize, n: usize) -> S::V {
    debug_assert!(at + n <= values.len());
    // SAFETY: the caller guarantees the elements.
    unsafe {
        let from = values.as_ptr().add(at);
        if n == S::LANES { s.load(from) } else { s.load_first(from, n) }
    }
}

/// Stores `n` values at index `at`.
///
/// # Safety
/// `values` has at least `at + n` elements.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, values: &mut [f32], at: usize, v: S::V, n: usize) {
    debug_assert!(at + n <= values.len());
    // SAFETY: the caller guarantees the elements.
    unsafe {
        let to = values.as_mut_ptr().add(at);
        if n == S::LANES { s.store(to, v) } else { s.store_first(to, v, n) }
    }
}

/// The arguments of the forward pass.
pub(crate) struct Forward<'a> {
    pub(crate) channels: usize,
    pub(crate) input: &'a [f32],
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) statistics: &'a BatchStatistics,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<&'a [f32]>,
}

/// The parameters of one vector of channels.
struct Channels<V> {
    mean: V,
    inverse_std: V,
    scale: V,
    shift: V,
}

impl Forward<'_> {
    /// Loads the parameters of `n` channels from `c`.
    ///
    /// # Safety
    /// At least `n` channels remain from `c`.
    #[inline(always)]
    unsafe fn channels<S: Simd>(&self, s: S, c: usize, n: usize) -> Channels<S::V> {
        // SAFETY: the caller guarantees the channels; the entry point checked the lengths.
        unsafe {
            Channels {
                mean: load(s, &self.statistics.mean, c, n),
                inverse_std: load(s, &self.statistics.inverse_std, c, n),
                scale: load(s, self.scale, c, n),
                shift: load(s, self.shift, c, n),
            }
        }
    }

    /// Returns the normalised input at `at` and the value before the activation.
    ///
    /// # Safety
    /// The input has at least `at + n` values.
    #[inline(always)]
    unsafe fn normalised<S: Simd>(&self, s: S, k: &Channels<S::V>, at: usize, n: usize) -> (S::V, S::V) {
        // SAFETY: the caller guarantees the values.
        unsafe {
            let x = s.mul(s.sub(load(s, self.input, at, n), k.mean), k.inverse_std);
            let z = s.mul_add(x, k.scale, k.shift);
            (x, self.residual.map_or(z, |residual| s.add(z, load(s, residual, at, n))))
        }
    }

    /// Returns the output at `at`.
    ///
    /// # Safety
    /// The input has at least `at + n` values.
    #[inline(always)]
    unsafe fn value<S: Simd, F: Function>(&self, s: S, f: F, k: &Channels<S::V>, at: usize, n: usize) -> S::V {
        // SAFETY: the caller guarantees the values.
        f.value(s, unsafe { self.normalised(s, k, at, n).1 })
    }

    /// Returns the number of rows per task where each output depends only on its own inputs.
    fn rows_a_task(&self) -> usize {
        (CHUNK / self.channels).max(1)
    }
}

pub(crate) fn apply<S: Simd>(s: S, forward: &Forward, output: &mut [f32]) {
    with_function!(forward.activation, apply_with(s, forward, output));
}

fn apply_with<S: Simd, F: Function>(s: S, f: F, forward: &Forward, output: &mut [f32]) {
    let (channels, rows) = (forward.channels, forward.rows_a_task());
    output.par_chunks_mut(rows * channels).enumerate().for_each(|(task, output)| {
        s.vectorize(
            #[inline(always)]
            || {
                for row in 0..output.len() / channels {
                    for c in (0..channels).step_by(S::LANES) {
                        let n = S::LANES.min(channels - c);
                        let at = (task * rows + row) * channels + c;
                        // SAFETY: at least `n` channels remain from `c`, and `row` is in all
                        // slices.
                        unsafe {
                            let value = forward.value(s, f, &forward.channels(s, c, n), at, n);
                            store(s, output, row * channels + c, value, n);
                        }
                    }
                }
            },
        );
    });
}

/// Like [`apply`], followed by max pooling over windows that do not overlap. `places` receives the
/// position of each maximum.
pub(crate) fn apply_pooled<S: Simd>(s: S, forward: &Forward, shape: &PoolShape, output: &mut [f32], places: &mut [u8]) {
    with_function!(forward.activation, apply_pooled_with(s, forward, shape, output, places));
}

fn apply_pooled_with<S: Simd, F: Function>(
    s: S,
    f: F,
    forward: &Forward,
    shape: &PoolShape,
    output: &mut [f32],
    places: &mut [u8],
) {
    let (channels, window) = (forward.channels, shape.window);
    let row_len = shape.out_width * channels;
    output.par_chunks_mut(row_len).zip(places.par_chunks_mut(row_len)).enumerate().for_each(
        |(row, (output, places))| {
            let (image, y) = (row / shape.out_height, row % shape.out_height);
            s.vectorize(
                #[inline(always)]
                || {
                    for x in 0..shape.out_width {
                        let first = ((image * shape.in_height + y * window) * shape.in_width + x * window) * channels;
                        for c in (0..channels).step_by(S::LANES) {
                            let n = S::LANES.min(channels - c);
                            // SAFETY: at least `n` channels remain from `c`. The window is inside
                            // the image, whose values the entry point counted, and `x` inside the
                            // row.
                            unsafe {
                                let k = forward.channels(s, c, n);
                                let at = |i: usize, j: usize| first + (i * shape.in_width + j) * channels + c;
                                let (mut best, mut place) = (forward.value(s, f, &k, at(0, 0), n), s.splat(0.0));
                                for i in 0..window {
                                    for j in usize::from(i == 0)..window {
                                        let (value, here) = (forward.value(s, f, &k, at(i, j), n), i * window + j);
                                        (best, place) = s.take_larger(best, place, value, s.splat(here as f32));
                                    }
                                }
                                store(s, output, x * channels + c, best, n);
                                s.store_bytes(places.as_mut_ptr().add(x * channels + c), place, n);
                            }
                        }
                    }
                },
            );
        },
    );
}

pub(crate) fn backward<S: Simd>(
    s: S,
    forward: &Forward,
    output_grad: impl OutputGradient,
    gradients: BatchNormGradients,
) {
    with_function!(forward.activation, backward_with(s, forward, output_grad, gradients));
}

fn backward_with<S: Simd, F: Function>(
    s: S,
    f: F,
    forward: &Forward,
    output_grad: impl OutputGradient,
    gradients: BatchNormGradients,
) {
    let channels = forward.channels;
    let rows = forward.input.len() / channels;
    // The gradient before the activation is also that of the residual. Without a residual it is
    // computed twice, which costs less than writing and reading it.
    let kept = gradients.residual.map(Shared::new);
    let [sums, products] = sum_rows(rows, channels, |range, sums, products| {
        s.vectorize(
            #[inline(always)]
            || {
                let mut of_row = output_grad.row(range.start);
                for row in range {
                    for c in (0..channels).step_by(S::LANES) {
                        let n = S::LANES.min(channels - c);
                        let at = row * channels + c;
                        // SAFETY: at least `n` channels remain from `c`; this task owns the rows of
                        // `range`.
                        unsafe {
                            let (x, z) = forward.normalised(s, &forward.channels(s, c, n), at, n);
                            let grad = s.mul(output_grad.load(s, &of_row, c, n), f.slope(s, z));
                            if let Some(kept) = kept {
                                s.store_first(kept.at(at), grad, n);
                            }
                            store(s, sums, c, s.add(load(s, sums, c, n), grad), n);
                            store(s, products, c, s.mul_add(grad, x, load(s, products, c, n)), n);
                        }
                    }
                    output_grad.advance(&mut of_row);
                }
            },
        );
    });
    let n = rows as f64;
    let mean_grad: Vec<f32> = sums.iter().map(|s| (s / n) as f32).collect();
    let mean_product: Vec<f32> = products.iter().map(|p| (p / n) as f32).collect();
    let factor: Vec<f32> = forward.scale.iter().zip(&forward.statistics.inverse_std).map(|(s, i)| s * i).collect();

    let rows = forward.rows_a_task();
    gradients.input.par_chunks_mut(rows * channels).enumerate().for_each(|(task, input_grad)| {
        s.vectorize(
            #[inline(always)]
            || {
                let mut of_row = output_grad.row(task * rows);
                for row in 0..input_grad.len() / channels {
                    for c in (0..channels).step_by(S::LANES) {
                        let n = S::LANES.min(channels - c);
                        let at = (task * rows + row) * channels + c;
                        // SAFETY: at least `n` channels remain from `c`, and `row` is in all
                        // slices. `kept` is no longer written.
                        unsafe {
                            let k = forward.channels(s, c, n);
                            let (x, grad) = if let Some(kept) = kept {
                                let x = s.mul(s.sub(load(s, forward.input, at, n), k.mean), k.inverse_std);
                                (x, s.load_first(kept.at(at), n))
                            } else {
                                let (x, z) = forward.normalised(s, &k, at, n);
                                (x, s.mul(output_grad.load(s, &of_row, c, n), f.slope(s, z)))
                            };
                            let centred = s.sub(grad, load(s, &mean_grad, c, n));
                            let centred = s.neg_mul_add(x, load(s, &mean_product, c, n), centred);
                            store(s, input_grad, row * channels + c, s.mul(load(s, &factor, c, n), centred), n);
                        }
                    }
                    output_grad.advance(&mut of_row);
                }
            },
        );
    });
    for c in 0..channels {
        (gradients.scale[c], gradients.shift[c]) = (products[c] as f32, sums[c] as f32);
    }
}

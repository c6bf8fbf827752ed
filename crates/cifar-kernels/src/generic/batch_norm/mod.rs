//! Batch norm: two passes forward (statistics, values) and two backward (sums, values).
//! Max pooling after it takes part in the passes over values and gradients.

mod backward;
mod output_gradient;
mod sums;

use rayon::prelude::*;

pub(crate) use backward::backward;
pub(crate) use output_gradient::{Dense, Pooled};
use sums::{Terms, sum_rows};

use super::activation::{Function, with_function};
use super::destination::Destination;
use super::reduce::CHUNK;
use crate::isa::Simd;
use crate::{Activation, BatchStatistics, PoolShape};

/// Computes the mean and variance of each channel. The sums are of distances from the mean of the
/// first rows, so that a large mean does not cause cancellation.
pub(crate) fn statistics<S: Simd>(s: S, rows: usize, channels: usize, input: &[f32], epsilon: f32) -> BatchStatistics {
    const FIRST: usize = 8;
    let first = FIRST.min(rows);
    let origin: Vec<f32> =
        (0..channels).map(|c| (0..first).map(|row| input[row * channels + c]).sum::<f32>() / first as f32).collect();
    let [sums, squares] = sum_rows(s, rows, channels, &Distances { channels, input, origin: &origin });
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

/// The distances of the inputs from `origin`, which are summed and squared.
struct Distances<'a> {
    channels: usize,
    input: &'a [f32],
    origin: &'a [f32],
}

impl<S: Simd> Terms<S> for Distances<'_> {
    type Channels = S::V;
    /// The index of the first value.
    type Row = usize;
    const FIT_REGISTERS: bool = true;

    #[inline(always)]
    fn row(&self, row: usize) -> usize {
        row * self.channels
    }

    #[inline(always)]
    fn advance(&self, row: &mut usize) {
        *row += self.channels;
    }

    #[inline(always)]
    unsafe fn channels(&self, s: S, c: usize, n: usize) -> S::V {
        // SAFETY: the caller guarantees the channels.
        unsafe { load(s, self.origin, c, n) }
    }

    #[inline(always)]
    unsafe fn terms(&self, s: S, origin: &S::V, row: &usize, c: usize, n: usize) -> [S::V; 2] {
        // SAFETY: the caller guarantees the row and the channels.
        let distance = unsafe { s.sub(load(s, self.input, row + c, n), *origin) };
        [distance; 2]
    }
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
#[derive(Clone, Copy)]
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
    let destination = Destination::of(output.len());
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
                            destination.store(s, output.as_mut_ptr().add(row * channels + c), value, n);
                        }
                    }
                }
                destination.finish(s);
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

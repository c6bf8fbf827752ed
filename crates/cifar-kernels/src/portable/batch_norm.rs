//! Batch norm in two passes forward (statistics, values) and two backward (sums, values).

use rayon::prelude::*;

use super::reduce::{CHUNK, sum_rows};
use super::vectorised;
use crate::{Activation, BatchStatistics};

/// What the forward pass was given.
pub(crate) struct Forward<'a> {
    pub(crate) channels: usize,
    pub(crate) input: &'a [f32],
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) statistics: &'a BatchStatistics,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<&'a [f32]>,
}

/// Mean and variance of each channel; the variance from centred values, so that a large mean does not cancel it.
pub(crate) fn statistics(rows: usize, channels: usize, input: &[f32], epsilon: f32) -> BatchStatistics {
    let n = rows as f64;
    let [sums] = sum_rows(rows, channels, |range, [sums]| {
        for row in input[range.start * channels..range.end * channels].chunks_exact(channels) {
            for (s, x) in sums.iter_mut().zip(row) {
                *s += f64::from(*x);
            }
        }
    });
    let mean: Vec<f64> = sums.iter().map(|s| s / n).collect();
    let [squares] = sum_rows(rows, channels, |range, [squares]| {
        for row in input[range.start * channels..range.end * channels].chunks_exact(channels) {
            for ((s, x), mean) in squares.iter_mut().zip(row).zip(&mean) {
                let centred = f64::from(*x) - mean;
                *s += centred * centred;
            }
        }
    });
    let variance: Vec<f32> = squares.iter().map(|s| (s / n) as f32).collect();
    BatchStatistics {
        mean: mean.iter().map(|m| *m as f32).collect(),
        inverse_std: squares.iter().map(|s| (1.0 / (s / n + f64::from(epsilon)).sqrt()) as f32).collect(),
        variance,
    }
}

/// Values that one task works on: whole rows.
fn chunk(channels: usize) -> usize {
    (CHUNK / channels).max(1) * channels
}

pub(crate) fn apply(
    channels: usize,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    statistics: &BatchStatistics,
    activation: Activation,
    residual: Option<&[f32]>,
    output: &mut [f32],
) {
    let forward = Forward { channels, input, scale, shift, statistics, activation, residual };
    let chunk = chunk(channels);
    output.par_chunks_mut(chunk).enumerate().for_each(|(index, output)| {
        let start = index * chunk;
        // One loop an activation: the match outside of the hot loop lets each become vector code.
        match activation {
            Activation::Identity => vectorised(|| forward.fill(start, output, |z| z)),
            Activation::Relu => vectorised(|| forward.fill(start, output, |z| Activation::Relu.value(z))),
            Activation::Gelu => vectorised(|| forward.fill(start, output, |z| Activation::Gelu.value(z))),
            Activation::Silu => vectorised(|| forward.fill(start, output, |z| Activation::Silu.value(z))),
        }
    });
}

impl Forward<'_> {
    /// Writes f(z) for the values from `start` on.
    #[inline(always)]
    fn fill(&self, start: usize, output: &mut [f32], f: impl Fn(f32) -> f32) {
        let c = self.channels;
        let (scale, shift) = (&self.scale[..c], &self.shift[..c]);
        let (mean, inverse_std) = (&self.statistics.mean[..c], &self.statistics.inverse_std[..c]);
        for (row, output) in output.chunks_exact_mut(c).enumerate() {
            let at = start + row * c;
            let x = &self.input[at..at + c];
            match self.residual {
                None => {
                    for k in 0..c {
                        output[k] = f((x[k] - mean[k]) * inverse_std[k] * scale[k] + shift[k]);
                    }
                }
                Some(residual) => {
                    let residual = &residual[at..at + c];
                    for k in 0..c {
                        output[k] = f((x[k] - mean[k]) * inverse_std[k] * scale[k] + shift[k] + residual[k]);
                    }
                }
            }
        }
    }

    /// Calls `visit(channel, normalised x, gradient before the activation)` for every value of the row at `at`.
    #[inline(always)]
    fn row_gradients(
        &self,
        at: usize,
        output_grad: &[f32],
        derivative: &impl Fn(f32) -> f32,
        mut visit: impl FnMut(usize, f32, f32),
    ) {
        let c = self.channels;
        let (scale, shift) = (&self.scale[..c], &self.shift[..c]);
        let (mean, inverse_std) = (&self.statistics.mean[..c], &self.statistics.inverse_std[..c]);
        let (x, grad) = (&self.input[at..at + c], &output_grad[at..at + c]);
        for k in 0..c {
            let normalised = (x[k] - mean[k]) * inverse_std[k];
            let z = normalised * scale[k] + shift[k] + self.residual.map_or(0.0, |r| r[at + k]);
            visit(k, normalised, grad[k] * derivative(z));
        }
    }
}

pub(crate) fn backward(
    forward: &Forward,
    output_grad: &[f32],
    input_grad: &mut [f32],
    scale_grad: &mut [f32],
    shift_grad: &mut [f32],
    residual_grad: Option<&mut [f32]>,
) {
    let f = forward.activation;
    match f {
        Activation::Identity => {
            backward_with(forward, output_grad, input_grad, scale_grad, shift_grad, residual_grad, |_| 1.0);
        }
        Activation::Relu => {
            backward_with(forward, output_grad, input_grad, scale_grad, shift_grad, residual_grad, |z| {
                Activation::Relu.derivative(z)
            });
        }
        Activation::Gelu | Activation::Silu => {
            backward_with(forward, output_grad, input_grad, scale_grad, shift_grad, residual_grad, |z| f.derivative(z));
        }
    }
}

fn backward_with(
    forward: &Forward,
    output_grad: &[f32],
    input_grad: &mut [f32],
    scale_grad: &mut [f32],
    shift_grad: &mut [f32],
    residual_grad: Option<&mut [f32]>,
    derivative: impl Fn(f32) -> f32 + Sync,
) {
    let c = forward.channels;
    let rows = forward.input.len() / c;
    let [sums, products] = sum_rows(rows, c, |range, [sums, products]| {
        for row in range {
            forward.row_gradients(row * c, output_grad, &derivative, |k, normalised, grad| {
                sums[k] += f64::from(grad);
                products[k] += f64::from(grad) * f64::from(normalised);
            });
        }
    });
    let n = rows as f64;
    let mean_grad: Vec<f32> = sums.iter().map(|s| (s / n) as f32).collect();
    let mean_product: Vec<f32> = products.iter().map(|p| (p / n) as f32).collect();
    let factor: Vec<f32> = forward.scale.iter().zip(&forward.statistics.inverse_std).map(|(s, i)| s * i).collect();
    let chunk = chunk(c);
    input_grad.par_chunks_mut(chunk).enumerate().for_each(|(index, input_grad)| {
        vectorised(|| {
            for (row, dx) in input_grad.chunks_exact_mut(c).enumerate() {
                forward.row_gradients(index * chunk + row * c, output_grad, &derivative, |k, normalised, grad| {
                    dx[k] = factor[k] * (grad - mean_grad[k] - normalised * mean_product[k]);
                });
            }
        });
    });
    if let Some(residual_grad) = residual_grad {
        residual_grad.par_chunks_mut(chunk).enumerate().for_each(|(index, residual_grad)| {
            vectorised(|| {
                for (row, dr) in residual_grad.chunks_exact_mut(c).enumerate() {
                    forward.row_gradients(index * chunk + row * c, output_grad, &derivative, |k, _, grad| dr[k] = grad);
                }
            });
        });
    }
    for k in 0..c {
        (scale_grad[k], shift_grad[k]) = (products[k] as f32, sums[k] as f32);
    }
}

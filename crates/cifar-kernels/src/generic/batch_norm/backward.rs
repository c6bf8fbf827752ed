//! The gradients of batch norm.

use rayon::prelude::*;

use super::output_gradient::OutputGradient;
use super::sums::{Terms, VECTORS, sum_rows};
use super::{Channels, Forward, load};
use crate::BatchNormGradients;
use crate::generic::activation::{Function, with_function};
use crate::generic::destination::Destination;
use crate::generic::shared::Shared;
use crate::isa::Simd;

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
    let (channels, len) = (forward.channels, forward.input.len());
    let rows = len / channels;
    let destination = Destination::of(len);
    // The gradient before the activation is also that of the residual. Without a residual it is
    // computed twice, which costs less than writing and reading it.
    let kept = gradients.residual.map(Shared::new);
    let terms = Gradients { f, forward, output_grad, kept, destination };
    let [sums, products] = sum_rows(s, rows, channels, &terms);
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
                                (x, if n == S::LANES { s.load(kept.at(at)) } else { s.load_first(kept.at(at), n) })
                            } else {
                                let (x, z) = forward.normalised(s, &k, at, n);
                                (x, s.mul(output_grad.load(s, &of_row, c, n), f.slope(s, z)))
                            };
                            let centred = s.sub(grad, load(s, &mean_grad, c, n));
                            let centred = s.neg_mul_add(x, load(s, &mean_product, c, n), centred);
                            let grad = s.mul(load(s, &factor, c, n), centred);
                            destination.store(s, input_grad.as_mut_ptr().add(row * channels + c), grad, n);
                        }
                    }
                    output_grad.advance(&mut of_row);
                }
                destination.finish(s);
            },
        );
    });
    for c in 0..channels {
        (gradients.scale[c], gradients.shift[c]) = (products[c] as f32, sums[c] as f32);
    }
}

/// The gradients before the activation, which are summed, alone and times the normalised inputs.
struct Gradients<'a, F, G> {
    f: F,
    forward: &'a Forward<'a>,
    output_grad: G,
    /// Where they are stored.
    kept: Option<Shared<f32>>,
    destination: Destination,
}

impl<S: Simd, F: Function, G: OutputGradient> Terms<S> for Gradients<'_, F, G> {
    type Channels = Channels<S::V>;
    /// The index of the first value, and the row of the output's gradient.
    type Row = (usize, G::Row);
    // Two sums and four parameters per vector.
    const FIT_REGISTERS: bool = F::IS_CHEAP && 6 * VECTORS <= S::SUMS;

    #[inline(always)]
    fn row(&self, row: usize) -> Self::Row {
        (row * self.forward.channels, self.output_grad.row(row))
    }

    #[inline(always)]
    fn advance(&self, (first, row): &mut Self::Row) {
        *first += self.forward.channels;
        self.output_grad.advance(row);
    }

    #[inline(always)]
    unsafe fn channels(&self, s: S, c: usize, n: usize) -> Self::Channels {
        // SAFETY: the caller guarantees the channels.
        unsafe { self.forward.channels(s, c, n) }
    }

    #[inline(always)]
    unsafe fn terms(&self, s: S, k: &Self::Channels, (first, row): &Self::Row, c: usize, n: usize) -> [S::V; 2] {
        // SAFETY: the caller guarantees the row and the channels, and that nothing else uses them.
        unsafe {
            let (x, z) = self.forward.normalised(s, k, first + c, n);
            let grad = s.mul(self.output_grad.load(s, row, c, n), self.f.slope(s, z));
            if let Some(kept) = self.kept {
                self.destination.store(s, kept.at(first + c), grad, n);
            }
            [grad, x]
        }
    }

    #[inline(always)]
    fn finish(&self, s: S) {
        self.destination.finish(s);
    }
}

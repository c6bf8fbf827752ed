//! Sums whose bits do not depend on the number of threads.

use rayon::prelude::*;

use crate::isa::Simd;

/// Values per task where each output depends only on its own inputs.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Values per partial sum. The number is fixed, and so is the order of additions.
const SUMMED: usize = 64 * 1024;

/// Computes sums over the rows of a table of `channels` columns in `f64`. `add` adds a block of
/// rows to the sums. Blocks depend only on the shape and are added in order.
pub(crate) fn sum_rows<S: Simd, const N: usize>(
    s: S,
    rows: usize,
    channels: usize,
    add: impl Fn(std::ops::Range<usize>, &mut [Vec<f64>; N]) + Sync,
) -> [Vec<f64>; N] {
    let block = (SUMMED / channels).max(1);
    let zero = || std::array::from_fn::<_, N, _>(|_| vec![0.0; channels]);
    let partial: Vec<[Vec<f64>; N]> = (0..rows.div_ceil(block))
        .into_par_iter()
        .map(|index| {
            let mut sums = zero();
            s.vectorize(|| add(index * block..((index + 1) * block).min(rows), &mut sums));
            sums
        })
        .collect();
    partial.into_iter().fold(zero(), |mut total, sums| {
        for (total, sums) in total.iter_mut().zip(sums) {
            for (t, s) in total.iter_mut().zip(sums) {
                *t += s;
            }
        }
        total
    })
}

/// Computes the sums over the rows of `values` `[rows, channels]`.
pub(crate) fn column_sums<S: Simd>(s: S, channels: usize, values: &[f32], sums: &mut [f32]) {
    let rows = values.len() / channels;
    let [total] = sum_rows(s, rows, channels, |range, [sums]| {
        for row in values[range.start * channels..range.end * channels].chunks_exact(channels) {
            for (sum, v) in sums.iter_mut().zip(row) {
                *sum += f64::from(*v);
            }
        }
    });
    for (sum, t) in sums.iter_mut().zip(total) {
        *sum = t as f32;
    }
}

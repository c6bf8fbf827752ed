//! The sums of batch norm: for each channel, Σ a and Σ a·b over the rows of a table.

use std::ops::Range;

use rayon::prelude::*;

use super::{load, store};
use crate::isa::Simd;

/// Values that a task sums in `f32` before adding to the `f64` sums: a few hundred additions per
/// channel.
const SUMMED: usize = 16 * 1024;
/// Tasks per sum. The number is fixed, and so is the order of additions.
const TASKS: usize = 32;
/// Vectors of channels whose sums stay in registers over some rows.
pub(super) const VECTORS: usize = 4;
/// Rows for which they do: few enough to stay in the cache for the next vectors.
const ROWS: usize = 16;

/// The a and b of each value.
pub(super) trait Terms<S: Simd>: Sync {
    /// The parameters of one vector of channels.
    type Channels: Copy;
    /// A row, as it is found in the operands.
    type Row;
    /// Whether the sums and parameters of [`VECTORS`] vectors fit into registers beside what a and b
    /// take.
    const FIT_REGISTERS: bool;
    /// Returns the row `row`.
    fn row(&self, row: usize) -> Self::Row;
    /// Moves to the next row.
    fn advance(&self, row: &mut Self::Row);
    /// Loads the parameters of `n` channels from `c`.
    ///
    /// # Safety
    /// At least `n` channels remain from `c`.
    unsafe fn channels(&self, s: S, c: usize, n: usize) -> Self::Channels;
    /// Returns a and b of `n` channels from `c`.
    ///
    /// # Safety
    /// `row` is in the table, at least `n` channels remain from `c`, and `k` has their parameters.
    /// Nothing else uses the terms of these values.
    unsafe fn terms(&self, s: S, k: &Self::Channels, row: &Self::Row, c: usize, n: usize) -> [S::V; 2];
    /// Ends the work of a task on a block of rows.
    fn finish(&self, _: S) {}
}

/// Computes Σ a and Σ a·b of each channel over `rows` rows.
pub(super) fn sum_rows<S: Simd>(s: S, rows: usize, channels: usize, terms: &impl Terms<S>) -> [Vec<f64>; 2] {
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
                for sums in &mut sums {
                    sums.fill(0.0);
                }
                add_block(s, first..end.min(first + block), channels, terms, &mut sums);
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

/// Adds a block of rows to the sums.
#[inline(never)]
fn add_block<S: Simd, T: Terms<S>>(s: S, rows: Range<usize>, channels: usize, terms: &T, sums: &mut [Vec<f32>; 2]) {
    s.vectorize(
        #[inline(always)]
        || {
            if !T::FIT_REGISTERS {
                // SAFETY: this task has these rows.
                unsafe { add_rows(s, rows, channels, terms, sums) };
                terms.finish(s);
                return;
            }
            for first in rows.clone().step_by(ROWS) {
                let rows = first..rows.end.min(first + ROWS);
                let mut c = 0;
                // SAFETY: the vectors of channels are within `channels`, and this task has these
                // rows.
                unsafe {
                    while channels - c >= VECTORS * S::LANES {
                        add_columns::<S, VECTORS>(s, rows.clone(), c, S::LANES, terms, sums);
                        c += VECTORS * S::LANES;
                    }
                    while c < channels {
                        let n = S::LANES.min(channels - c);
                        add_columns::<S, 1>(s, rows.clone(), c, n, terms, sums);
                        c += n;
                    }
                }
            }
            terms.finish(s);
        },
    );
}

/// Adds all channels of a row before the next row.
///
/// # Safety
/// As for [`Terms::terms`], for all `rows`.
#[inline(always)]
unsafe fn add_rows<S: Simd>(
    s: S,
    rows: Range<usize>,
    channels: usize,
    terms: &impl Terms<S>,
    [sums, products]: &mut [Vec<f32>; 2],
) {
    let mut row = terms.row(rows.start);
    for _ in rows {
        for c in (0..channels).step_by(S::LANES) {
            let n = S::LANES.min(channels - c);
            // SAFETY: as the caller guarantees.
            unsafe {
                let [a, b] = terms.terms(s, &terms.channels(s, c, n), &row, c, n);
                let (sum, product) = (s.add(load(s, sums, c, n), a), s.mul_add(a, b, load(s, products, c, n)));
                store(s, sums, c, sum, n);
                store(s, products, c, product, n);
            }
        }
        terms.advance(&mut row);
    }
}

/// Adds `N` vectors of `n` channels each, from `c`, to the sums.
///
/// # Safety
/// As for [`Terms::terms`], for these channels and all `rows`.
#[inline(always)]
unsafe fn add_columns<S: Simd, const N: usize>(
    s: S,
    rows: Range<usize>,
    c: usize,
    n: usize,
    terms: &impl Terms<S>,
    [sums, products]: &mut [Vec<f32>; 2],
) {
    let mut row = terms.row(rows.start);
    // SAFETY: as the caller guarantees.
    unsafe {
        let mut columns = [[s.splat(0.0); 2]; N];
        let mut parameters = [terms.channels(s, c, n); N];
        for (v, (columns, k)) in columns.iter_mut().zip(&mut parameters).enumerate() {
            let c = c + v * S::LANES;
            (*columns, *k) = ([load(s, sums, c, n), load(s, products, c, n)], terms.channels(s, c, n));
        }
        for _ in rows {
            for (v, ([sum, product], k)) in columns.iter_mut().zip(&parameters).enumerate() {
                let [a, b] = terms.terms(s, k, &row, c + v * S::LANES, n);
                (*sum, *product) = (s.add(*sum, a), s.mul_add(a, b, *product));
            }
            terms.advance(&mut row);
        }
        for (v, [sum, product]) in columns.into_iter().enumerate() {
            store(s, sums, c + v * S::LANES, sum, n);
            store(s, products, c + v * S::LANES, product, n);
        }
    }
}

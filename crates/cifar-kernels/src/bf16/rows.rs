//! Loops over the rows of blocks, which have 32 channels of an image, in `f32`.

use rayon::prelude::*;

use super::blocked::{BLOCK, SIDE};
use super::{Bf16, BlockedShape};
use crate::isa::Simd;

/// The values of a row, or a number for each of its channels.
pub(super) type Row = [f32; SIDE];

/// Returns a row as `f32`.
#[inline(always)]
pub(super) fn widened(row: &[Bf16]) -> Row {
    let mut values = [0.0; SIDE];
    for (value, from) in values.iter_mut().zip(row) {
        *value = from.to_f32();
    }
    values
}

/// Rounds a row.
#[inline(always)]
pub(super) fn round(values: &Row, row: &mut [Bf16]) {
    for (to, value) in row.iter_mut().zip(values) {
        *to = Bf16::from_f32(*value);
    }
}

/// Returns the numbers of the channels in `block`, filled up with 0.
pub(super) fn of_block(values: &[f32], block: usize) -> Row {
    let values = &values[block * SIDE..values.len().min((block + 1) * SIDE)];
    std::array::from_fn(|channel| values.get(channel).copied().unwrap_or(0.0))
}

/// Returns the first channel of each vector of a row.
#[inline(always)]
pub(super) fn vectors<S: Simd>() -> impl Iterator<Item = usize> {
    (0..SIDE).step_by(S::LANES)
}

/// Returns the vector that starts at `channel`.
#[inline(always)]
pub(super) fn load<S: Simd>(s: S, row: &Row, channel: usize) -> S::V {
    let values = &row[channel..channel + S::LANES];
    // SAFETY: the slice has the values of a vector.
    unsafe { s.load(values.as_ptr()) }
}

/// Stores the vector that starts at `channel`.
#[inline(always)]
pub(super) fn store<S: Simd>(s: S, row: &mut Row, channel: usize, vector: S::V) {
    let values = &mut row[channel..channel + S::LANES];
    // SAFETY: the slice has the values of a vector.
    unsafe { s.store(values.as_mut_ptr(), vector) };
}

/// Calls `visit(block of channels, row, target row, second target row)` for the rows of all images,
/// where rows are counted over all blocks. Other rows of the targets become 0. Without a second
/// target, its rows are empty.
pub(super) fn write<S: Simd>(
    s: S,
    shape: &BlockedShape,
    target: &mut [Bf16],
    second: Option<&mut [Bf16]>,
    visit: impl Fn(usize, usize, &mut [Bf16], &mut [Bf16]) + Sync,
) {
    let map = shape.pixels * BLOCK;
    let write = |at: usize, target: &mut [Bf16], second: &mut [Bf16]| {
        let block = at % shape.blocks();
        let [images, _] = shape.filled(at / shape.blocks(), block);
        s.vectorize(
            #[inline(always)]
            || {
                let mut seconds = second.chunks_exact_mut(SIDE);
                for (row, target) in target.chunks_exact_mut(SIDE).enumerate() {
                    let second = seconds.next().unwrap_or_default();
                    if row % SIDE < images {
                        visit(block, at * shape.pixels * SIDE + row, target, second);
                    } else {
                        target.fill(Bf16::ZERO);
                        second.fill(Bf16::ZERO);
                    }
                }
            },
        );
    };
    let targets = target.par_chunks_mut(map).enumerate();
    match second {
        Some(second) => targets.zip(second.par_chunks_mut(map)).for_each(|((at, t), second)| write(at, t, second)),
        None => targets.for_each(|(at, target)| write(at, target, &mut [])),
    }
}

/// Computes two sums of each channel over all images and pixels. `terms(block of channels, row)`
/// returns the terms of a row, where rows are counted over all blocks.
///
/// The rows of a block are summed in `f32`, blocks in `f64`, and groups of images in order.
pub(super) fn sum<S: Simd>(
    s: S,
    shape: &BlockedShape,
    terms: impl Fn(usize, usize) -> [Row; 2] + Sync,
) -> [Vec<f64>; 2] {
    let blocks = shape.blocks();
    let partial: Vec<[[f64; SIDE]; 2]> = (0..shape.groups() * blocks)
        .into_par_iter()
        .map(|at| {
            let [images, _] = shape.filled(at / blocks, at % blocks);
            let mut total = [[0.0; SIDE]; 2];
            s.vectorize(
                #[inline(always)]
                || {
                    for pixel in 0..shape.pixels {
                        let first = (at * shape.pixels + pixel) * SIDE;
                        let mut sums = [[0.0; SIDE]; 2];
                        for row in first..first + images {
                            let terms = terms(at % blocks, row);
                            for (sum, terms) in sums.as_flattened_mut().iter_mut().zip(terms.as_flattened()) {
                                *sum += terms;
                            }
                        }
                        for (total, sum) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                            *total += f64::from(*sum);
                        }
                    }
                },
            );
            total
        })
        .collect();
    [0, 1].map(|which| {
        let of_channel = |channel: usize| {
            let groups = partial.iter().skip(channel / SIDE).step_by(blocks);
            groups.fold(0.0, |total, sums| total + sums[which][channel % SIDE])
        };
        (0..shape.channels).map(of_channel).collect()
    })
}

/// Returns the row at `at` of blocks.
#[inline(always)]
pub(super) fn row(values: &[Bf16], at: usize) -> &[Bf16] {
    &values[at * SIDE..(at + 1) * SIDE]
}

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

/// Calls `visit(block of channels, row, target row)` for the rows of all images, where rows are
/// counted over all blocks. Other rows of the target become 0.
pub(super) fn write<S: Simd>(
    s: S,
    shape: &BlockedShape,
    target: &mut [Bf16],
    visit: impl Fn(usize, usize, &mut [Bf16]) + Sync,
) {
    target.par_chunks_mut(shape.pixels * BLOCK).enumerate().for_each(|(at, target)| {
        let block = at % shape.blocks();
        let [images, _] = shape.filled(at / shape.blocks(), block);
        s.vectorize(
            #[inline(always)]
            || {
                for (row, target) in target.chunks_exact_mut(SIDE).enumerate() {
                    if row % SIDE < images {
                        visit(block, at * shape.pixels * SIDE + row, target);
                    } else {
                        target.fill(Bf16::ZERO);
                    }
                }
            },
        );
    });
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
    let maps = (0..shape.groups() * shape.blocks()).into_par_iter();
    let of_map = |at| {
        sum_of_map(
            s,
            shape,
            at,
            &mut [],
            #[inline(always)]
            |block, row, _| terms(block, row),
        )
    };
    sum_of_groups(shape, &maps.map(of_map).collect::<Vec<_>>())
}

/// As [`sum`], while `terms(block of channels, row, target row)` writes the rows of all images.
/// Other rows of the target become 0.
pub(super) fn write_and_sum<S: Simd>(
    s: S,
    shape: &BlockedShape,
    target: &mut [Bf16],
    terms: impl Fn(usize, usize, &mut [Bf16]) -> [Row; 2] + Sync,
) -> [Vec<f64>; 2] {
    let maps = target.par_chunks_mut(shape.pixels * BLOCK).enumerate();
    let of_map = |(at, target)| {
        sum_of_map(
            s,
            shape,
            at,
            target,
            #[inline(always)]
            |block, row, target| terms(block, row, target),
        )
    };
    sum_of_groups(shape, &maps.map(of_map).collect::<Vec<_>>())
}

/// The sums of the channels of a block.
type Sums = [[f64; SIDE]; 2];

/// Computes the sums over the map with the number `at`: a group of images and a block of channels.
#[inline(always)]
fn sum_of_map<S: Simd>(
    s: S,
    shape: &BlockedShape,
    at: usize,
    target: &mut [Bf16],
    terms: impl Fn(usize, usize, &mut [Bf16]) -> [Row; 2],
) -> Sums {
    let block = at % shape.blocks();
    let [images, _] = shape.filled(at / shape.blocks(), block);
    let mut total = [[0.0; SIDE]; 2];
    s.vectorize(
        #[inline(always)]
        || {
            let mut targets = target.chunks_exact_mut(SIDE);
            for pixel in 0..shape.pixels {
                let first = (at * shape.pixels + pixel) * SIDE;
                let mut sums = [[0.0; SIDE]; 2];
                for row in first..first + images {
                    let terms = terms(block, row, targets.next().unwrap_or_default());
                    for (sum, terms) in sums.as_flattened_mut().iter_mut().zip(terms.as_flattened()) {
                        *sum += terms;
                    }
                }
                targets.by_ref().take(SIDE - images).for_each(|target| target.fill(Bf16::ZERO));
                for (total, sum) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                    *total += f64::from(*sum);
                }
            }
        },
    );
    total
}

/// Adds the sums of the maps of all groups of images.
fn sum_of_groups(shape: &BlockedShape, maps: &[Sums]) -> [Vec<f64>; 2] {
    [0, 1].map(|which| {
        let of_channel = |channel: usize| {
            let groups = maps.iter().skip(channel / SIDE).step_by(shape.blocks());
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

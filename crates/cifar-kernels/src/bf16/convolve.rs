//! The pass from one side of a convolution to the other: the forward pass and the input gradient.

use rayon::prelude::*;

use super::blocked::{BLOCK, SIDE};
use super::product::{BlockSum, Tiles, Unit};
use super::steps::StepLists;
use super::{Bf16, BlockedShape};
use crate::generic::scratch::with_scratch;
use crate::isa::vectorised;

/// Target pixels of a task. Their sums take 256 KiB, which stay in the second-level cache.
const BAND: usize = 64;
/// Blocks of filters that are used for all pixels of a task in turn. They take 18 KiB, which stay
/// in the first-level cache.
const FILTERS: usize = 9;

/// A pass over a convolution.
pub(super) struct Pass<'a> {
    pub(super) source: BlockedShape,
    pub(super) target: BlockedShape,
    pub(super) taps: usize,
    /// One list per target pixel; A is the source, B the taps.
    pub(super) steps: &'a StepLists,
}

/// Computes `target` from `source` and packed `filters`.
pub(super) fn convolve<U: Unit>(unit: U, pass: &Pass, source: &[Bf16], filters: &[Bf16], target: &mut [Bf16]) {
    let (pixels, blocks) = (pass.target.pixels, pass.target.blocks());
    target.par_chunks_mut(pixels * BLOCK).enumerate().for_each(|(at, map)| {
        let (group, block) = (at / blocks, at % blocks);
        map.par_chunks_mut(BAND * BLOCK).enumerate().for_each(|(band, values)| {
            with_scratch([values.len()], |[sums]| {
                add_products(unit, pass, [group, block, band * BAND], source, filters, sums);
                let filled = pass.target.filled(group, block);
                vectorised(
                    unit.isa(),
                    #[inline(always)]
                    || {
                        for (sums, values) in sums.chunks_exact(BLOCK).zip(values.chunks_exact_mut(BLOCK)) {
                            round(sums, filled, values);
                        }
                    },
                );
            });
        });
    });
}

/// Computes the sums of consecutive target pixels, one block each.
fn add_products<U: Unit>(
    unit: U,
    pass: &Pass,
    [group, block, first_pixel]: [usize; 3],
    source: &[Bf16],
    filters: &[Bf16],
    sums: &mut [f32],
) {
    let (taps, pixels, blocks) = (pass.taps, pass.source.pixels, pass.source.blocks());
    let at_once = FILTERS.div_ceil(taps);
    let source = &source[group * blocks * pixels * BLOCK..(group + 1) * blocks * pixels * BLOCK];
    let filters = &filters[block * blocks * taps * BLOCK..(block + 1) * blocks * taps * BLOCK];
    let tiles = unit.begin();
    for first in (0..blocks).step_by(at_once) {
        for (pixel, sums) in (first_pixel..).zip(sums.chunks_exact_mut(BLOCK)) {
            let sum = BlockSum {
                a: &source[first * pixels * BLOCK..],
                a_stride: pixels,
                b: &filters[first * taps * BLOCK..],
                b_stride: taps,
                repeats: at_once.min(blocks - first),
                steps: pass.steps.get(pixel),
            };
            tiles.add(&sum, first == 0, sums);
        }
    }
}

/// Rounds a block of sums. Values beyond the last image and the last channel become 0: infinite
/// operands have made them NaN.
#[inline(always)]
fn round(sums: &[f32], [images, channels]: [usize; 2], values: &mut [Bf16]) {
    for (row, (sums, values)) in sums.chunks_exact(SIDE).zip(values.chunks_exact_mut(SIDE)).enumerate() {
        for (value, sum) in values.iter_mut().zip(sums) {
            *value = Bf16::from_f32(*sum);
        }
        values[if row < images { channels } else { 0 }..].fill(Bf16::ZERO);
    }
}

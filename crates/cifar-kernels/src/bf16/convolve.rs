//! The pass from one side of a convolution to the other: the forward pass, alone or with 2×2 max
//! pooling, and the input gradient.

use rayon::prelude::*;

use super::blocked::{BLOCK, SIDE};
use super::product::{BlockSum, Tiles, Unit};
use super::steps::StepLists;
use super::{Bf16, BlockedShape, stream};
use crate::PoolShape;
use crate::generic::scratch::with_scratch;
use crate::isa::vectorised;

/// Target pixels of a task. Their sums take 256 KiB, which stay in the second-level cache.
const BAND: usize = 64;
/// Blocks of filters that are used for all pixels of a task in turn. They take 18 KiB, which stay
/// in the first-level cache.
const FILTERS: usize = 9;
/// Pixels of a pooling window.
const WINDOW: usize = 4;

/// A pass over a convolution.
pub(super) struct Pass<'a> {
    pub(super) source: BlockedShape,
    pub(super) target: BlockedShape,
    pub(super) taps: usize,
    /// One list per target pixel, or per target pixel in a window; A is the source, B the taps.
    pub(super) steps: &'a StepLists,
}

impl Pass<'_> {
    /// Returns the number of tasks that compute a group of images.
    pub(super) fn tasks_per_group(&self) -> usize {
        self.target.pixels.div_ceil(BAND) * self.target.blocks()
    }
}

/// Computes `target` from `source` and packed `filters`.
pub(super) fn convolve<U: Unit>(unit: U, pass: &Pass, source: &[Bf16], filters: &[Bf16], target: &mut [Bf16]) {
    let (pixels, blocks) = (pass.target.pixels, pass.target.blocks());
    target.par_chunks_mut(pixels * BLOCK).enumerate().for_each(|(at, map)| {
        let (group, block) = (at / blocks, at % blocks);
        map.par_chunks_mut(BAND * BLOCK).enumerate().for_each(|(band, values)| {
            with_scratch([values.len()], |[sums]| {
                add_products(unit, pass, [group, block], band * BAND, source, filters, sums);
                let filled = pass.target.filled(group, block);
                vectorised(
                    unit.isa(),
                    #[inline(always)]
                    || {
                        let mut block = [Bf16::ZERO; BLOCK];
                        for (sums, values) in sums.chunks_exact(BLOCK).zip(values.as_chunks_mut().0) {
                            round(sums, filled, &mut block);
                            stream::copy(&block, values);
                        }
                    },
                );
                stream::finish();
            });
        });
    });
}

/// Computes the maxima of 2×2 windows of the target and their places in the windows. The target is
/// not stored, and its pixels outside of all windows are not computed.
pub(super) fn convolve_max_pool<U: Unit>(
    unit: U,
    pass: &Pass,
    pool: &PoolShape,
    source: &[Bf16],
    filters: &[Bf16],
    maxima: &mut [Bf16],
    places: &mut [u8],
) {
    const WINDOWS: usize = BAND / WINDOW;
    let (map, blocks) = (pool.out_height * pool.out_width * BLOCK, pass.target.blocks());
    maxima.par_chunks_mut(map).zip(places.par_chunks_mut(map)).enumerate().for_each(|(at, (maxima, places))| {
        let (group, block) = (at / blocks, at % blocks);
        let bands = maxima.par_chunks_mut(WINDOWS * BLOCK).zip(places.par_chunks_mut(WINDOWS * BLOCK));
        bands.enumerate().for_each(|(band, (maxima, places))| {
            with_scratch([WINDOW * maxima.len()], |[sums]| {
                add_products(unit, pass, [group, block], band * BAND, source, filters, sums);
                let filled = pass.target.filled(group, block);
                vectorised(
                    unit.isa(),
                    #[inline(always)]
                    || {
                        let windows = maxima.as_chunks_mut::<BLOCK>().0.iter_mut().zip(places.as_chunks_mut().0);
                        for ((maxima, places), sums) in windows.zip(sums.as_chunks::<{ WINDOW * BLOCK }>().0) {
                            round_maxima(sums, filled, maxima, places);
                        }
                    },
                );
            });
        });
    });
}

/// Computes the sums of lists of products from `list` on, one block each.
fn add_products<U: Unit>(
    unit: U,
    pass: &Pass,
    [group, block]: [usize; 2],
    list: usize,
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
        for (at, sums) in sums.chunks_exact_mut(BLOCK).enumerate() {
            let sum = BlockSum {
                a: &source[first * pixels * BLOCK..],
                a_stride: pixels,
                b: &filters[first * taps * BLOCK..],
                b_stride: taps,
                repeats: at_once.min(blocks - first),
                steps: pass.steps.get(list + at),
            };
            tiles.add(&sum, first == 0, sums);
        }
    }
}

/// Rounds a block of sums. Values beyond the last image and the last channel become 0: infinite
/// operands have made them NaN.
#[inline(always)]
fn round(sums: &[f32], [images, channels]: [usize; 2], values: &mut [Bf16; BLOCK]) {
    for (value, sum) in values.iter_mut().zip(sums) {
        *value = Bf16::from_f32(*sum);
    }
    if [images, channels] != [SIDE; 2] {
        for (row, values) in values.chunks_exact_mut(SIDE).enumerate() {
            values[if row < images { channels } else { 0 }..].fill(Bf16::ZERO);
        }
    }
}

/// Rounds the largest of four blocks of sums, and returns which it was: the first of those that are
/// equal after rounding, or the first NaN. Values beyond the last image and the last channel are 0.
#[inline(always)]
fn round_maxima(
    sums: &[f32; WINDOW * BLOCK],
    [images, channels]: [usize; 2],
    maxima: &mut [Bf16; BLOCK],
    places: &mut [u8; BLOCK],
) {
    let (blocks, _) = sums.as_chunks::<BLOCK>();
    for at in (0..BLOCK).step_by(SIDE) {
        let (mut best, mut best_place) = (widened(&blocks[0], at), [0_u32; SIDE]);
        for (place, block) in blocks.iter().enumerate().skip(1) {
            let values = widened(block, at);
            for ((best, best_place), value) in best.iter_mut().zip(&mut best_place).zip(&values) {
                // Larger, or NaN where there is none yet.
                let taken = (*value > *best) | (value.is_nan() & !best.is_nan());
                // Without a branch, so that the compiler vectorises it.
                (*best, *best_place) =
                    (if taken { *value } else { *best }, if taken { place as u32 } else { *best_place });
            }
        }
        let filled = if at / SIDE < images { channels } else { 0 };
        for (to, value) in maxima[at..at + SIDE].iter_mut().zip(&best) {
            *to = Bf16::from_bits((value.to_bits() >> 16) as u16);
        }
        for (to, place) in places[at..at + SIDE].iter_mut().zip(&best_place) {
            *to = *place as u8;
        }
        maxima[at + filled..at + SIDE].fill(Bf16::ZERO);
        places[at + filled..at + SIDE].fill(0);
    }
}

/// Returns a row of sums, rounded to bf16.
#[inline(always)]
fn widened(sums: &[f32; BLOCK], at: usize) -> [f32; SIDE] {
    let mut values = [0.0; SIDE];
    for (value, sum) in values.iter_mut().zip(&sums[at..at + SIDE]) {
        *value = Bf16::from_f32(*sum).to_f32();
    }
    values
}

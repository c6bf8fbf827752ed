//! The gradient with respect to the filters: for each tap, Σ inputᵀ · output gradient over images
//! and pixels, where 32 images are the inner dimension of each product.

use rayon::prelude::*;

use super::blocked::{BLOCK, SIDE};
use super::operands::{pair, transpose};
use super::output_grad::OutputGrad;
use super::product::{BlockSum, Tiles, Unit};
use super::steps::StepLists;
use super::{Bf16, BlockedShape};
use crate::Buffer;
use crate::isa::{Isa, vectorised};

/// Partial sums of each weight, over different images. They are added in order at the end, so their
/// number must not depend on that of threads.
const PARTS: usize = 4;
/// Products that are added to a block of sums before the next block, if there are as many.
const PRODUCTS: usize = 64;
/// Output pixels that stay in the second-level cache while all taps are computed: 512 KiB each for
/// input and gradient.
const BAND: usize = 256;

/// How groups of images are divided: each of `parts` partial sums takes `at_once` groups in turn.
struct Division {
    groups: usize,
    parts: usize,
    at_once: usize,
}

impl Division {
    fn new(groups: usize, pixels: usize) -> Self {
        let parts = groups.min(PARTS);
        Self { groups, parts, at_once: PRODUCTS.div_ceil(pixels).min(groups.div_ceil(parts)) }
    }

    /// Returns the first group of each round.
    fn rounds(&self) -> impl Iterator<Item = usize> {
        (0..self.groups).step_by(self.parts * self.at_once)
    }

    /// Returns the group at a place of a part, if there is one.
    fn group(&self, round: usize, part: usize, place: usize) -> Option<usize> {
        Some(round + part * self.at_once + place).filter(|group| *group < self.groups)
    }

    /// Returns the number of groups of a part.
    fn len(&self, round: usize, part: usize) -> usize {
        self.groups.saturating_sub(round + part * self.at_once).min(self.at_once)
    }
}

/// Computes `weight_grad` `[taps, in_channels, out_channels]`. `steps` has one list per tap.
pub(super) fn weight_gradient<U: Unit>(
    unit: U,
    [x, dy]: [BlockedShape; 2],
    taps: usize,
    steps: &StepLists,
    input: &[Bf16],
    output_grad: OutputGrad,
    weight_grad: &mut [f32],
) {
    let division = Division::new(x.groups(), dy.pixels);
    let (inputs, outputs) = (x.blocks(), dy.blocks());
    let mut transposed = Buffer::new(division.parts * division.at_once * inputs * x.pixels * BLOCK);
    let mut paired = Buffer::new(division.parts * division.at_once * outputs * dy.pixels * BLOCK);
    // [parts, input blocks, output blocks, taps, 32, 32]
    let mut sums = Buffer::new(division.parts * inputs * outputs * taps * BLOCK);
    for round in division.rounds() {
        pack(
            unit.isa(),
            &division,
            round,
            x,
            &mut transposed,
            #[inline(always)]
            |map, packed| {
                let blocks = input[map * packed.len()..].chunks_exact(BLOCK);
                for (from, to) in blocks.zip(packed.chunks_exact_mut(BLOCK)) {
                    transpose(from, to);
                }
            },
        );
        pack(
            unit.isa(),
            &division,
            round,
            dy,
            &mut paired,
            #[inline(always)]
            |map, packed| {
                let mut expanded = [Bf16::ZERO; BLOCK];
                let from = map * packed.len();
                for (pixel, to) in packed.chunks_exact_mut(BLOCK).enumerate() {
                    match output_grad {
                        OutputGrad::Whole(values) => pair(&values[from + pixel * BLOCK..][..BLOCK], to),
                        OutputGrad::OfMaxima(grad) => {
                            grad.expand_block(map, pixel, &mut expanded);
                            pair(&expanded, to);
                        }
                    }
                }
            },
        );
        sums.par_chunks_mut(taps * BLOCK).enumerate().for_each(|(at, sums)| {
            let (part, input, output) = (at / outputs / inputs, at / outputs % inputs, at % outputs);
            let tiles = unit.begin();
            for first in (0..dy.pixels).step_by(BAND) {
                for (tap, sums) in sums.chunks_exact_mut(BLOCK).enumerate() {
                    let sum = BlockSum {
                        a: &transposed[(part * inputs + input) * division.at_once * x.pixels * BLOCK..],
                        a_stride: x.pixels,
                        b: &paired[(part * outputs + output) * division.at_once * dy.pixels * BLOCK..],
                        b_stride: dy.pixels,
                        repeats: division.len(round, part),
                        steps: steps.get(tap).with_b(first..first + BAND),
                    };
                    tiles.add(&sum, round == 0 && first == 0, sums);
                }
            }
        });
    }
    weight_grad.par_chunks_mut(dy.channels).enumerate().for_each(|(row, weights)| {
        let (tap, channel) = (row / x.channels, row % x.channels);
        for (output, weights) in weights.chunks_mut(SIDE).enumerate() {
            weights.fill(0.0);
            for part in 0..division.parts {
                let block = ((part * inputs + channel / SIDE) * outputs + output) * taps + tap;
                let sums = &sums[block * BLOCK + channel % SIDE * SIDE..];
                for (weight, sum) in weights.iter_mut().zip(sums) {
                    *weight += sum;
                }
            }
            for weight in weights {
                *weight = if weight.is_nan() { f32::NAN } else { *weight };
            }
        }
    });
}

/// Packs the maps of a round's images into `packed` `[parts, channel blocks, at_once, pixels]`.
/// `write` packs the map with the given number.
fn pack(
    isa: Isa,
    division: &Division,
    round: usize,
    shape: BlockedShape,
    packed: &mut [Bf16],
    write: impl Fn(usize, &mut [Bf16]) + Sync,
) {
    packed.par_chunks_mut(shape.pixels * BLOCK).enumerate().for_each(|(at, packed)| {
        let (part, place) = (at / division.at_once / shape.blocks(), at % division.at_once);
        let Some(group) = division.group(round, part, place) else { return };
        let map = group * shape.blocks() + at / division.at_once % shape.blocks();
        vectorised(
            isa,
            #[inline(always)]
            || write(map, packed),
        );
    });
}

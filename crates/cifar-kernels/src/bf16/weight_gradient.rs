//! The gradient with respect to the filters: for each tap, Σ inputᵀ · output gradient over images
//! and pixels, where 32 images are the inner dimension of each product.

use std::ops::Range;

use rayon::prelude::*;

use super::blocked::{BLOCK, SIDE};
use super::operands::{pair, transpose};
use super::output_grad::OutputGrad;
use super::product::{TapSums, Tiles, Unit};
use super::steps::TapSteps;
use super::{Bf16, BlockedShape};
use crate::isa::{Isa, vectorised};
use crate::{Buffer, Conv2dShape};

/// Partial sums of each weight, over different images. They are added in order at the end, so their
/// number must not depend on that of threads.
const PARTS: usize = 4;
/// With as many blocks of filters, one sum of each weight suffices: they keep all threads busy, and
/// more sums would not stay in the caches.
const BLOCKS: usize = 64;
/// Products that are added to a block of sums before the next block, if there are as many.
const PRODUCTS: usize = 32;

/// How groups of images are divided: each of `parts` partial sums takes `at_once` groups in turn.
struct Division {
    groups: usize,
    parts: usize,
    at_once: usize,
}

impl Division {
    fn new(groups: usize, pixels: usize, blocks: usize) -> Self {
        let parts = if blocks < BLOCKS { groups.min(PARTS) } else { 1 };
        let at_once = PRODUCTS.div_ceil(pixels).min(groups.div_ceil(parts));
        // Every part has groups.
        Self { groups, parts: parts.min(groups.div_ceil(at_once)), at_once }
    }

    /// Returns the ranges of groups that a part takes, in turn.
    fn rounds(&self, part: usize) -> impl Iterator<Item = Range<usize>> {
        let first = (part * self.at_once..self.groups).step_by(self.parts * self.at_once);
        first.map(|first| first..self.groups.min(first + self.at_once))
    }
}

/// Computes the gradient `weight_grad` `[taps, in_channels, out_channels]`.
pub(super) fn weight_gradient<U: Unit>(
    unit: U,
    shape: &Conv2dShape,
    [x, dy]: [BlockedShape; 2],
    input: &[Bf16],
    output_grad: OutputGrad,
    weight_grad: &mut [f32],
) {
    let division = Division::new(x.groups(), dy.pixels, x.blocks() * dy.blocks());
    let (taps, inputs, outputs) = (shape.kernel * shape.kernel, x.blocks(), dy.blocks());
    let steps = TapSteps::new(shape);
    let part_len = |shape: BlockedShape| division.at_once * shape.group_len();
    let mut transposed = Buffer::new(division.parts * part_len(x));
    let mut paired = Buffer::new(division.parts * part_len(dy));
    // [parts, input blocks, output blocks, taps, 32, 32]
    let len = inputs * outputs * taps * BLOCK;
    let mut sums = Buffer::new(division.parts * len);
    let operands = transposed.par_chunks_mut(part_len(x)).zip(paired.par_chunks_mut(part_len(dy)));
    sums.par_chunks_mut(len).zip(operands).enumerate().for_each(|(part, (sums, (transposed, paired)))| {
        for (round, groups) in division.rounds(part).enumerate() {
            pack(
                unit.isa(),
                &groups,
                x,
                transposed,
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
                &groups,
                dy,
                paired,
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
            let (transposed, paired) = (&*transposed, &*paired);
            sums.par_chunks_mut(taps * BLOCK).enumerate().for_each(|(at, sums)| {
                let (input, output) = (at / outputs, at % outputs);
                let sum = TapSums {
                    a: &transposed[input * groups.len() * x.pixels * BLOCK..],
                    a_stride: x.pixels,
                    b: &paired[output * groups.len() * dy.pixels * BLOCK..],
                    b_stride: dy.pixels,
                    repeats: groups.len(),
                    steps: &steps,
                };
                unit.begin().add_taps(&sum, round == 0, sums);
            });
        }
    });
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

/// Packs the maps of groups of images into `packed` `[channel blocks, groups, pixels]`. `write`
/// packs the map with the given number.
fn pack(
    isa: Isa,
    groups: &Range<usize>,
    shape: BlockedShape,
    packed: &mut [Bf16],
    write: impl Fn(usize, &mut [Bf16]) + Sync,
) {
    let packed = &mut packed[..groups.len() * shape.group_len()];
    packed.par_chunks_mut(shape.pixels * BLOCK).enumerate().for_each(|(at, packed)| {
        let (block, group) = (at / groups.len(), groups.start + at % groups.len());
        vectorised(
            isa,
            #[inline(always)]
            || write(group * shape.blocks() + block, packed),
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_groups_and_every_group_one_part() {
        for (groups, pixels, blocks) in (1..40).flat_map(|g| (1..70).flat_map(move |p| [1, BLOCKS].map(|b| (g, p, b))))
        {
            let division = Division::new(groups, pixels, blocks);
            let mut taken = vec![0; groups];
            for part in 0..division.parts {
                assert_ne!(division.rounds(part).count(), 0, "{groups} groups of {pixels} pixels, part {part}");
                division.rounds(part).flatten().for_each(|group| taken[group] += 1);
            }
            assert_eq!(taken, vec![1; groups], "{groups} groups of {pixels} pixels");
        }
    }
}

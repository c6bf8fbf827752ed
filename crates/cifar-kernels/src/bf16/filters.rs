//! Filters in bf16, packed for the products:
//! `[target blocks, source blocks, taps, 2 tiles, 16 pairs, 16 target channels, 2]`.
//!
//! A block has 32 source channels, in pairs, and 32 target channels. In the forward pass the
//! source is the input, in the input gradient it is the output.

use rayon::prelude::*;

use super::Bf16;
use super::blocked::{BLOCK, SIDE};
use crate::{Buffer, Conv2dShape};

/// The direction in which filters are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the input's channels to the output's.
    Forward,
    /// From the output's channels to the input's.
    Backward,
}

/// Returns the packed filters of `weight` `[kernel, kernel, in_channels, out_channels]`.
pub(super) fn packed(shape: &Conv2dShape, direction: Direction, weight: &[f32]) -> Buffer<Bf16> {
    let (taps, inputs, outputs) = (shape.kernel * shape.kernel, shape.in_channels, shape.out_channels);
    let (sources, targets, steps) = match direction {
        Direction::Forward => (inputs, outputs, [outputs, 1]),
        Direction::Backward => (outputs, inputs, [1, outputs]),
    };
    let source_blocks = sources.div_ceil(SIDE);
    let mut packed = Buffer::new(targets.div_ceil(SIDE) * source_blocks * taps * BLOCK);
    packed.par_chunks_mut(BLOCK).enumerate().for_each(|(at, block)| {
        let (pair, tap) = (at / taps, at % taps);
        let [first_target, first_source] = [pair / source_blocks * SIDE, pair % source_blocks * SIDE];
        let weight = &weight[tap * inputs * outputs..(tap + 1) * inputs * outputs];
        for (index, value) in block.iter_mut().enumerate() {
            let [tile, row, column, parity] = [index / 512, index / 32 % 16, index / 2 % 16, index % 2];
            let (source, target) = (first_source + 2 * row + parity, first_target + 16 * tile + column);
            *value = if source < sources && target < targets {
                Bf16::from_f32(weight[source * steps[0] + target * steps[1]])
            } else {
                Bf16::ZERO
            };
        }
    });
    packed
}

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
    let (sources, targets) = match direction {
        Direction::Forward => (inputs, outputs),
        Direction::Backward => (outputs, inputs),
    };
    let source_blocks = sources.div_ceil(SIDE);
    let mut packed = Buffer::new(targets.div_ceil(SIDE) * source_blocks * taps * BLOCK);
    packed.par_chunks_mut(BLOCK).enumerate().for_each(|(at, block)| {
        let (target, source, tap) = (at / taps / source_blocks * SIDE, at / taps % source_blocks * SIDE, at % taps);
        let (first_input, first_output) = match direction {
            Direction::Forward => (source, target),
            Direction::Backward => (target, source),
        };
        block.fill(Bf16::ZERO);
        for input in first_input..inputs.min(first_input + SIDE) {
            let row = &weight[(tap * inputs + input) * outputs..(tap * inputs + input + 1) * outputs];
            for (output, value) in row[first_output..].iter().take(SIDE).enumerate() {
                let input = input - first_input;
                let (source, target) = match direction {
                    Direction::Forward => (input, output),
                    Direction::Backward => (output, input),
                };
                block[target / 16 * (BLOCK / 2) + source / 2 * SIDE + target % 16 * 2 + source % 2] =
                    Bf16::from_f32(*value);
            }
        }
    });
    packed
}

//! Filters in bf16, packed for the products:
//! `[target blocks, source blocks, taps, 2 tiles, 16 pairs, 16 target channels, 2]`.
//!
//! A block has 32 source channels, in pairs, and 32 target channels. In the forward pass the
//! source is the input, in the input gradient it is the output.

use rayon::prelude::*;

use super::Bf16;
use super::blocked::{BLOCK, SIDE};
use super::operands::{pair, transpose};
use crate::isa::{Isa, vectorised};
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
pub(super) fn packed(isa: Isa, shape: &Conv2dShape, direction: Direction, weight: &[f32]) -> Buffer<Bf16> {
    let (taps, inputs, outputs) = (shape.kernel * shape.kernel, shape.in_channels, shape.out_channels);
    let (sources, targets) = match direction {
        Direction::Forward => (inputs, outputs),
        Direction::Backward => (outputs, inputs),
    };
    let source_blocks = sources.div_ceil(SIDE);
    let mut packed = Buffer::new(targets.div_ceil(SIDE) * source_blocks * taps * BLOCK);
    packed.par_chunks_mut(BLOCK).enumerate().for_each(|(at, packed)| {
        let (target, source, tap) = (at / taps / source_blocks * SIDE, at / taps % source_blocks * SIDE, at % taps);
        let (input, output) = match direction {
            Direction::Forward => (source, target),
            Direction::Backward => (target, source),
        };
        let rows = tap * inputs + input..tap * inputs + inputs.min(input + SIDE);
        let columns = output..outputs.min(output + SIDE);
        vectorised(
            isa,
            #[inline(always)]
            || {
                // The rows are input channels, the columns output channels.
                let mut block = [Bf16::ZERO; BLOCK];
                for (row, values) in rows.zip(block.as_chunks_mut::<SIDE>().0) {
                    let weights = &weight[row * outputs..][columns.clone()];
                    for (value, weight) in values.iter_mut().zip(weights) {
                        *value = Bf16::from_f32(*weight);
                    }
                }
                match direction {
                    Direction::Forward => pair(&block, packed),
                    Direction::Backward => {
                        let mut transposed = [Bf16::ZERO; BLOCK];
                        transpose(&block, &mut transposed);
                        pair(&transposed, packed);
                    }
                }
            },
        );
    });
    packed
}

//! The gradient of a convolution's output, which may be stored as that of the maxima of its 2×2
//! windows.

use rayon::prelude::*;

use super::Bf16;
use super::blocked::BLOCK;
use crate::PoolShape;
use crate::isa::{Isa, vectorised};

/// The gradient of a convolution's output.
#[derive(Debug, Clone, Copy)]
pub(super) enum OutputGrad<'a> {
    Whole(&'a [Bf16]),
    OfMaxima(MaximaGrad<'a>),
}

/// The gradient of the maxima of 2×2 windows. Lengths and places have been checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaximaGrad<'a> {
    pub(super) pool: PoolShape,
    pub(super) values: &'a [Bf16],
    pub(super) places: &'a [u8],
}

impl MaximaGrad<'_> {
    /// Writes the gradient of one pixel of the convolution's output. It is 0 where the pixel is not
    /// the maximum of its window, and outside of all windows.
    #[inline(always)]
    pub(super) fn expand_block(&self, map: usize, pixel: usize, block: &mut [Bf16]) {
        let Self { pool, values, places } = self;
        let [row, column] = [pixel / pool.in_width, pixel % pool.in_width];
        if row / 2 >= pool.out_height || column / 2 >= pool.out_width {
            return block.fill(Bf16::ZERO);
        }
        let place = (row % 2 * 2 + column % 2) as u8;
        let at = ((map * pool.out_height + row / 2) * pool.out_width + column / 2) * BLOCK;
        for ((to, grad), at) in block.iter_mut().zip(&values[at..at + BLOCK]).zip(&places[at..at + BLOCK]) {
            *to = if *at == place { *grad } else { Bf16::ZERO };
        }
    }

    /// Writes maps of the gradient of the convolution's output, from the map `first` on.
    pub(super) fn expand(&self, isa: Isa, first: usize, maps: &mut [Bf16]) {
        let map = self.pool.in_height * self.pool.in_width * BLOCK;
        maps.par_chunks_mut(map).enumerate().for_each(|(at, map)| {
            vectorised(
                isa,
                #[inline(always)]
                || {
                    for (pixel, block) in map.chunks_exact_mut(BLOCK).enumerate() {
                        self.expand_block(first + at, pixel, block);
                    }
                },
            );
        });
    }
}

//! The products by multiply-adds of vectors. AVX-512 and AVX2 differ in how they compute one block.

use std::marker::PhantomData;

use super::{BlockSum, Tiles, Unit};
use crate::Isa;
use crate::bf16::Bf16;
use crate::bf16::blocked::BLOCK;
use crate::isa::vectorised;

/// The floating-point environment of AMX: rounding to nearest even, no exceptions, subnormal
/// operands and results are 0.
///
/// Rust requires the default environment, so it changes within assembly only.
pub(super) const FLUSHING: u32 = 0x9fc0;

/// Multiply-adds of an ISA.
pub(in crate::bf16) trait MultiplyAdd: Copy + Send + Sync {
    const ISA: Isa;

    /// Adds the product of two blocks to the block `c`. A is in `f32`, because vectors are filled
    /// with one number of it at a time.
    ///
    /// # Safety
    /// The processor has [`Self::ISA`]. All slices have the length of a block.
    unsafe fn add_block(a: &[f32; BLOCK], b: &[Bf16], c: &mut [f32]);
}

/// Proof that the processor has the instructions of `M`.
#[derive(Debug, Clone, Copy)]
pub(in crate::bf16) struct Emulation<M>(PhantomData<M>);

impl<M: MultiplyAdd> Emulation<M> {
    /// Returns the proof if the processor supports the instructions.
    pub(in crate::bf16) fn new() -> Option<Self> {
        M::ISA.is_available().then_some(Self(PhantomData))
    }
}

impl<M: MultiplyAdd> Unit for Emulation<M> {
    type Tiles = Self;

    fn begin(self) -> Self {
        self
    }

    fn isa(self) -> Isa {
        M::ISA
    }
}

impl<M: MultiplyAdd> Tiles for Emulation<M> {
    fn add(&self, sum: &BlockSum, fresh: bool, c: &mut [f32]) {
        if !sum.start(fresh, c) {
            return;
        }
        if fresh {
            c.fill(0.0);
        }
        let mut widened = Widened([0.0; BLOCK]);
        vectorised(
            M::ISA,
            #[inline(always)]
            || {
                sum.for_each(
                    #[inline(always)]
                    |a, b| {
                        for (to, from) in widened.0.iter_mut().zip(a) {
                            *to = from.to_f32();
                        }
                        // SAFETY: `self` is the proof that the processor has the instructions, and
                        // all slices have the length of a block.
                        unsafe { M::add_block(&widened.0, b, c) };
                    },
                );
            },
        );
    }
}

/// A block of A as `f32`.
#[repr(align(64))]
struct Widened([f32; BLOCK]);

//! What the emulations by multiply-adds of vectors share.

use super::BlockSum;
use crate::Isa;
use crate::bf16::Bf16;
use crate::bf16::blocked::BLOCK;
use crate::isa::vectorised;

/// The floating-point environment of AMX: rounding to nearest even, no exceptions, subnormal
/// operands and results are 0.
///
/// Rust requires the default environment, so it changes within assembly only.
pub(super) const FLUSHING: u32 = 0x9fc0;

/// Adds all products of `sum` to `c`, which is 0 before if `fresh`. `add_block` adds the product of
/// two blocks to a block. A is in `f32`, because vectors are filled with one number of it at a time.
#[inline(always)]
pub(super) fn add_widened(
    isa: Isa,
    sum: &BlockSum,
    fresh: bool,
    c: &mut [f32],
    add_block: impl Fn(&[f32; BLOCK], &[Bf16], &mut [f32]),
) {
    if !sum.start(fresh, c) {
        return;
    }
    if fresh {
        c.fill(0.0);
    }
    let mut widened = Widened([0.0; BLOCK]);
    vectorised(
        isa,
        #[inline(always)]
        || {
            sum.for_each(
                #[inline(always)]
                |a, b| {
                    for (to, from) in widened.0.iter_mut().zip(a) {
                        *to = from.to_f32();
                    }
                    add_block(&widened.0, b, c);
                },
            );
        },
    );
}

/// A block of A as `f32`.
#[repr(align(64))]
struct Widened([f32; BLOCK]);

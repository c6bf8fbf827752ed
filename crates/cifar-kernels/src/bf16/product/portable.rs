//! The products in plain code, for any processor.

use super::{BlockSum, TILE, Tiles, Unit};
use crate::Isa;
use crate::bf16::Bf16;
use crate::bf16::blocked::{BLOCK, SIDE};

/// Plain loops.
#[derive(Debug, Clone, Copy)]
pub(in crate::bf16) struct PortableUnit;

impl Unit for PortableUnit {
    type Tiles = Self;

    fn begin(self) -> Self {
        self
    }

    fn isa(self) -> Isa {
        Isa::Portable
    }
}

impl Tiles for PortableUnit {
    fn add(&self, sum: &BlockSum, fresh: bool, c: &mut [f32]) {
        if !sum.start(fresh, c) {
            return;
        }
        if fresh {
            c.fill(0.0);
        }
        sum.for_each(|a, b| {
            for (row, c) in a.chunks_exact(SIDE).zip(c.chunks_exact_mut(SIDE)) {
                for (b, c) in b.chunks_exact(BLOCK / 2).zip(c.chunks_exact_mut(TILE)) {
                    add_row(row, b, c);
                }
            }
        });
    }
}

/// Adds the product of a row of A and a tile of B to a row of a tile of C.
#[inline(always)]
pub(super) fn add_row(a: &[Bf16], b: &[Bf16], c: &mut [f32]) {
    let [mut even, mut odd] = [[0.0; TILE]; 2];
    for (a, b) in a.chunks_exact(2).zip(b.chunks_exact(SIDE)) {
        let [first, second] = [operand(a[0]), operand(a[1])];
        for column in 0..TILE {
            even[column] = multiply_add(first, operand(b[2 * column]), even[column]);
            odd[column] = multiply_add(second, operand(b[2 * column + 1]), odd[column]);
        }
    }
    for ((c, even), odd) in c.iter_mut().zip(even).zip(odd) {
        *c = add(*c, add(even, odd));
    }
}

/// Returns the number, or 0 if it is subnormal.
#[inline(always)]
fn operand(x: Bf16) -> f64 {
    f64::from(flushed(x.to_f32()))
}

/// Returns 0 with the sign of `x` if `x` is subnormal.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(x) } else { x }
}

/// The sum with a single rounding; 0 if it is subnormal. A subnormal sum of two normal numbers is
/// exact.
#[inline(always)]
fn add(a: f32, b: f32) -> f32 {
    flushed(flushed(a) + flushed(b))
}

/// a · b + c with a single rounding. `a` and `b` are bf16 numbers, and `c` is not subnormal.
///
/// The product has 16 significant bits, which are exact in f64. The sum is exact too, unless one
/// term is less than 2⁻²⁹ of the other. The larger term has at most 24 bits and is then the nearest
/// `f32` of the sum, before and after the rounding to f64. So rounding twice is rounding once.
///
/// The result is 0 if it is subnormal after rounding to 24 bits. Numbers from 2⁻¹²⁶ − 2⁻¹⁵¹ round
/// up to the smallest normal number.
#[inline(always)]
fn multiply_add(a: f64, b: f64, c: f32) -> f32 {
    const SMALLEST: f64 = f32::MIN_POSITIVE as f64 * (1.0 - 1.0 / (1 << 25) as f64);
    let sum = a * b + f64::from(c);
    if sum.abs() < SMALLEST { 0.0_f32.copysign(sum as f32) } else { sum as f32 }
}

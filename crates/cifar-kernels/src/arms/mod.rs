//! The vector instructions behind the kernels: one type an arm, all with the operations of [`Simd`].
//!
//! Kernels are written once, in [`crate::generic`], over these operations. Each is inlined into a function that is
//! compiled for the arm's instructions ([`Simd::vectorize`]).

use crate::Arm;

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Avx2, Avx512};

/// A vector of `f32` and what can be done with it. A value of the type is the proof that the processor has the
/// instructions, so only the pointers of loads and stores are left for the caller to vouch for.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Several `f32`.
    type V: Copy;
    /// How many.
    const LANES: usize;
    /// Vectors that a row of a matrix product's tile has at most (4 at most); see [`crate::generic::matmul`].
    const PANEL: usize;
    /// Sums that the registers hold, beside what they are made of.
    const SUMS: usize;

    /// Runs `work`, and what is inlined into it, compiled for this arm's instructions.
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `LANES` values can be read at `from`.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// The first `n` lanes, the others 0.
    /// # Safety
    /// `n` ≤ `LANES` values can be read at `from`.
    unsafe fn load_first(self, from: *const f32, n: usize) -> Self::V;
    /// # Safety
    /// `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// Writes the first `n` lanes.
    /// # Safety
    /// `n` ≤ `LANES` values can be written at `to`.
    unsafe fn store_first(self, to: *mut f32, v: Self::V, n: usize);
    /// The first `n` of `LANES` bytes as numbers, the other lanes 0.
    /// # Safety
    /// `n` ≤ `LANES` bytes can be read at `from`.
    unsafe fn load_bytes(self, from: *const u8, n: usize) -> Self::V;
    /// Writes the first `n` lanes, whole numbers from 0 to 255, as bytes.
    /// # Safety
    /// `n` ≤ `LANES` bytes can be written at `to`.
    unsafe fn store_bytes(self, to: *mut u8, v: Self::V, n: usize);

    /// Asks for the cache line at `from`, which need not exist.
    fn prefetch(self, from: *const f32);

    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, in one rounding where the arm can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c − a · b.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The nearest whole number.
    fn round(self, a: Self::V) -> Self::V;
    /// 2ⁿ of whole numbers from −126 to 127; of a NaN, anything.
    fn power_of_two(self, n: Self::V) -> Self::V;
    /// The larger one; `b` if one of them is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller one; `b` if one of them is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `yes` where a > b, `no` elsewhere and where one of them is NaN.
    fn where_greater(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `yes` where a = b, `no` elsewhere.
    fn where_equal(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// Keeps `best` and `place`, or takes `value` and `value_place` where `value` is larger or the first NaN.
    fn take_larger(self, best: Self::V, place: Self::V, value: Self::V, value_place: Self::V) -> (Self::V, Self::V);
}

/// Runs plain loops compiled for the instructions of `arm`. Their results do not depend on it: the compiler neither
/// reorders nor fuses floating-point operations.
pub(crate) fn vectorised<R>(arm: Arm, work: impl FnOnce() -> R) -> R {
    match arm {
        #[cfg(target_arch = "x86_64")]
        Arm::Avx512 => match Avx512::new() {
            Some(s) => s.vectorize(work),
            None => work(),
        },
        #[cfg(target_arch = "x86_64")]
        Arm::Avx2 => match Avx2::new() {
            Some(s) => s.vectorize(work),
            None => work(),
        },
        _ => work(),
    }
}

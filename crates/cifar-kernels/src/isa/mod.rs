//! The vector instructions that kernels use: one type per ISA, each with the operations of
//! [`Simd`].
//!
//! Kernels are written once, in [`crate::generic`], over these operations. Each is inlined into a
//! function that is compiled for the instructions of the ISA ([`Simd::vectorize`]).

mod portable;
mod select;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub(crate) use portable::Portable;
pub use select::{DEPRECATED_ISA_VARIABLE, ISA_VARIABLE, Isa, force_isa, isa, isa_variable, on_pool, with_isa};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Avx2, Avx512};

/// A vector of `f32` and its operations.
///
/// A value of the type proves that the processor supports the instructions. The caller of an unsafe
/// method therefore only guarantees that its pointers are valid.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Self::LANES`] `f32` values.
    type V: Copy;
    /// Number of values in a vector.
    const LANES: usize;
    /// Vectors in a row of a matrix product's tile, at most 4; see [`crate::generic::matmul`].
    const PANEL: usize;
    /// Accumulators that fit into the registers beside their operands.
    const SUMS: usize;

    /// Runs `work`, and what is inlined into it, compiled for the instructions of this ISA.
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R;

    /// Returns a vector with `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Loads a vector.
    ///
    /// # Safety
    /// `LANES` values can be read at `from`.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Loads the first `n` lanes and sets the others to 0.
    ///
    /// # Safety
    /// `n` ≤ `LANES` values can be read at `from`.
    unsafe fn load_first(self, from: *const f32, n: usize) -> Self::V;
    /// Stores a vector.
    ///
    /// # Safety
    /// `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// Stores the first `n` lanes.
    ///
    /// # Safety
    /// `n` ≤ `LANES` values can be written at `to`.
    unsafe fn store_first(self, to: *mut f32, v: Self::V, n: usize);
    /// Stores a vector past the caches if `to` is aligned to a vector, otherwise as [`Self::store`].
    /// The thread must call [`Self::finish_stream`] before others read it.
    ///
    /// # Safety
    /// `LANES` values can be written at `to`.
    unsafe fn stream(self, to: *mut f32, v: Self::V) {
        // SAFETY: as the caller guarantees.
        unsafe { self.store(to, v) };
    }
    /// Orders the vectors that this thread streamed before everything that follows.
    fn finish_stream(self) {}
    /// Loads `n` bytes as numbers into the first lanes and sets the others to 0.
    ///
    /// # Safety
    /// `n` ≤ `LANES` bytes can be read at `from`.
    unsafe fn load_bytes(self, from: *const u8, n: usize) -> Self::V;
    /// Stores the first `n` lanes, which are integers from 0 to 255, as bytes.
    ///
    /// # Safety
    /// `n` ≤ `LANES` bytes can be written at `to`.
    unsafe fn store_bytes(self, to: *mut u8, v: Self::V, n: usize);

    /// Prefetches the cache line at `from`, which need not be a valid address.
    fn prefetch(self, from: *const f32);

    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, with a single rounding if the ISA supports it.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c − a · b.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The nearest integer.
    fn round(self, a: Self::V) -> Self::V;
    /// 2ⁿ for integers from −126 to 127; unspecified for NaN.
    fn power_of_two(self, n: Self::V) -> Self::V;
    /// The entries of a table at the integers from 0 to 15; any entry for NaN.
    fn lookup(self, table: &[f32; 16], n: Self::V) -> Self::V;
    /// The larger of the two; `b` if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of the two; `b` if either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `yes` where a > b, otherwise `no`, also if either is NaN.
    fn where_greater(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `yes` where a = b, otherwise `no`.
    fn where_equal(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// Returns `value` and `value_place` where `value` is larger than `best` or the first NaN,
    /// otherwise `best` and `place`.
    fn take_larger(self, best: Self::V, place: Self::V, value: Self::V, value_place: Self::V) -> (Self::V, Self::V);
}

/// Runs plain loops compiled for the instructions of `isa`. The results are the same for every ISA,
/// as the compiler neither reorders nor fuses floating-point operations.
pub(crate) fn vectorised<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => match Avx512::new() {
            Some(s) => s.vectorize(work),
            None => work(),
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => match Avx2::new() {
            Some(s) => s.vectorize(work),
            None => work(),
        },
        _ => work(),
    }
}

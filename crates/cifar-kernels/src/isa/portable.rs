//! Any processor: vectors of 4 values from the `wide` crate (SSE2, NEON or plain code).

use super::Simd;
use wide::f32x4;

/// The portable ISA, which every processor supports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = f32x4;
    const LANES: usize = 4;
    const PANEL: usize = 2;
    const SUMS: usize = 8;

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }
    #[inline(always)]
    fn splat(self, x: f32) -> f32x4 {
        f32x4::splat(x)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> f32x4 {
        // SAFETY: the caller guarantees four values.
        f32x4::new(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> f32x4 {
        let mut values = [0.0; 4];
        for (lane, value) in values.iter_mut().enumerate().take(n) {
            // SAFETY: the caller guarantees `n` values.
            *value = unsafe { *from.add(lane) };
        }
        f32x4::new(values)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: f32x4) {
        // SAFETY: the caller guarantees four values.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v.to_array()) };
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: f32x4, n: usize) {
        for (lane, value) in v.to_array().into_iter().enumerate().take(n) {
            // SAFETY: the caller guarantees `n` values.
            unsafe { *to.add(lane) = value };
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8, n: usize) -> f32x4 {
        let mut values = [0.0; 4];
        for (lane, value) in values.iter_mut().enumerate().take(n) {
            // SAFETY: the caller guarantees `n` bytes.
            *value = f32::from(unsafe { *from.add(lane) });
        }
        f32x4::new(values)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, v: f32x4, n: usize) {
        for (lane, value) in v.to_array().into_iter().enumerate().take(n) {
            // SAFETY: the caller guarantees `n` bytes.
            unsafe { *to.add(lane) = value as u8 };
        }
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
    #[inline(always)]
    fn add(self, a: f32x4, b: f32x4) -> f32x4 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x4, b: f32x4) -> f32x4 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x4, b: f32x4) -> f32x4 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x4, b: f32x4) -> f32x4 {
        a / b
    }
    #[inline(always)]
    fn mul_add(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        a.mul_neg_add(b, c)
    }
    #[inline(always)]
    fn round(self, a: f32x4) -> f32x4 {
        a.round()
    }
    #[inline(always)]
    fn power_of_two(self, n: f32x4) -> f32x4 {
        f32x4::new(n.to_array().map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23)))
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], n: f32x4) -> f32x4 {
        f32x4::new(n.to_array().map(|n| table[n as usize % 16]))
    }
    #[inline(always)]
    fn max(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_gt(b).bitselect(a, b)
    }
    #[inline(always)]
    fn min(self, a: f32x4, b: f32x4) -> f32x4 {
        b.simd_gt(a).bitselect(a, b)
    }
    #[inline(always)]
    fn where_greater(self, a: f32x4, b: f32x4, yes: f32x4, no: f32x4) -> f32x4 {
        a.simd_gt(b).bitselect(yes, no)
    }
    #[inline(always)]
    fn where_equal(self, a: f32x4, b: f32x4, yes: f32x4, no: f32x4) -> f32x4 {
        a.simd_eq(b).bitselect(yes, no)
    }
    #[inline(always)]
    fn take_larger(self, best: f32x4, place: f32x4, value: f32x4, value_place: f32x4) -> (f32x4, f32x4) {
        let first_nan = value.is_nan() & best.simd_eq(best);
        let taken = value.simd_gt(best) | first_nan;
        (taken.bitselect(value, best), taken.bitselect(value_place, place))
    }
}

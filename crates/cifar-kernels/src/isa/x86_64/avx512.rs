//! AVX-512: vectors of 16 values, with masks for the last, partial vector.
//!
//! SAFETY of every block without a comment of its own: the processor supports the instructions,
//! since a value of [`Avx512`] only exists if they were detected.

#[allow(clippy::wildcard_imports, reason = "the names say what they are")]
use std::arch::x86_64::*;

use crate::Isa;
use crate::isa::Simd;

/// Proof that the processor has AVX-512 F, BW, DQ and VL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Returns the proof if the processor supports the instructions.
    pub(crate) fn new() -> Option<Self> {
        Isa::Avx512.is_available().then_some(Self(()))
    }
}

/// Returns a mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    // Of 32 registers, 24 hold sums, 4 a row of the panel and one a factor.
    const PANEL: usize = 4;
    const SUMS: usize = 24;

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn inner<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: see the module documentation.
        unsafe { inner(work) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the caller guarantees sixteen values.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> __m512 {
        // SAFETY: the caller guarantees `n` values, and the mask hides the others.
        unsafe { _mm512_maskz_loadu_ps(first(n), from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: the caller guarantees sixteen values.
        unsafe { _mm512_storeu_ps(to, v) };
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: __m512, n: usize) {
        // SAFETY: the caller guarantees `n` values, and the mask hides the others.
        unsafe { _mm512_mask_storeu_ps(to, first(n), v) };
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m512) {
        // SAFETY: the caller guarantees sixteen values.
        unsafe {
            if to.addr().is_multiple_of(align_of::<__m512>()) { _mm512_stream_ps(to, v) } else { self.store(to, v) }
        };
    }
    #[inline(always)]
    fn finish_stream(self) {
        // SAFETY: every x86-64 processor has SSE.
        unsafe { _mm_sfence() };
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8, n: usize) -> __m512 {
        // SAFETY: the caller guarantees `n` bytes, and the mask hides the others.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, v: __m512, n: usize) {
        // SAFETY: the caller guarantees `n` bytes, and the mask hides the others.
        unsafe { _mm_mask_storeu_epi8(to.cast(), first(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))) };
    }
    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: a prefetch faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT }>(a) }
    }
    #[inline(always)]
    fn power_of_two(self, n: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), n) }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], n: __m512) -> __m512 {
        // SAFETY: a vector can be read from the table; also see the module documentation.
        unsafe { _mm512_permutexvar_ps(_mm512_cvtps_epi32(n), _mm512_loadu_ps(table.as_ptr())) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn where_greater(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    fn where_equal(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: see the module documentation.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    fn take_larger(self, best: __m512, place: __m512, value: __m512, value_place: __m512) -> (__m512, __m512) {
        // SAFETY: see the module documentation.
        unsafe {
            // "Not less or equal" is also true for NaN. A `best` that is NaN stays.
            let taken =
                _mm512_mask_cmp_ps_mask::<_CMP_NLE_UQ>(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(best, best), value, best);
            (_mm512_mask_blend_ps(taken, best, value), _mm512_mask_blend_ps(taken, place, value_place))
        }
    }
}

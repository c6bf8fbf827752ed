//! AVX2 and FMA: vectors of 8 values.
//!
//! SAFETY of every block without a comment of its own: the processor supports the instructions,
//! since a value of [`Avx2`] only exists if they were detected.

#[allow(clippy::wildcard_imports, reason = "the names say what they are")]
use std::arch::x86_64::*;

use crate::Isa;
use crate::isa::Simd;

/// Proof that the processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Returns the proof if the processor supports the instructions.
    pub(crate) fn new() -> Option<Self> {
        Isa::Avx2.is_available().then_some(Self(()))
    }
}

/// Returns a mask of the first `n` lanes: a window into ones followed by zeros.
#[inline(always)]
fn first(n: usize) -> __m256i {
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    debug_assert!(n <= 8);
    // SAFETY: eight values can be read at 8 − n, which is at most 8; also see the module
    // documentation.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()) }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    // Of 16 registers, 12 hold sums, 2 a row of the panel and one a factor.
    const PANEL: usize = 2;
    const SUMS: usize = 12;

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn inner<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: see the module documentation.
        unsafe { inner(work) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the caller guarantees eight values.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> __m256 {
        // SAFETY: the caller guarantees `n` values, and the mask hides the others.
        unsafe { _mm256_maskload_ps(from, first(n)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m256) {
        // SAFETY: the caller guarantees eight values.
        unsafe { _mm256_storeu_ps(to, v) };
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: __m256, n: usize) {
        // SAFETY: the caller guarantees `n` values, and the mask hides the others.
        unsafe { _mm256_maskstore_ps(to, first(n), v) };
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m256) {
        // SAFETY: the caller guarantees eight values.
        unsafe {
            if to.addr().is_multiple_of(align_of::<__m256>()) { _mm256_stream_ps(to, v) } else { self.store(to, v) }
        };
    }
    #[inline(always)]
    fn finish_stream(self) {
        // SAFETY: every x86-64 processor has SSE.
        unsafe { _mm_sfence() };
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8, n: usize) -> __m256 {
        let mut bytes = 0u64;
        // SAFETY: the caller guarantees `n` ≤ 8 bytes; also see the module documentation.
        unsafe {
            std::ptr::copy_nonoverlapping(from, (&raw mut bytes).cast(), n);
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, v: __m256, n: usize) {
        // SAFETY: the caller guarantees `n` ≤ 8 bytes; also see the module documentation.
        unsafe {
            let whole = _mm256_cvtps_epi32(v);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            let bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
            std::ptr::copy_nonoverlapping((&raw const bytes).cast(), to, n);
        }
    }
    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: a prefetch faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn power_of_two(self, n: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], n: __m256) -> __m256 {
        // SAFETY: two vectors can be read from the table; also see the module documentation.
        unsafe {
            let n = _mm256_cvtps_epi32(n);
            let [low, high] = [0, 8].map(|half| _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(half)), n));
            // The fourth bit as the sign, by which the instruction chooses.
            _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(n)))
        }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn where_greater(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }
    #[inline(always)]
    fn where_equal(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: see the module documentation.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
    }
    #[inline(always)]
    fn take_larger(self, best: __m256, place: __m256, value: __m256, value_place: __m256) -> (__m256, __m256) {
        // SAFETY: see the module documentation.
        unsafe {
            // "Not less or equal" is also true for NaN. A `best` that is NaN stays.
            let ordered = _mm256_cmp_ps::<_CMP_ORD_Q>(best, best);
            let taken = _mm256_and_ps(ordered, _mm256_cmp_ps::<_CMP_NLE_UQ>(value, best));
            (_mm256_blendv_ps(best, value, taken), _mm256_blendv_ps(place, value_place, taken))
        }
    }
}

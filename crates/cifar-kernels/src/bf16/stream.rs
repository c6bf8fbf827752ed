//! Stores that pass by the caches, for results that other layers read much later.

use super::Bf16;

/// Copies values past the caches, if `to` is aligned to 16 bytes. The thread must call [`finish`]
/// before others read the copy.
#[inline(always)]
pub(super) fn copy<const N: usize>(values: &[Bf16; N], to: &mut [Bf16; N]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_stream_si128};
        // SAFETY: numbers may have any bits, as vectors may.
        let (before, vectors, after) = unsafe { to.align_to_mut::<__m128i>() };
        if before.is_empty() && after.is_empty() {
            for (to, from) in vectors.iter_mut().zip(values.chunks_exact(size_of::<__m128i>() / size_of::<Bf16>())) {
                // SAFETY: both have the bytes of a vector, and the target is aligned. Every x86-64
                // processor has SSE2.
                unsafe { _mm_stream_si128(to, from.as_ptr().cast::<__m128i>().read_unaligned()) };
            }
            return;
        }
    }
    to.copy_from_slice(values);
}

/// Orders the copies of this thread before everything that follows.
#[inline(always)]
pub(super) fn finish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::blocked::BLOCK;

    #[test]
    fn blocks_arrive_at_any_alignment() {
        let values: [Bf16; BLOCK] = std::array::from_fn(|at| Bf16::from_bits(at as u16));
        let mut room = vec![Bf16::NAN; BLOCK + 16];
        for start in 0..16 {
            room.fill(Bf16::NAN);
            copy(&values, room[start..].first_chunk_mut().expect("there is room"));
            finish();
            let (before, rest) = room.split_at(start);
            assert_eq!(rest[..BLOCK], values, "{start}");
            assert!(before.iter().chain(&rest[BLOCK..]).all(|value| *value == Bf16::NAN), "{start}");
        }
    }
}

//! Where the results of a kernel are written: into the caches or past them.

use crate::isa::Simd;

/// Bytes from which an output no longer stays in the caches until it is read.
const LARGE: usize = 8 << 20;

/// How results are stored. Storing past the caches spares reading each cache line before it is
/// overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    Caches,
    Memory,
}

impl Destination {
    /// Returns the destination for an output of `len` values.
    pub(crate) fn of(len: usize) -> Self {
        if size_of::<f32>() * len >= LARGE { Self::Memory } else { Self::Caches }
    }

    /// Stores the first `n` lanes of `v`.
    ///
    /// # Safety
    /// `n` ≤ `LANES` values can be written at `to`. The task calls [`Self::finish`] at its end.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(self, s: S, to: *mut f32, v: S::V, n: usize) {
        // SAFETY: as the caller guarantees.
        unsafe {
            if n < S::LANES {
                s.store_first(to, v, n);
            } else if self == Self::Memory {
                s.stream(to, v);
            } else {
                s.store(to, v);
            }
        }
    }

    /// Makes what this thread stored visible to the tasks that follow.
    #[inline(always)]
    pub(crate) fn finish<S: Simd>(self, s: S) {
        if self == Self::Memory {
            s.finish_stream();
        }
    }
}

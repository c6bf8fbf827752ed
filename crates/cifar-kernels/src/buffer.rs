//! Memory reuse. The activations and gradients of a network have the same sizes in every step, and
//! getting them from the system each time costs as much as the computation.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::arena::{Arena, Range};
use crate::bf16::Bf16;

/// Number types that a [`Buffer`] can hold.
pub trait Plain: sealed::Sealed + Copy + Default + Send + Sync + 'static {}

mod sealed {
    /// # Safety
    /// Every bit pattern is a value, and the alignment is at most 64.
    pub unsafe trait Sealed {}
}

// SAFETY: every bit pattern is a number, infinity or NaN.
unsafe impl sealed::Sealed for f32 {}
// SAFETY: every bit pattern is a number.
unsafe impl sealed::Sealed for u8 {}
// SAFETY: it is a transparent `u16`.
unsafe impl sealed::Sealed for Bf16 {}

impl Plain for f32 {}
impl Plain for u8 {}
impl Plain for Bf16 {}

/// Bytes of the smallest chunk of memory.
const CHUNK: usize = 64 << 20;

fn arena() -> MutexGuard<'static, Arena> {
    static ARENA: Mutex<Arena> = Mutex::new(Arena::new(CHUNK));
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slice whose memory serves other buffers after it is dropped. It starts at a cache line.
///
/// ```
/// use cifar_kernels::Buffer;
///
/// let buffer = Buffer::copied(&[1.0_f32, 2.0]);
/// assert_eq!(buffer[..], [1.0, 2.0]);
/// ```
pub struct Buffer<T: Plain> {
    /// None if the slice is empty.
    range: Option<Range>,
    start: NonNull<T>,
    len: usize,
}

// SAFETY: a buffer owns its values, as a `Vec` does, and numbers can be used on any thread.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above; a shared buffer can only be read.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// Creates a buffer of `len` values with unspecified contents: those of the last users of the
    /// memory.
    ///
    /// # Panics
    /// If the values take more than `isize::MAX` bytes, as for a `Vec`.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self { range: None, start: NonNull::dangling(), len };
        }
        let bytes = len.checked_mul(size_of::<T>()).expect("a slice has at most isize::MAX bytes");
        let (range, address) = arena().take(bytes);
        Self { range: Some(range), start: address.cast(), len }
    }

    /// Creates a copy of `values`.
    pub fn copied(values: &[T]) -> Self {
        let mut buffer = Self::new(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(range) = self.range.take() {
            arena().give_back(range);
        }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the range has the bytes of `len` values, starts at a multiple of 64, and is this
        // buffer's alone until it is dropped. Its bytes are initialised, and values of `T` whatever
        // they are. An empty slice needs no memory.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Returns memory that no buffer uses to the system.
pub fn release_buffers() {
    arena().release();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_takes_no_memory() {
        let empty = Buffer::<f32>::new(0);
        assert!(empty.is_empty() && empty.range.is_none());
        assert_eq!(format!("{empty:?} {:?}", Buffer::copied(&[1u8, 2])), "[] [1, 2]");
    }

    #[test]
    fn a_dropped_buffer_leaves_its_memory_to_the_next_of_any_type() {
        // Other tests find room in the first chunk, so the second one, which only this buffer fits,
        // stays free in between.
        let _first_chunk = Buffer::<u8>::new(1);
        let mut large = Buffer::<f32>::new(100 << 20);
        let address = large.as_ptr().addr();
        assert_eq!(address % 64, 0);
        large[0] = 1.5;
        drop(large);
        let large = Buffer::<u8>::new(400 << 20);
        assert_eq!((large.as_ptr().addr(), &large[..4]), (address, &1.5f32.to_ne_bytes()[..]));
    }
}

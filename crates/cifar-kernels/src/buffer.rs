//! Memory reuse. The activations and gradients of a network have the same sizes in every step, and
//! getting them from the system each time costs as much as the computation.
//!
//! Lengths are rounded up to size classes, sixteen per doubling, so that batches whose sizes differ
//! by one image share their buffers. If two such lengths fall into neighbouring classes, the larger
//! buffer replaces the smaller one, which is freed.

use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError};

use crate::bf16::Bf16;

/// Number types that a [`Buffer`] can hold.
pub trait Plain: sealed::Sealed + Copy + Default + Send + Sync + 'static {}

mod sealed {
    use std::sync::Mutex;

    use super::Bf16;

    pub trait Sealed: Sized {
        /// Returns the pool of free buffers.
        fn pool() -> &'static Mutex<Vec<Vec<Self>>>;
    }

    impl Sealed for f32 {
        fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
            static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
            &POOL
        }
    }

    impl Sealed for u8 {
        fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
            static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
            &POOL
        }
    }

    impl Sealed for Bf16 {
        fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
            static POOL: Mutex<Vec<Vec<Bf16>>> = Mutex::new(Vec::new());
            &POOL
        }
    }
}

impl Plain for f32 {}
impl Plain for u8 {}
impl Plain for Bf16 {}

fn pool<T: Plain>() -> MutexGuard<'static, Vec<Vec<T>>> {
    T::pool().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a cache line. Buffers are aligned to it, since vectors that cross two lines are slower.
const LINE: usize = 64;

/// Size classes per doubling of the length: rounding up costs at most 1/16.
const CLASSES: usize = 16;

/// Returns the allocated length of a buffer of `len` values.
fn class(len: usize) -> usize {
    let step = len.checked_next_power_of_two().map_or(1, |power| power / (2 * CLASSES)).max(1);
    len.checked_next_multiple_of(step).unwrap_or(len)
}

/// Takes a buffer of at least `needed` values from the pool, or allocates one.
fn take<T: Plain>(needed: usize) -> Vec<T> {
    let mut pool = pool::<T>();
    // The smallest buffer that is long enough, the most recently used among equals. A buffer of
    // more than twice the length is left for others.
    let fits = (0..pool.len()).rev().filter(|at| (needed..=2 * needed).contains(&pool[*at].len()));
    if let Some(at) = fits.min_by_key(|at| pool[*at].len()) {
        return pool.remove(at);
    }
    // A buffer one or two classes too short belongs to a batch with fewer images. The new one
    // can replace it.
    let short = (0..pool.len()).filter(|at| (needed - needed / 8..needed).contains(&pool[*at].len()));
    let replaced = short.max_by_key(|at| pool[*at].len()).map(|at| pool.remove(at));
    drop(pool);
    drop(replaced);
    vec![T::default(); needed]
}

/// A slice from the pool, to which it returns when it is dropped.
///
/// ```
/// use cifar_kernels::Buffer;
///
/// let buffer = Buffer::copied(&[1.0_f32, 2.0]);
/// assert_eq!(buffer[..], [1.0, 2.0]);
/// ```
#[derive(Debug)]
pub struct Buffer<T: Plain> {
    /// At least one cache line longer than the slice.
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Plain> Buffer<T> {
    /// Creates a buffer of `len` values with unspecified contents: those of its last user.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self { values: Vec::new(), start: 0, len };
        }
        let values = take::<T>(class(len + LINE / size_of::<T>()));
        // `align_offset` may return a number that is too large, which means that it does not know.
        let start = Some(values.as_ptr().align_offset(LINE)).filter(|start| *start <= values.len() - len).unwrap_or(0);
        Self { values, start, len }
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
        if !self.values.is_empty() {
            pool().push(std::mem::take(&mut self.values));
        }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..self.start + self.len]
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.len]
    }
}

/// Frees the memory of all buffers that are not in use.
pub fn release_buffers() {
    pool::<f32>().clear();
    pool::<u8>().clear();
    pool::<Bf16>().clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_reused_for_a_length_that_fits() {
        let first = Buffer::copied(&[3u8; 1003]);
        let at = first.as_ptr();
        drop(first);
        let smaller = Buffer::<u8>::new(700);
        assert_eq!((smaller.as_ptr(), smaller.len()), (at, 700));
        assert!(smaller.iter().all(|v| *v == 3));
    }

    #[test]
    fn rounding_up_costs_at_most_a_sixteenth() {
        for len in (1..5000).chain([1_000_003, usize::MAX / 16]) {
            let class = class(len);
            assert!(class >= len && class - len <= len / CLASSES, "{len} became {class}");
            assert_eq!(super::class(class), class);
        }
    }

    /// Returns the pooled buffers with lengths near those of the test below, which no other test
    /// uses.
    fn pooled() -> usize {
        pool::<u8>().iter().filter(|values| (2_500_000..4_000_000).contains(&values.len())).count()
    }

    #[test]
    fn batches_one_image_apart_share_their_buffers() {
        // Pixels of 1,866 and 1,867 images, and lengths on both sides of a class boundary.
        let end = class(3_000_000) - LINE;
        for [fewer, more] in [[1866 * 1536, 1867 * 1536], [end, end + 1]] {
            assert_eq!(class(fewer + LINE) == class(more + LINE), fewer != end);
            for len in [fewer, more, fewer, more, fewer] {
                let step: Vec<Buffer<u8>> = (0..3).map(|_| Buffer::new(len)).collect();
                drop(step);
                assert_eq!(pooled(), 3, "{len}");
            }
            pool::<u8>().retain(|values| values.len() < 2_500_000);
        }
    }
}

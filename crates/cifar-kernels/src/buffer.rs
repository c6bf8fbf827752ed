//! Memory that is used again: a network's activations and gradients have the same sizes in every step, and taking them
//! from the system anew costs as much as the arithmetic.

use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError};

/// Numbers that a [`Buffer`] can hold.
pub trait Plain: sealed::Sealed + Copy + Default + Send + Sync + 'static {}

mod sealed {
    use std::sync::Mutex;

    pub trait Sealed: Sized {
        /// The buffers that nobody uses.
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
}

impl Plain for f32 {}
impl Plain for u8 {}

fn pool<T: Plain>() -> MutexGuard<'static, Vec<Vec<T>>> {
    T::pool().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a cache line, on which a buffer begins: vectors that straddle two lines are slower.
const LINE: usize = 64;

/// A slice from the pool; it goes back there when it is dropped.
#[derive(Debug)]
pub struct Buffer<T: Plain> {
    /// A line longer than the slice, at least.
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Plain> Buffer<T> {
    /// `len` values, which are whatever the last user left.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self { values: Vec::new(), start: 0, len };
        }
        let needed = len + LINE / size_of::<T>();
        let recycled = {
            let mut pool = pool::<T>();
            // The smallest that is long enough, the last used among equals; one more than twice as long is left for others.
            let fits = (0..pool.len()).rev().filter(|at| (needed..=2 * needed).contains(&pool[*at].len()));
            fits.min_by_key(|at| pool[*at].len()).map(|at| pool.remove(at))
        };
        let values = recycled.unwrap_or_else(|| vec![T::default(); needed]);
        // It may say that it does not know, by a number that is too large.
        let start = Some(values.as_ptr().align_offset(LINE)).filter(|start| *start <= values.len() - len).unwrap_or(0);
        Self { values, start, len }
    }

    /// A copy of `values`.
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

/// Frees the memory of all buffers that nobody uses.
pub fn release_buffers() {
    pool::<f32>().clear();
    pool::<u8>().clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_serves_the_next_that_fits() {
        let first = Buffer::copied(&[3u8; 1003]);
        let at = first.as_ptr();
        drop(first);
        let smaller = Buffer::<u8>::new(700);
        assert_eq!((smaller.as_ptr(), smaller.len()), (at, 700));
        assert!(smaller.iter().all(|v| *v == 3));
    }
}

//! Memory that is used again: a network's activations and gradients have the same sizes in every step, and taking them
//! from the system anew costs as much as the arithmetic.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Numbers that a [`Buffer`] can hold: any bits are a value of theirs.
pub trait Plain: sealed::Sealed + Copy + Default + Send + Sync + 'static {}

mod sealed {
    pub trait Sealed {
        fn pool() -> &'static std::sync::Mutex<Vec<Vec<Self>>>
        where
            Self: Sized;
    }
}

impl Plain for f32 {}
impl Plain for u8 {}

impl sealed::Sealed for f32 {
    fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
        static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
        &POOL
    }
}

impl sealed::Sealed for u8 {
    fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
        static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
        &POOL
    }
}

/// A slice from the pool; it goes back there when it is dropped.
#[derive(Debug)]
pub struct Buffer<T: Plain> {
    values: Vec<T>,
}

impl<T: Plain> Buffer<T> {
    /// `len` values, which are whatever the last user left.
    pub fn new(len: usize) -> Self {
        let recycled = {
            let mut pool = T::pool().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            pool.iter().rposition(|values| values.len() == len).map(|at| pool.swap_remove(at))
        };
        Self { values: recycled.unwrap_or_else(|| vec![T::default(); len]) }
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
            let mut pool = T::pool().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            pool.push(std::mem::take(&mut self.values));
        }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

/// Gives the memory of all buffers that nobody uses back to the system.
pub fn release_buffers() {
    fn clear<T: Plain>() {
        T::pool().lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
    clear::<f32>();
    clear::<u8>();
}

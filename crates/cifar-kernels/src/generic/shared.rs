//! A pointer that tasks of one kernel share.

/// Where several threads write, each its own part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: a pointer by itself does nothing; whoever follows it, in an `unsafe` block, says why no two threads meet.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// For reading only.
    pub(crate) fn new_const(slice: &[T]) -> Self {
        Self(slice.as_ptr().cast_mut())
    }

    /// The element at `index`; following it is as unsafe as following any pointer.
    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

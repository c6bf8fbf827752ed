//! A pointer that the tasks of a kernel share.

/// A pointer to an output of which several threads write separate parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: the pointer itself is inert. Code that dereferences it, in an `unsafe` block, states why
// no two threads access the same element.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// Creates a pointer that is only read.
    pub(crate) fn new_const(slice: &[T]) -> Self {
        Self(slice.as_ptr().cast_mut())
    }

    /// Returns a pointer to the element at `index`. Dereferencing it is unsafe as for any pointer.
    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

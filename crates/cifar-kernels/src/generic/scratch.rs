//! Memory of a thread that kernels use while they run, kept from call to call.

use std::cell::RefCell;

/// Values to a cache line; what kernels take begins on one.
const LINE: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with slices of these lengths, whatever they hold. Must not be nested.
pub(crate) fn with_scratch<const N: usize, R>(lengths: [usize; N], work: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    let total: usize = lengths.iter().map(|len| len.next_multiple_of(LINE)).sum();
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < total + LINE {
            // Freed first, so that old and new are not there together.
            *scratch = Vec::new();
            *scratch = vec![0.0; total + LINE];
        }
        let aligned = scratch.as_ptr().align_offset(LINE * size_of::<f32>());
        let mut rest = &mut scratch[aligned..];
        work(lengths.map(|len| {
            let (slice, others) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
            rest = others;
            &mut slice[..len]
        }))
    })
}

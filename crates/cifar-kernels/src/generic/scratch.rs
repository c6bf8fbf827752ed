//! Scratch memory of each thread for kernels, reused from call to call.

use std::cell::RefCell;

/// Values per cache line, to which scratch slices are aligned.
const LINE: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with slices of the given lengths and unspecified contents. Calls must not be
/// nested.
pub(crate) fn with_scratch<const N: usize, R>(lengths: [usize; N], work: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    let total: usize = lengths.iter().map(|len| len.next_multiple_of(LINE)).sum();
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < total + LINE {
            // Frees the old memory first, so that both are never allocated together.
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

//! The tests of the public interface as one program, which takes a fraction of the time to compile. `isa` runs itself
//! again, and `batches` has an allocator of its own.

mod arithmetic;
mod common;
mod convolutions;
mod errors;
mod gradients;
mod guard_pages;
mod lengths;
mod muon;
mod not_finite;
mod oracle;
mod threads;

//! The tests of the public interface in one program, which compiles in a fraction of the time. Two
//! are separate: `isa` starts itself as a child process, and `batches` has its own allocator.

mod arithmetic;
mod bf16;
mod bf16_layers;
mod bf16_pooled;
mod bf16_training;
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

//! Convolutions in bf16: operands have 8 significant bits, sums are in `f32`.
//!
//! The kernels use AMX, the matrix unit of Intel's Xeon processors since 2023. On other processors
//! the same kernels run with AVX-512 or plain code, which emulate the arithmetic of AMX and return
//! the same bits. They are slower than the kernels in `f32`, so they are a reference rather than an
//! alternative. [`uses_amx`] says which of them run.
//!
//! The order of AMX's sums was measured on an Intel Xeon with 512,000 results. The kernels of this
//! module have not run on AMX yet: their tests execute the instructions of AMX one by one in an
//! emulator. At its first use, AMX is compared with the emulation, and a difference is an error.
//!
//! # Layout
//! Images have the layout `[images / 32, channels / 32, height, width, 32 images, 32 channels]`,
//! rounded up ([`to_blocked`], [`from_blocked`]). Values beyond the last image and the last channel
//! must be 0; all kernels write 0 there. Filters and their gradients are in `f32` and have the
//! layout of the other kernels.
//!
//! # Determinism
//! The bits of a result depend on its operands only: not on the number of threads, the processor or
//! the ISA. Every NaN in a result has the same bits.

mod activation;
mod batch_norm;
mod blocked;
mod conv;
mod convolve;
mod filters;
mod operands;
mod pool;
mod product;
mod rows;
mod steps;
mod unit;
mod value;
mod weight_gradient;

pub use activation::{activation_backward, activation_forward};
pub use batch_norm::{BatchNorm, BatchNormGradients, batch_norm_backward, batch_norm_evaluate, batch_norm_forward};
pub use blocked::{BlockedShape, from_blocked, to_blocked};
pub use conv::{conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient};
pub use pool::{average_pool_backward, average_pool_forward, max_pool_backward, max_pool_forward};
pub use unit::uses_amx;
pub use value::Bf16;

//! The layers of convolutional networks in bf16: operands have 8 significant bits, sums are in
//! `f32`.
//!
//! Convolutions of bf16 numbers use AMX, the matrix unit of Intel's Xeon processors since 2023, if the
//! ISA is AVX-512. On other processors the same kernels emulate its arithmetic with AVX-512, AVX2 or
//! plain code and return the same bits. The emulation is slower than convolutions in `f32`: it serves
//! to reproduce results. [`uses_amx`] says whether AMX computes.
//!
//! The tests of this module passed on an Intel Xeon with AMX (family 6, model 207), where all
//! implementations returned the same bits. Without AMX, they execute its instructions one by one in
//! an emulator. The first call on AMX compares it with the emulation, and a difference is an error.
//!
//! # Layout
//! Images have the layout `[images / 32, channels / 32, height, width, 32 images, 32 channels]`,
//! with quotients rounded up ([`to_blocked`], [`from_blocked`]). Values beyond the last image and
//! the last channel must be 0, and all kernels write 0 there. Filters, parameters, statistics and
//! their gradients are in `f32`.
//!
//! # Determinism
//! The bits of convolutions and pooling depend on nothing but the operands: neither the number of
//! threads nor the processor nor the ISA. Those of batch norm, activations and
//! [`conv2d_activation_forward`] with its gradients, which are computed in `f32`, are the same with
//! any number of threads, on the same ISA and target. Every NaN in bf16, and in gradients of filters,
//! has the same bits.

mod activation;
mod batch_norm;
mod blocked;
mod conv;
mod conv_activation;
mod convolve;
mod filters;
mod gelu;
mod operands;
mod output_grad;
mod passes;
mod pool;
mod product;
mod rows;
mod steps;
mod stream;
mod unit;
mod value;
mod weight_gradient;

pub use activation::{activation_backward, activation_forward};
pub use batch_norm::{BatchNorm, BatchNormGradients, batch_norm_backward, batch_norm_evaluate, batch_norm_forward};
pub use blocked::{BlockedShape, from_blocked, to_blocked};
pub use conv::{
    conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient,
};
pub use conv_activation::{conv2d_activation_bias_gradient, conv2d_activation_forward, conv2d_weight_gradient_f32};
pub use pool::{average_pool_backward, average_pool_forward, max_pool_backward, max_pool_forward};
pub use unit::uses_amx;
pub use value::Bf16;

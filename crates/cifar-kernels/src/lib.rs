//! CPU kernels for training convolutional networks: slices in, slices out, no tensor library.
//!
//! ```
//! use cifar_kernels::{Conv2dDimensions, Conv2dShape, conv2d_forward};
//!
//! let shape = Conv2dShape::new(Conv2dDimensions {
//!     images: 1,
//!     height: 3,
//!     width: 3,
//!     in_channels: 1,
//!     out_channels: 1,
//!     kernel: 3,
//!     stride: 1,
//!     padding: 1,
//! })?;
//! let mut output = [0.0; 9];
//! conv2d_forward(&shape, &[1.0; 9], &[1.0; 9], None, &mut output)?;
//! // The number of pixels in each window.
//! assert_eq!(output, [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]);
//! # Ok::<(), cifar_kernels::KernelError>(())
//! ```
//!
//! Each module holds one operation: its shape, its safe entry points, and its formula. An entry
//! point checks all lengths before it computes. [`naive`] has the same operations as plain loops
//! over `f32` or `f64`, which all tests use as the reference. [`bf16`] has the layers of networks
//! in bf16.
//!
//! # Layouts
//! Images are `[images, height, width, channels]` (NHWC; blocked in [`bf16`]), filters are
//! `[kernel, kernel, in_channels, out_channels]`, and matrices are `[rows, columns]`. All are
//! contiguous, with the last dimension fastest.
//!
//! # Determinism
//! Work is divided by output element, or into partial sums whose number depends only on the shape
//! and which are added in order. The same input gives the same bits with any number of threads, on
//! the same ISA and target. [`numeric_target`] names both.
//!
//! # Instruction sets
//! Every kernel is compiled for AVX-512, for AVX2 with FMA, and for any processor ([`Isa`]). The
//! fastest that the processor supports is selected at run time. The environment variable
//! [`ISA_VARIABLE`], [`force_isa`] and [`with_isa`] force another.

#![expect(clippy::too_many_arguments, reason = "kernels take the dimensions and slices that their formulas have")]

mod activation;
#[expect(unsafe_code, reason = "an allocator")]
mod allocator;
#[cfg_attr(target_os = "linux", expect(unsafe_code, reason = "pages that return to the system"))]
mod arena;
mod batch_norm;
#[expect(unsafe_code, reason = "slices of memory that buffers share")]
mod buffer;
mod conv;
mod error;
#[expect(unsafe_code, reason = "threads that write parts of one output")]
mod generic;
#[expect(unsafe_code, reason = "vector instructions")]
mod isa;
mod linear;
mod loss;
mod optimise;
mod peak;
mod pixels;
mod pool;

#[expect(unsafe_code, reason = "matrix instructions")]
pub mod bf16;
pub mod naive;

pub use activation::{Activation, activation_backward, activation_forward};
pub use allocator::CachingAllocator;
pub use batch_norm::{
    BatchNorm, BatchNormGradients, BatchStatistics, batch_norm_backward, batch_norm_evaluate, batch_norm_forward,
    batch_norm_max_pool_backward, batch_norm_max_pool_forward,
};
pub use buffer::{Buffer, Plain, release_buffers};
pub use conv::{
    Conv2dDimensions, Conv2dShape, bias_gradient, conv2d_activation_bias_gradient, conv2d_activation_forward,
    conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient,
};
pub use error::{KernelError, Result};
pub use isa::{DEPRECATED_ISA_VARIABLE, ISA_VARIABLE, Isa, force_isa, isa, isa_variable, on_pool, with_isa};
pub use linear::{linear_forward, linear_input_gradient, linear_weight_gradient};
pub use loss::{MixedLabels, softmax, softmax_cross_entropy, softmax_cross_entropy_weighted};
pub use optimise::{
    NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, adamw_update, move_average, muon_update, orthogonalise, scale_values,
    sgd_update, squared_norm,
};
pub use peak::peak_gflops;
pub use pixels::{PixelView, normalise_pixels, normalise_views};
pub use pool::{
    PoolDimensions, PoolShape, average_pool_backward, average_pool_forward, max_pool_backward, max_pool_forward,
};

/// Returns the ISA and target that determine the bits of every result, such as
/// `avx2, x86_64-linux`.
///
/// Checkpoints and model files store this string.
///
/// # Errors
/// As [`isa()`].
///
/// ```
/// use cifar_kernels::{Isa, numeric_target, with_isa};
///
/// assert!(with_isa(Isa::Portable, numeric_target)??.starts_with("portable, "));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn numeric_target() -> Result<String> {
    Ok(format!("{}, {}-{}", isa()?, std::env::consts::ARCH, std::env::consts::OS))
}

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

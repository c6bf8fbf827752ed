//! CPU kernels for convolutional networks: slices in, slices out, no tensor library.
//!
//! Each file holds one operation: its shape, its safe entry points (where every length is checked, once), and its
//! formula. The work is done by the [arm](self#arms) in use; [`naive`] has the same operations as plain loops, generic
//! over `f32` and `f64`: the oracle of every test.
//!
//! # Layouts
//! Images are `[batch, height, width, channels]` (NHWC), filters `[kernel, kernel, in_channels, out_channels]`,
//! matrices `[rows, columns]`; all contiguous, the last dimension fastest.
//!
//! # Determinism
//! Work is divided by output element or into a number of partial sums that depends on the shape alone, added in
//! order. The same input gives the same bits at any number of threads, on the same arm and target ([`arithmetic`] names
//! them).
//!
//! # Arms
//! Every kernel is compiled for AVX-512, for AVX2 with FMA, and for any processor ([`Arm`]). The fastest that the processor
//! has is found at run time; [`ARM_VARIABLE`], [`force_arm`] and [`with_arm`] force another.
//!
//! ```
//! use cifar_kernels::{Conv2dShape, conv2d_forward};
//!
//! let shape = Conv2dShape::new(1, 3, 3, 1, 1, 3, 1, 1)?;
//! let mut output = [0.0; 9];
//! conv2d_forward(&shape, &[1.0; 9], &[1.0; 9], None, &mut output)?;
//! assert_eq!(output, [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]); // how many pixels each window covers
//! # Ok::<(), cifar_kernels::KernelError>(())
//! ```

mod activation;
#[expect(unsafe_code, reason = "an allocator")]
mod allocator;
mod arm;
#[expect(unsafe_code, reason = "vector instructions")]
mod arms;
mod batch_norm;
mod buffer;
mod conv;
mod error;
#[expect(unsafe_code, reason = "threads that write parts of one output")]
mod generic;
mod linear;
mod loss;
mod optimise;
mod peak;
mod pixels;
mod pool;

pub mod naive;

pub use activation::{Activation, activation_backward, activation_forward};
pub use allocator::CachingAllocator;
pub use arm::{ARM_VARIABLE, Arm, arm, force_arm, with_arm};
pub use batch_norm::{BatchStatistics, batch_norm_backward, batch_norm_evaluate, batch_norm_forward};
pub use buffer::{Buffer, Plain, release_buffers};
pub use conv::{
    Conv2dShape, bias_gradient, conv2d_activation_bias_gradient, conv2d_activation_forward, conv2d_backward,
    conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient,
};
pub use error::{KernelError, Result};
pub use linear::{linear_forward, linear_input_gradient, linear_weight_gradient};
pub use loss::{MixedLabels, softmax, softmax_cross_entropy};
pub use optimise::{
    NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, adamw_update, move_average, muon_update, orthogonalise, scale_values,
    sgd_update, squared_norm,
};
pub use peak::peak_gflops;
pub use pixels::{PixelView, normalise_pixels, normalise_views};
pub use pool::{PoolShape, average_pool_backward, average_pool_forward, max_pool_backward, max_pool_forward};

/// The arm and target that decide the bits of every result, such as `avx2, x86_64-linux`.
///
/// # Errors
/// As [`arm()`].
pub fn arithmetic() -> Result<String> {
    Ok(format!("{}, {}-{}", arm()?, std::env::consts::ARCH, std::env::consts::OS))
}

//! CPU kernels for convolutional networks: slices in, slices out, no tensor library.
//!
//! Each file holds one operation: its shape, its safe entry points (where every length is checked, once), and its
//! formula. The work is done by the [portable](self#arms) arm; [`naive`] has the same operations as plain loops,
//! generic over `f32` and `f64`: the oracle of every test.
//!
//! # Layouts
//! Images are `[batch, height, width, channels]` (NHWC), filters `[kernel, kernel, in_channels, out_channels]`,
//! matrices `[rows, columns]`; all contiguous, the last dimension fastest.
//!
//! # Determinism
//! Work is divided by output element or into a number of partial sums that depends on the shape alone, added in
//! order. The same input gives the same bits at any number of threads, on the same instruction set
//! ([`arithmetic`] names it).
//!
//! # Arms
//! `portable`: im2col and the `gemm` crate, which picks SSE2, AVX2 or AVX-512 at run time.
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
mod arm;
mod batch_norm;
mod buffer;
mod conv;
mod error;
mod linear;
mod loss;
mod optimise;
mod peak;
mod pixels;
mod pool;
mod portable;

pub mod naive;

pub use activation::{Activation, activation_backward, activation_forward};
pub use arm::{ARM_VARIABLE, Arm, arm, force_arm, with_arm};
pub use batch_norm::{BatchStatistics, batch_norm_backward, batch_norm_evaluate, batch_norm_forward};
pub use buffer::{Buffer, Plain, release_buffers};
pub use conv::{
    Conv2dShape, bias_gradient, conv2d_activation_bias_gradient, conv2d_activation_forward, conv2d_backward,
    conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient,
};
pub use error::{KernelError, Result};
pub use linear::{linear_forward, linear_input_gradient, linear_weight_gradient};
pub use loss::{softmax, softmax_cross_entropy};
pub use optimise::{adamw_update, sgd_update};
pub use peak::peak_gflops;
pub use pixels::normalise_pixels;
pub use pool::{PoolShape, average_pool_backward, average_pool_forward, max_pool_backward, max_pool_forward};

/// The arm, instruction set and target that decide the bits of every result, such as `portable, avx2+fma, x86_64-linux`.
pub fn arithmetic() -> String {
    // The choice that `gemm` makes: its widest arm asks for all five extensions of x86-64-v4.
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let features = if std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512cd")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
    {
        "avx512"
    } else if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        "avx2+fma"
    } else {
        "sse2"
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
    let features = "baseline";
    format!("portable, {features}, {}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

//! Every operation as plain loops, generic over `f32` and `f64`: the reference for all tests.
//!
//! Lengths are not checked, except by indexing: a wrong length panics.
//!
//! ```
//! use cifar_kernels::{Activation, naive};
//!
//! assert_eq!(naive::activation_forward(Activation::Relu, &[-1.0_f64, 2.0]), [0.0, 2.0]);
//! ```

mod bf16;
mod conv;
mod norm;
mod optimise;
mod pixels;
mod pool;
mod real;

pub use bf16::{bf16_rounded, blocked, unblocked};
pub use conv::{
    conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient,
    linear_forward, linear_input_gradient, linear_weight_gradient,
};
pub use norm::{
    NormGradients, batch_norm_backward, batch_norm_forward, softmax_cross_entropy, softmax_cross_entropy_weighted,
};
pub use optimise::{adamw_update, muon_update, orthogonalise, sgd_update};
pub use pixels::normalise_views;
pub use pool::{average_pool_backward, average_pool_forward, max_pool_backward, max_pool_forward};
pub use real::Real;

use crate::Activation;

/// Returns f(x) for every value.
pub fn activation_forward<R: Real>(activation: Activation, input: &[R]) -> Vec<R> {
    input.iter().map(|x| activation.value(*x)).collect()
}

/// Returns `output_grad` · f′(x) for every value.
pub fn activation_backward<R: Real>(activation: Activation, input: &[R], output_grad: &[R]) -> Vec<R> {
    input.iter().zip(output_grad).map(|(x, dy)| *dy * activation.derivative(*x)).collect()
}

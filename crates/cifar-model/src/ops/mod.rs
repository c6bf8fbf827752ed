//! Differentiable operations on [`FeatureMap`](crate::FeatureMap)s: NHWC, `f32`, on the CPU.
//!
//! Each operation stands in a file of its own, in four parts: the public function with its forward pass, its backward
//! pass, and a slow twin made of candle's own operations on tensors; the tests at the end compare values with the
//! twin and gradients with finite differences. A gradient is computed only where somebody needs it.
//!
//! The loss alone works on a tensor, since the logits of a batch are few and every optimiser starts from there.

mod activation;
mod batch_norm;
mod conv;
mod conv_activation;
mod dropout;
mod global_pool;
mod linear;
mod loss;
mod max_pool;

pub use activation::{activation, activation_slow};
pub use batch_norm::{BatchNormArgs, batch_norm_evaluate, batch_norm_slow, batch_norm_train};
pub use conv::{conv2d, conv2d_max_pool, conv2d_slow};
pub use conv_activation::conv2d_activation;
pub use dropout::dropout;
pub use global_pool::{global_average_pool, global_average_pool_slow, global_max_pool, global_max_pool_slow};
pub use linear::{linear, linear_slow};
pub use loss::{Targets, softmax_cross_entropy, softmax_cross_entropy_slow};
pub use max_pool::{max_pool, max_pool_slow};

use candle_core::{CpuStorage, Device, Error, Layout, Result, Storage, Tensor};

#[cfg(test)]
mod gradient_check;

/// The values of a contiguous `f32` argument.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| Error::Msg("the argument must be contiguous".into()))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `read` with the values of a tensor, which are copied only if they are not contiguous.
pub(crate) fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => read(values(cpu, layout)?),
        _ => Err(Error::Msg("this operation runs on the CPU only".into())),
    }
}

/// [`with_values`] of two tensors, for a kernel.
fn with_both<R>(a: &Tensor, b: &Tensor, read: impl FnOnce(&[f32], &[f32]) -> cifar_kernels::Result<R>) -> Result<R> {
    with_values(a, |a| with_values(b, |b| read(a, b).map_err(Error::wrap)))
}

/// Room for the gradient of a parameter, if somebody needs it. candle owns it afterwards, so it is not from the pool.
fn new_parameter_gradient(parameter: &Tensor) -> Option<Vec<f32>> {
    parameter.track_op().then(|| vec![0.0; parameter.elem_count()])
}

/// The gradient of a parameter as candle wants it.
fn parameter_gradient(parameter: &Tensor, values: Option<Vec<f32>>) -> Result<Option<Tensor>> {
    values.map(|values| Tensor::from_vec(values, parameter.shape(), &Device::Cpu)).transpose()
}

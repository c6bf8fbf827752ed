//! Differentiable operations on [`FeatureMap`](crate::FeatureMap)s on the CPU: NHWC in `f32`, or the
//! blocked layout of [`cifar_kernels::bf16`] in bf16.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use cifar_kernels::Buffer;
//! use cifar_model::{FeatureMap, ops};
//!
//! let images = FeatureMap::new(Buffer::copied(&[0.5; 2 * 4 * 4 * 3]), &[2, 4, 4, 3])?;
//! let filters = Var::from_tensor(&Tensor::full(0.1f32, (3, 3, 3, 8), &Device::Cpu)?)?;
//! let weight = Tensor::full(0.1f32, (8, 10), &Device::Cpu)?;
//!
//! let maps = ops::max_pool(&ops::conv2d(&images, filters.as_tensor(), 1, 1)?, 2)?;
//! let logits = ops::linear(&ops::global_average_pool(&maps)?, &weight, None)?.to_tensor()?;
//! let targets = ops::Targets { labels: &[3, 7], ..Default::default() };
//! let gradients = ops::softmax_cross_entropy(&logits, &targets)?.backward()?;
//! assert!(gradients.get(&filters).is_some());
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! Each operation has its own file with the public function and its forward pass, its backward
//! pass, and a slow counterpart of candle's own operations on tensors. Tests compare values with
//! the counterpart and gradients with finite differences. A gradient is only computed if it is
//! needed.
//!
//! Only the loss works on a tensor, since the logits of a batch are few and optimisers for candle
//! start from a tensor.

mod activation;
mod batch_norm;
mod cast;
mod conv;
mod conv_activation;
mod conv_activation_bf16;
mod conv_rounded;
mod dropout;
mod global_pool;
mod linear;
mod loss;
mod max_pool;

pub use activation::{activation, activation_slow};
pub use batch_norm::{
    BatchNormArgs, batch_norm_evaluate, batch_norm_max_pool_train, batch_norm_slow, batch_norm_train,
};
pub use cast::{to_bf16, to_f32};
pub use conv::{conv2d, conv2d_max_pool, conv2d_slow};
pub use conv_activation::conv2d_activation;
pub use conv_activation_bf16::conv2d_activation_bf16;
pub use conv_rounded::conv2d_rounded;
pub use dropout::dropout;
pub(crate) use global_pool::maxima_in_place;
pub use global_pool::{global_average_pool, global_average_pool_slow, global_max_pool, global_max_pool_slow};
pub use linear::{linear, linear_bf16, linear_slow};
pub use loss::{Targets, softmax_cross_entropy, softmax_cross_entropy_slow};
pub use max_pool::{max_pool, max_pool_slow};

use candle_core::{CpuStorage, Device, Error, Layout, Result, Storage, Tensor};

#[cfg(test)]
mod gradient_check;

/// Returns the values of a contiguous `f32` argument.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| Error::Msg("the argument must be contiguous".into()))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `read` with the values of a tensor, which are only copied if they are not contiguous.
pub(crate) fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => read(values(cpu, layout)?),
        _ => Err(Error::Msg("this operation runs on the CPU only".into())),
    }
}

/// Calls a kernel with the values of two tensors; see [`with_values`].
fn with_both<R>(a: &Tensor, b: &Tensor, read: impl FnOnce(&[f32], &[f32]) -> cifar_kernels::Result<R>) -> Result<R> {
    with_values(a, |a| with_values(b, |b| read(a, b).map_err(Error::wrap)))
}

/// Returns a vector for the gradient of a parameter if it is needed. It is not a `Buffer`,
/// since candle owns it afterwards.
fn new_parameter_gradient(parameter: &Tensor) -> Option<Vec<f32>> {
    parameter.track_op().then(|| vec![0.0; parameter.elem_count()])
}

/// Returns the gradient of a parameter in candle's form.
fn parameter_gradient(parameter: &Tensor, values: Option<Vec<f32>>) -> Result<Option<Tensor>> {
    values.map(|values| Tensor::from_vec(values, parameter.shape(), &Device::Cpu)).transpose()
}

//! Differentiable operations over NHWC `f32` tensors on the CPU.
//!
//! Each operation stands in a file of its own, in four parts: the public function, its forward pass, its backward
//! pass, and a slow twin made of candle's own operations. The tests at the end of each file compare values with the
//! twin and gradients with finite differences. A gradient is computed only where somebody needs it.

mod activation;
mod batch_norm;
mod conv;
mod dropout;
mod linear;
mod loss;
mod pool;

pub use activation::{activation, activation_slow};
pub use batch_norm::{batch_norm_evaluate, batch_norm_slow, batch_norm_train};
pub use conv::{conv2d, conv2d_slow};
pub use dropout::dropout;
pub use linear::{linear, linear_slow};
pub use loss::{softmax_cross_entropy, softmax_cross_entropy_slow};
pub use pool::{max_pool, max_pool_slow};

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
fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => read(values(cpu, layout)?),
        _ => Err(Error::Msg("this operation runs on the CPU only".into())),
    }
}

/// A new tensor of `like`'s shape, filled by `fill`.
fn filled_like(like: &Tensor, fill: impl FnOnce(&mut [f32]) -> cifar_kernels::Result<()>) -> Result<Tensor> {
    let mut out = vec![0.0; like.elem_count()];
    fill(&mut out).map_err(Error::wrap)?;
    Tensor::from_vec(out, like.shape(), &Device::Cpu)
}

//! Activation functions by themselves; most of the time they are fused with batch norm.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::{Activation, activation_backward, activation_forward};

use super::{filled_like, values, with_values};

/// Applies `function` to every value.
///
/// # Errors
/// If the argument is not contiguous.
pub fn activation(input: &Tensor, function: Activation) -> Result<Tensor> {
    input.apply_op1(Activate(function))
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = values(storage, layout)?;
        let mut output = vec![0.0; input.len()];
        activation_forward(self.0, input, &mut output).map_err(Error::wrap)?;
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        with_values(input, |x| {
            with_values(grad, |grad| filled_like(input, |out| activation_backward(self.0, x, grad, out)))
        })
        .map(Some)
    }
}

/// The same by candle's own functions.
pub fn activation_slow(input: &Tensor, function: Activation) -> Result<Tensor> {
    match function {
        Activation::Identity => Ok(input.clone()),
        Activation::Relu => input.relu(),
        Activation::Gelu => input.gelu_erf(),
        Activation::Silu => input.silu(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for function in [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Silu] {
            let args = [random(&[3, 11], 1)];
            check_same(&args, |a| activation(&a[0], function), |a| activation_slow(&a[0], function));
            check_gradient(&args, |a| activation(&a[0], function));
        }
    }
}

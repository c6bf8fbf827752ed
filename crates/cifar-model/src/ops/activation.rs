//! Activation functions alone. Usually they are fused with the operation before.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::bf16::{self, Bf16};
use cifar_kernels::{Activation, Buffer, activation_backward, activation_forward};

use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Applies `function` to every value, in the number type of the input.
///
/// # Errors
/// If the input has no values.
pub fn activation(input: &FeatureMap, function: Activation) -> Result<FeatureMap> {
    if input.is_bf16() {
        let values = input.blocked()?;
        let mut output = Buffer::new(values.len());
        bf16::activation_forward(function, values, &mut output).map_err(Error::wrap)?;
        return record(ActivateBf16 { function, input: input.clone() }, output, input.dims(), input, None, &[]);
    }
    let values = input.values()?;
    let mut output = Buffer::new(values.len());
    activation_forward(function, values, &mut output).map_err(Error::wrap)?;
    record(Activate { function, input: input.clone() }, output, input.dims(), input, None, &[])
}

struct Activate {
    function: Activation,
    input: FeatureMap,
}

impl Operation for Activate {
    const NAME: &'static str = "activation";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        if let Some(mut of_input) = self.input.new_gradient() {
            activation_backward(self.function, self.input.values()?, &gradient, &mut of_input).map_err(Error::wrap)?;
            self.input.put_gradient(of_input)?;
        }
        Ok([None, None])
    }
}

struct ActivateBf16 {
    function: Activation,
    input: FeatureMap,
}

impl Operation for ActivateBf16 {
    const NAME: &'static str = "activation-bf16";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        if let Some(mut of_input) = self.input.new_gradient() {
            bf16::activation_backward(self.function, self.input.blocked()?, &gradient, &mut of_input)
                .map_err(Error::wrap)?;
            self.input.put_gradient(of_input)?;
        }
        Ok([None, None])
    }
}

/// Computes [`activation`] by candle's own functions.
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
    use super::super::gradient_check::{check_gradient, check_same, map, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for function in [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Silu] {
            let args = [random(&[3, 11], 1)];
            let fast = |a: &[Tensor]| activation(&map(&a[0])?, function)?.to_tensor();
            check_same(&args, fast, |a| activation_slow(&a[0], function));
            check_gradient(&args, fast);
        }
    }
}

//! A convolution in `f32`, fused with bias and activation, whose result is rounded to bf16.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::bf16::{self, Bf16, BlockedShape};
use cifar_kernels::{Activation, Buffer, Conv2dShape};

use super::conv::conv2d_shape;
use super::{conv2d_activation, parameter_gradient, to_bf16, to_f32, with_both};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Computes [`conv2d_activation`], rounded to bf16, with GELU as in
/// [`bf16::activation_forward`].
///
/// If only the bias is tracked, or nothing, the result and its gradient are never stored in `f32`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_activation_bf16(
    images: &FeatureMap,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
    activation: Activation,
) -> Result<FeatureMap> {
    let images = &to_f32(images)?;
    if images.is_tracked() || weight.track_op() {
        return to_bf16(&conv2d_activation(images, weight, bias, stride, padding, activation)?);
    }
    let shape = conv2d_shape(images, weight, stride, padding)?;
    let mut output = Buffer::new(BlockedShape::of_output(&shape).map_err(Error::wrap)?.len());
    let values = images.values()?;
    with_both(weight, bias, |weight, bias| {
        bf16::conv2d_activation_forward(&shape, values, weight, bias, activation, &mut output)
    })?;
    let dims = [images.dims()[0], shape.out_height(), shape.out_width(), weight.dims()[3]];
    let op = Conv2dActivationBf16 { shape, images: images.clone(), activation };
    record(op, output, &dims, images, None, &[weight, bias])
}

struct Conv2dActivationBf16 {
    shape: Conv2dShape,
    images: FeatureMap,
    activation: Activation,
}

impl Operation for Conv2dActivationBf16 {
    const NAME: &'static str = "conv2d-activation-bf16";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let (weight, bias) = (parameters[0], parameters[1]);
        let (shape, images, activation) = (&self.shape, self.images.values()?, self.activation);
        let mut of_bias = vec![0.0; bias.elem_count()];
        with_both(weight, bias, |weight, bias| {
            let of_bias = &mut of_bias;
            bf16::conv2d_activation_bias_gradient(shape, images, weight, bias, activation, &gradient, of_bias)
        })?;
        Ok([None, parameter_gradient(bias, Some(of_bias))?])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::gradient_check::{map, random};
    use super::*;

    type Call = fn(&FeatureMap, &Tensor, &Tensor, usize, usize, Activation) -> Result<FeatureMap>;

    /// Returns the values and the gradients of the variables among the arguments.
    fn results(call: Call, args: [&Tensor; 3], activation: Activation, variables: &[&Var]) -> Vec<Vec<f32>> {
        let output = call(&map(args[0]).unwrap(), args[1], args[2], 1, 0, activation).unwrap();
        assert!(output.is_bf16() && output.is_tracked());
        let output = output.to_tensor().unwrap();
        let gradients = (&output * weights(output.dims())).unwrap().sum_all().unwrap().backward().unwrap();
        let mut results = vec![output];
        results.extend(variables.iter().map(|v| gradients.get(v).unwrap().clone()));
        results.into_iter().map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    /// The gradient of the output.
    fn weights(dims: &[usize]) -> Tensor {
        random(dims, 4)
    }

    /// Compares with the rounded result of the operation in `f32`, where `tracked` says which of
    /// images, filters and bias are variables.
    fn check(images: usize, activation: Activation, tracked: [bool; 3]) {
        let args = [random(&[images, 4, 3, 3], 1), random(&[2, 2, 3, 9], 2), random(&[9], 3)];
        let variables = args.each_ref().map(|a| Var::from_tensor(a).unwrap());
        let used: [&Tensor; 3] = std::array::from_fn(|i| if tracked[i] { variables[i].as_tensor() } else { &args[i] });
        let variables: Vec<&Var> = variables.iter().zip(tracked).filter_map(|(v, is)| is.then_some(v)).collect();
        let apart: Call = |x, w, b, s, p, f| to_bf16(&conv2d_activation(x, w, b, s, p, f)?);
        let [found, expected] =
            [conv2d_activation_bf16 as Call, apart].map(|call| results(call, used, activation, &variables));
        let from_table = activation == Activation::Gelu;
        for (found, expected) in found[0].iter().zip(&expected[0]) {
            // GELU may round differently, by one step of at most 1/128. Far below 0 it is 0.
            let allowed = if from_table { expected.abs() / 128.0 + 4e-8 } else { 0.0 };
            assert!((found - expected).abs() <= allowed, "{activation:?}, {images} images: {found}, not {expected}");
        }
        // Sums in another order, of gradients with slopes that are off by 2e-5 at most.
        let weights = weights(&[images, 3, 2, 9]).abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let slopes = if from_table { 2e-5 * weights } else { 0.0 };
        for (found, expected) in found[1..].iter().flatten().zip(expected[1..].iter().flatten()) {
            let allowed = slopes + 2e-5 * expected.abs().max(1.0);
            assert!((found - expected).abs() <= allowed, "{activation:?}, {tracked:?}: {found}, not {expected}");
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_the_operation_in_f32() {
        for activation in [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Silu] {
            for images in [1, 33, 70] {
                check(images, activation, [false, false, true]);
            }
            check(2, activation, [true, false, true]);
            check(2, activation, [true, true, true]);
        }
    }

    #[test]
    fn without_variables_nothing_is_tracked() {
        let (images, weight, bias) = (random(&[2, 5, 4, 3], 1), random(&[2, 2, 3, 6], 2), random(&[6], 3));
        let output = conv2d_activation_bf16(&map(&images).unwrap(), &weight, &bias, 1, 0, Activation::Gelu).unwrap();
        assert!(output.is_bf16() && !output.is_tracked());
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let images = map(&random(&[1, 4, 4, 3], 1)).unwrap();
        let refused = |weight: &[usize], bias: usize| {
            let (weight, bias) = (random(weight, 2), random(&[bias], 3));
            assert!(conv2d_activation_bf16(&images, &weight, &bias, 1, 0, Activation::Relu).is_err());
        };
        refused(&[2, 2, 2, 5], 5);
        refused(&[2, 2, 3, 5], 4);
        refused(&[5, 5, 3, 5], 5);
    }
}

//! A convolution in `f32`, fused with bias and activation, whose result is rounded to bf16.

use std::ops::Range;

use candle_core::{Result, Tensor};
use cifar_kernels::bf16::{Bf16, BlockedShape, from_blocked, to_blocked};
use cifar_kernels::{Activation, Buffer, Conv2dShape, conv2d_activation_bias_gradient, conv2d_activation_forward};

use super::conv::conv2d_shape_of;
use super::{conv2d_activation, parameter_gradient, to_bf16, to_f32, with_both};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};
use crate::number::blocked_shape;

/// Images whose results are stored in `f32` at a time: a multiple of the 32 images of a block.
const IMAGES: usize = 128;

/// Computes [`conv2d_activation`], rounded to bf16.
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
    let [n, h, w, c] = images.images("conv2d_activation")?;
    let whole = conv2d_shape_of([n, h, w, c], weight, stride, padding)?;
    let dims = [n, whole.out_height(), whole.out_width(), weight.dims()[3]];
    let mut output = Buffer::new(blocked_shape(&dims)?.len());
    let (mut parts, mut at) = (Vec::new(), [0; 2]);
    for first in (0..n).step_by(IMAGES) {
        let count = IMAGES.min(n - first);
        let shape = conv2d_shape_of([count, h, w, c], weight, stride, padding)?;
        let blocked = blocked_shape(&[count, dims[1], dims[2], dims[3]])?;
        let end = [at[0] + shape.input_len(), at[1] + blocked.len()];
        parts.push(Part { shape, blocked, input: at[0]..end[0], output: at[1]..end[1] });
        at = end;
    }
    let (values, mut unrounded) = (images.values()?, Buffer::new(longest(&parts)));
    with_both(weight, bias, |weight, bias| {
        for Part { shape, blocked, input, output: place } in &parts {
            let (input, unrounded) = (&values[input.clone()], &mut unrounded[..shape.output_len()]);
            conv2d_activation_forward(shape, input, weight, bias, activation, unrounded)?;
            to_blocked(blocked, unrounded, &mut output[place.clone()])?;
        }
        Ok(())
    })?;
    let op = Conv2dActivationBf16 { parts, images: images.clone(), activation };
    record(op, output, &dims, images, None, &[weight, bias])
}

/// A part of the images.
struct Part {
    shape: Conv2dShape,
    blocked: BlockedShape,
    /// Where the part is in the values of the images.
    input: Range<usize>,
    /// Where the part is in the blocks of the result.
    output: Range<usize>,
}

/// Returns the number of values of the result of the longest part, which is the first.
fn longest(parts: &[Part]) -> usize {
    parts.first().map_or(0, |part| part.shape.output_len())
}

struct Conv2dActivationBf16 {
    parts: Vec<Part>,
    images: FeatureMap,
    activation: Activation,
}

impl Operation for Conv2dActivationBf16 {
    const NAME: &'static str = "conv2d-activation-bf16";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let (weight, bias) = (parameters[0], parameters[1]);
        let images = self.images.values()?;
        let [mut of_bias, mut of_part] = [(); 2].map(|()| vec![0.0; bias.elem_count()]);
        let mut widened = Buffer::new(longest(&self.parts));
        with_both(weight, bias, |weight, bias| {
            for Part { shape, blocked, input, output } in &self.parts {
                let (input, widened) = (&images[input.clone()], &mut widened[..shape.output_len()]);
                from_blocked(blocked, &gradient[output.clone()], widened)?;
                conv2d_activation_bias_gradient(shape, input, weight, bias, self.activation, widened, &mut of_part)?;
                for (sum, part) in of_bias.iter_mut().zip(&of_part) {
                    *sum += part;
                }
            }
            Ok(())
        })?;
        Ok([None, parameter_gradient(bias, Some(of_bias))?])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::gradient_check::{assert_close, map, random};
    use super::*;

    type Call = fn(&FeatureMap, &Tensor, &Tensor, usize, usize, Activation) -> Result<FeatureMap>;

    /// Returns the values and the gradients of the variables among the arguments.
    fn results(call: Call, args: [&Tensor; 3], variables: &[&Var]) -> Vec<Tensor> {
        let output = call(&map(args[0]).unwrap(), args[1], args[2], 1, 0, Activation::Gelu).unwrap();
        assert!(output.is_bf16() && output.is_tracked());
        let output = output.to_tensor().unwrap();
        let weights = random(output.dims(), 4);
        let gradients = (&output * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let mut results = vec![output];
        results.extend(variables.iter().map(|v| gradients.get(v).unwrap().clone()));
        results
    }

    /// Compares with the rounded result of the operation in `f32`, where `tracked` says which of
    /// images, filters and bias are variables.
    fn check(images: usize, tracked: [bool; 3]) {
        let args = [random(&[images, 4, 3, 3], 1), random(&[2, 2, 3, 9], 2), random(&[9], 3)];
        let variables = args.each_ref().map(|a| Var::from_tensor(a).unwrap());
        let used: [&Tensor; 3] = std::array::from_fn(|i| if tracked[i] { variables[i].as_tensor() } else { &args[i] });
        let variables: Vec<&Var> = variables.iter().zip(tracked).filter_map(|(v, is)| is.then_some(v)).collect();
        let apart: Call = |x, w, b, s, p, f| to_bf16(&conv2d_activation(x, w, b, s, p, f)?);
        let (found, expected) = (results(conv2d_activation_bf16, used, &variables), results(apart, used, &variables));
        let bits = |t: &Tensor| -> Vec<u32> {
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        assert_eq!(bits(&found[0]), bits(&expected[0]), "{images} images");
        for (found, expected) in found.iter().zip(&expected) {
            // Sums over other parts of the images.
            assert_close(&format!("{images} images, {tracked:?}"), found, expected);
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_the_operation_in_f32() {
        for images in [1, 33, IMAGES, IMAGES + 1, 2 * IMAGES + 40] {
            check(images, [false, false, true]);
        }
        check(2, [true, false, true]);
        check(2, [true, true, true]);
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

//! A convolution in `f32` whose result is rounded to bf16.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::bf16::{self, Bf16, BlockedShape};
use cifar_kernels::{Activation, Buffer, Conv2dShape};

use super::conv::conv2d_shape;
use super::{conv2d, new_parameter_gradient, parameter_gradient, to_bf16, to_f32, with_values};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Computes [`conv2d`] in `f32`, rounded to bf16. It serves first layers on pixels.
///
/// If the images are not tracked, the result and its gradient are never stored in `f32`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_rounded(images: &FeatureMap, weight: &Tensor, stride: usize, padding: usize) -> Result<FeatureMap> {
    let images = &to_f32(images)?;
    if images.is_tracked() {
        return to_bf16(&conv2d(images, weight, stride, padding)?);
    }
    let shape = conv2d_shape(images, weight, stride, padding)?;
    let mut output = Buffer::new(BlockedShape::of_output(&shape).map_err(Error::wrap)?.len());
    let (values, no_bias) = (images.values()?, vec![0.0; weight.dims()[3]]);
    with_values(weight, |weight| {
        bf16::conv2d_activation_forward(&shape, values, weight, &no_bias, Activation::Identity, &mut output)
            .map_err(Error::wrap)
    })?;
    let dims = [images.dims()[0], shape.out_height(), shape.out_width(), weight.dims()[3]];
    record(Conv2dRounded { shape, images: images.clone() }, output, &dims, images, None, &[weight])
}

struct Conv2dRounded {
    shape: Conv2dShape,
    images: FeatureMap,
}

impl Operation for Conv2dRounded {
    const NAME: &'static str = "conv2d-rounded";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let weight = parameters[0];
        let mut of_weight = new_parameter_gradient(weight);
        if let Some(of_weight) = &mut of_weight {
            let images = self.images.values()?;
            bf16::conv2d_weight_gradient_f32(&self.shape, images, &gradient, of_weight).map_err(Error::wrap)?;
        }
        Ok([parameter_gradient(weight, of_weight)?, None])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::gradient_check::{map, random};
    use super::*;

    type Call = fn(&FeatureMap, &Tensor, usize, usize) -> Result<FeatureMap>;

    /// Returns the values, and the gradients of the variables among images and filters.
    fn results(call: Call, args: [&Tensor; 2], [stride, padding]: [usize; 2], variables: &[&Var]) -> Vec<Vec<f32>> {
        let output = call(&map(args[0]).unwrap(), args[1], stride, padding).unwrap();
        assert!(output.is_bf16() && output.is_tracked());
        let output = output.to_tensor().unwrap();
        // Weights that bf16 has exactly.
        let weights = random(output.dims(), 4).to_dtype(candle_core::DType::BF16).unwrap();
        let weights = weights.to_dtype(candle_core::DType::F32).unwrap();
        let gradients = (&output * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let mut results = vec![output];
        results.extend(variables.iter().map(|v| gradients.get(v).unwrap().clone()));
        results.into_iter().map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    /// Compares with the rounded result of the operation in `f32`: the same bits, and gradients that
    /// differ by the order of their sums.
    fn check(images: usize, kernel: usize, places: [usize; 2], tracked: [bool; 2]) {
        let args = [random(&[images, 6, 5, 3], 1), random(&[kernel, kernel, 3, 9], 2)];
        let variables = args.each_ref().map(|a| Var::from_tensor(a).unwrap());
        let used: [&Tensor; 2] = std::array::from_fn(|i| if tracked[i] { variables[i].as_tensor() } else { &args[i] });
        let variables: Vec<&Var> = variables.iter().zip(tracked).filter_map(|(v, is)| is.then_some(v)).collect();
        let apart: Call = |x, w, s, p| to_bf16(&conv2d(x, w, s, p)?);
        let [found, expected] = [conv2d_rounded, apart].map(|call| results(call, used, places, &variables));
        assert_eq!(found[0], expected[0], "{images}, {kernel}, {places:?}");
        for (found, expected) in found.iter().zip(&expected).skip(1) {
            let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-5 * largest, "{places:?}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_the_operation_in_f32() {
        for images in [1, 33, 70] {
            for (kernel, places) in [(3, [1, 1]), (1, [1, 0]), (3, [2, 1]), (2, [1, 0])] {
                check(images, kernel, places, [false, true]);
            }
        }
        check(2, 3, [1, 1], [true, true]);
        check(2, 3, [1, 1], [true, false]);
    }

    #[test]
    fn without_variables_nothing_is_tracked() {
        let (images, weight) = (map(&random(&[2, 5, 4, 3], 1)).unwrap(), random(&[3, 3, 3, 6], 2));
        let output = conv2d_rounded(&images, &weight, 1, 1).unwrap();
        assert!(output.is_bf16() && !output.is_tracked());
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let images = map(&random(&[1, 4, 4, 3], 1)).unwrap();
        for weight in [[2, 2, 2, 5], [5, 5, 3, 5]] {
            assert!(conv2d_rounded(&images, &random(&weight, 2), 1, 0).is_err());
        }
    }
}

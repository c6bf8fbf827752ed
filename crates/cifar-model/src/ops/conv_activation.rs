//! A convolution fused with bias and activation, for filters that are not trained, such as
//! whitening.

use candle_core::{Result, Tensor};
use cifar_kernels::{
    Activation, Buffer, Conv2dShape, activation_backward, bias_gradient, conv2d_activation_bias_gradient,
    conv2d_activation_forward, conv2d_backward, conv2d_forward,
};

use super::conv::conv2d_shape;
use super::{new_parameter_gradient, parameter_gradient, to_f32, with_both};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Computes activation(convolution of `images` + `bias`): `[N, H', W', O]`.
///
/// `images` is `[N, H, W, I]`, `weight` is `[K, K, I, O]`, and `bias` is `[O]`. The operation is
/// optimised for the case that only the bias is tracked, or nothing: no other gradient is computed
/// then. All gradients are correct in any case. It is computed in `f32`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_activation(
    images: &FeatureMap,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
    activation: Activation,
) -> Result<FeatureMap> {
    let images = &to_f32(images)?;
    let shape = conv2d_shape(images, weight, stride, padding)?;
    let (mut output, values) = (Buffer::new(shape.output_len()), images.values()?);
    with_both(weight, bias, |weight, bias| {
        conv2d_activation_forward(&shape, values, weight, bias, activation, &mut output)
    })?;
    let dims = [images.dims()[0], shape.out_height(), shape.out_width(), weight.dims()[3]];
    let op = Conv2dActivation { shape, images: images.clone(), activation };
    record(op, output, &dims, images, None, &[weight, bias])
}

struct Conv2dActivation {
    shape: Conv2dShape,
    images: FeatureMap,
    activation: Activation,
}

impl Operation for Conv2dActivation {
    const NAME: &'static str = "conv2d-activation";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let (weight, bias) = (parameters[0], parameters[1]);
        let (shape, images, channels) = (&self.shape, self.images.values()?, bias.elem_count());
        let mut of_bias = vec![0.0; channels];
        if !self.images.is_tracked() && !weight.track_op() {
            with_both(weight, bias, |weight, bias| {
                let of_bias = &mut of_bias;
                conv2d_activation_bias_gradient(shape, images, weight, bias, self.activation, &gradient, of_bias)
            })?;
            return Ok([None, parameter_gradient(bias, Some(of_bias))?]);
        }
        let (mut of_images, mut of_weight) = (self.images.new_gradient(), new_parameter_gradient(weight));
        with_both(weight, bias, |weight, bias| {
            let (mut before, mut of_before) = (Buffer::new(gradient.len()), Buffer::new(gradient.len()));
            conv2d_forward(shape, images, weight, Some(bias), &mut before)?;
            activation_backward(self.activation, &before, &gradient, &mut of_before)?;
            bias_gradient(gradient.len() / channels, channels, &of_before, &mut of_bias)?;
            let (of_images, of_weight) = (of_images.as_deref_mut(), of_weight.as_deref_mut());
            conv2d_backward(shape, images, weight, &of_before, None, of_images, of_weight)
        })?;
        if let Some(of_images) = of_images {
            self.images.put_gradient(of_images)?;
        }
        Ok([parameter_gradient(weight, of_weight)?, parameter_gradient(bias, bias.track_op().then_some(of_bias))?])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::gradient_check::{check_gradient, check_same, map, random};
    use super::super::{activation_slow, conv2d_slow};
    use super::*;

    fn slow(images: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        activation_slow(&conv2d_slow(images, weight, 1, 0)?.broadcast_add(bias)?, Activation::Gelu)
    }

    #[test]
    fn values_and_all_gradients_are_right() {
        let args = [random(&[2, 5, 4, 3], 1), random(&[2, 2, 3, 6], 2), random(&[6], 3)];
        let fast = |a: &[Tensor]| conv2d_activation(&map(&a[0])?, &a[1], &a[2], 1, 0, Activation::Gelu)?.to_tensor();
        check_same(&args, fast, |a| slow(&a[0], &a[1], &a[2]));
        check_gradient(&args, fast);
    }

    #[test]
    fn frozen_filters_have_a_trained_bias() {
        let (images, weight) = (random(&[2, 5, 4, 3], 1), random(&[2, 2, 3, 6], 2));
        let args = [random(&[6], 3)];
        let fast =
            |a: &[Tensor]| conv2d_activation(&map(&images)?, &weight, &a[0], 1, 0, Activation::Gelu)?.to_tensor();
        check_same(&args, fast, |a| slow(&images, &weight, &a[0]));
        check_gradient(&args, fast);
    }

    #[test]
    fn without_variables_nothing_is_tracked() {
        let (images, weight) = (map(&random(&[2, 5, 4, 3], 1)).unwrap(), random(&[2, 2, 3, 6], 2));
        let bias = Var::from_tensor(&random(&[6], 3)).unwrap();
        let tracked =
            |bias: &Tensor| conv2d_activation(&images, &weight, bias, 1, 0, Activation::Gelu).unwrap().is_tracked();
        assert!(tracked(bias.as_tensor()) && !tracked(&bias.as_detached_tensor()));
    }
}

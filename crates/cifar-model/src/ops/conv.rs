//! Two-dimensional convolution (cross-correlation, as in other frameworks), alone or with 2×2 max
//! pooling.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::bf16::{self, Bf16, BlockedShape};
use cifar_kernels::{Buffer, Conv2dDimensions, Conv2dShape, conv2d_backward, conv2d_forward, conv2d_max_pool_forward};

use super::{new_parameter_gradient, parameter_gradient, with_values};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};
use crate::number::blocked_shape;

/// Convolves `images` `[N, H, W, I]` with `weight` `[K, K, I, O]`.
///
/// The result is `[N, H', W', O]` with H' = (H + 2 · padding − K) / stride + 1. Of images in bf16, it
/// is in bf16: filters are rounded, and products are summed in `f32`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(images: &FeatureMap, weight: &Tensor, stride: usize, padding: usize) -> Result<FeatureMap> {
    let shape = conv2d_shape(images, weight, stride, padding)?;
    let dims = [images.dims()[0], shape.out_height(), shape.out_width(), weight.dims()[3]];
    conv2d_of_shape(images, weight, shape, &dims)
}

/// As [`conv2d`], with the shape of the result. `weight` may have other dimensions of the same order
/// in memory.
pub(super) fn conv2d_of_shape(
    images: &FeatureMap,
    weight: &Tensor,
    shape: Conv2dShape,
    dims: &[usize],
) -> Result<FeatureMap> {
    if images.is_bf16() {
        let mut output = Buffer::new(BlockedShape::of_output(&shape).map_err(Error::wrap)?.len());
        let images_in_blocks = images.blocked()?;
        with_values(weight, |weight| {
            bf16::conv2d_forward(&shape, images_in_blocks, weight, &mut output).map_err(Error::wrap)
        })?;
        let op = Conv2dBf16 { shape, images: images.clone(), places: None };
        return record(op, output, dims, images, None, &[weight]);
    }
    let (mut output, values) = (Buffer::new(shape.output_len()), images.values()?);
    with_values(weight, |weight| conv2d_forward(&shape, values, weight, None, &mut output).map_err(Error::wrap))?;
    record(Conv2d { shape, images: images.clone(), places: None }, output, dims, images, None, &[weight])
}

/// Computes [`conv2d`] followed by 2×2 max pooling with stride 2: `[N, H'/2, W'/2, O]`, rounded
/// down.
///
/// The first of equal maxima receives the gradient. The output of the convolution is never stored.
///
/// # Errors
/// If the shapes do not fit, or the output of the convolution has only one row or column.
pub fn conv2d_max_pool(images: &FeatureMap, weight: &Tensor, stride: usize, padding: usize) -> Result<FeatureMap> {
    let shape = conv2d_shape(images, weight, stride, padding)?;
    let pool = shape.pool().map_err(Error::wrap)?;
    let dims = [images.dims()[0], pool.out_height(), pool.out_width(), weight.dims()[3]];
    if images.is_bf16() {
        let len = blocked_shape(&dims)?.len();
        let (mut output, mut places) = (Buffer::new(len), Buffer::new(len));
        let images_in_blocks = images.blocked()?;
        with_values(weight, |weight| {
            bf16::conv2d_max_pool_forward(&shape, images_in_blocks, weight, &mut output, &mut places)
                .map_err(Error::wrap)
        })?;
        let op = Conv2dBf16 { shape, images: images.clone(), places: Some(places) };
        return record(op, output, &dims, images, None, &[weight]);
    }
    let (mut output, mut places) = (Buffer::new(pool.output_len()), Buffer::new(pool.output_len()));
    let values = images.values()?;
    with_values(weight, |weight| {
        conv2d_max_pool_forward(&shape, values, weight, &mut output, &mut places).map_err(Error::wrap)
    })?;
    record(Conv2d { shape, images: images.clone(), places: Some(places) }, output, &dims, images, None, &[weight])
}

/// Returns the shape of the convolution, after comparing `images` with `weight`.
pub(super) fn conv2d_shape(images: &FeatureMap, weight: &Tensor, stride: usize, padding: usize) -> Result<Conv2dShape> {
    let [n, h, w, i] = images.images("conv2d")?;
    match *weight.dims() {
        [kernel, kernel_width, weight_i, o] if kernel == kernel_width && i == weight_i => {
            let dimensions = Conv2dDimensions {
                images: n,
                height: h,
                width: w,
                in_channels: i,
                out_channels: o,
                kernel,
                stride,
                padding,
            };
            Conv2dShape::new(dimensions).map_err(Error::wrap)
        }
        _ => Err(Error::Msg(format!(
            "conv2d: weight {:?} does not fit images {:?}; expected [K, K, I, O] and [N, H, W, I]",
            weight.dims(),
            images.dims()
        ))),
    }
}

struct Conv2d {
    shape: Conv2dShape,
    images: FeatureMap,
    /// The position of each maximum, if pooling follows.
    places: Option<Buffer<u8>>,
}

impl Operation for Conv2d {
    const NAME: &'static str = "conv2d";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let weight = parameters[0];
        let mut of_images = self.images.new_gradient();
        let mut of_weight = new_parameter_gradient(weight);
        let images = self.images.values()?;
        with_values(weight, |weight| {
            conv2d_backward(
                &self.shape,
                images,
                weight,
                &gradient,
                self.places.as_deref(),
                of_images.as_deref_mut(),
                of_weight.as_deref_mut(),
            )
            .map_err(Error::wrap)
        })?;
        if let Some(of_images) = of_images {
            self.images.put_gradient(of_images)?;
        }
        Ok([parameter_gradient(weight, of_weight)?, None])
    }
}

struct Conv2dBf16 {
    shape: Conv2dShape,
    images: FeatureMap,
    /// The position of each maximum, if pooling follows.
    places: Option<Buffer<u8>>,
}

impl Operation for Conv2dBf16 {
    const NAME: &'static str = "conv2d-bf16";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let weight = parameters[0];
        let mut of_images = self.images.new_gradient();
        let mut of_weight = new_parameter_gradient(weight);
        let images = self.images.blocked()?;
        with_values(weight, |weight| {
            bf16::conv2d_backward(
                &self.shape,
                images,
                weight,
                &gradient,
                self.places.as_deref(),
                of_images.as_deref_mut(),
                of_weight.as_deref_mut(),
            )
            .map_err(Error::wrap)
        })?;
        if let Some(of_images) = of_images {
            self.images.put_gradient(of_images)?;
        }
        Ok([parameter_gradient(weight, of_weight)?, None])
    }
}

/// Computes [`conv2d`] by candle's own operations, for comparison and for other devices.
pub fn conv2d_slow(images: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let nchw = images.permute((0, 3, 1, 2))?.contiguous()?;
    let oikk = weight.permute((3, 2, 0, 1))?.contiguous()?;
    nchw.conv2d(&oikk, padding, stride, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::gradient_check::{check_gradient, check_same, map, random};
    use super::super::{max_pool, max_pool_slow, to_bf16};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for (kernel, stride, padding) in [(3, 1, 1), (1, 1, 0), (3, 2, 1), (1, 2, 0), (2, 1, 0), (5, 1, 2)] {
            for width in [5, 6] {
                let args = [random(&[2, 7, width, 3], 1), random(&[kernel, kernel, 3, 5], 2)];
                let fast = |a: &[Tensor]| conv2d(&map(&a[0])?, &a[1], stride, padding)?.to_tensor();
                check_gradient(&args, fast);
                // candle 0.11.1 cannot differentiate a strided convolution that ignores columns.
                if stride == 1 || width % stride == 1 {
                    check_same(&args, fast, |a| conv2d_slow(&a[0], &a[1], stride, padding));
                }
            }
        }
    }

    #[test]
    fn values_and_gradients_with_pooling_are_right() {
        for (h, w) in [(4, 6), (5, 7)] {
            let args = [random(&[2, h, w, 3], 1), random(&[3, 3, 3, 5], 2)];
            let fast = |a: &[Tensor]| conv2d_max_pool(&map(&a[0])?, &a[1], 1, 1)?.to_tensor();
            check_same(&args, fast, |a| max_pool_slow(&conv2d_slow(&a[0], &a[1], 1, 1)?, 2));
        }
    }

    /// In bf16, values and gradients have the bits of the convolution and the pooling one after the
    /// other. Finite differences are too rough to judge them; [`cifar_kernels`] tests both apart.
    #[test]
    fn values_and_gradients_with_pooling_in_bf16_are_those_of_two_operations() {
        for (n, h, w, i, o) in [(2, 4, 6, 8, 5), (33, 5, 7, 9, 33)] {
            let args = [random(&[n, h, w, i], 1), random(&[3, 3, i, o], 2)];
            let [fused, apart] = [true, false].map(|is_fused| {
                let vars: Vec<Var> = args.iter().map(|a| Var::from_tensor(a).unwrap()).collect();
                let images = to_bf16(&map(vars[0].as_tensor()).unwrap()).unwrap();
                let pooled = if is_fused {
                    conv2d_max_pool(&images, &vars[1], 1, 1)
                } else {
                    max_pool(&conv2d(&images, &vars[1], 1, 1).unwrap(), 2)
                };
                let pooled = pooled.unwrap();
                assert!(pooled.is_bf16() && pooled.dims() == [n, h / 2, w / 2, o]);
                let values = pooled.to_tensor().unwrap();
                let weights = random(&[n, h / 2, w / 2, o], 3);
                let gradients = (&values * weights).unwrap().sum_all().unwrap().backward().unwrap();
                let all = [&values, gradients.get(&vars[0]).unwrap(), gradients.get(&vars[1]).unwrap()];
                all.map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            });
            assert!(fused == apart && fused.iter().flatten().any(|v| *v != 0.0), "{n}×{h}×{w}");
        }
    }

    /// Frozen filters, and images that need no gradient.
    #[test]
    fn only_gradients_that_are_needed_are_computed_in_bf16() {
        let args = [random(&[2, 4, 4, 8], 1), random(&[3, 3, 8, 5], 2)];
        for tracked in 0..2 {
            let var = Var::from_tensor(&args[tracked]).unwrap();
            let mut tensors = args.clone();
            tensors[tracked] = var.as_tensor().clone();
            let images = to_bf16(&map(&tensors[0]).unwrap()).unwrap();
            let loss = conv2d_max_pool(&images, &tensors[1], 1, 1).unwrap().to_tensor().unwrap().sum_all().unwrap();
            let gradient = loss.backward().unwrap().remove(&var).unwrap();
            assert_eq!(gradient.dims(), args[tracked].dims());
            let of = |t: &Tensor| t.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(of(&gradient) > 0.0, "argument {tracked}");
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let images = map(&random(&[1, 4, 4, 3], 1)).unwrap();
        assert!(conv2d(&images, &random(&[3, 3, 2, 5], 2), 1, 1).is_err());
        assert!(conv2d(&images, &random(&[3, 2, 3, 5], 2), 1, 1).is_err());
        assert!(conv2d(&images, &random(&[3, 3, 3, 5], 2), 0, 1).is_err());
        assert!(conv2d(&images.flatten().unwrap(), &random(&[3, 3, 3, 5], 2), 1, 1).is_err());
        let one_pixel = random(&[4, 4, 3, 5], 2);
        assert!(conv2d_max_pool(&images, &one_pixel, 1, 0).is_err());
        assert!(conv2d_max_pool(&to_bf16(&images).unwrap(), &one_pixel, 1, 0).is_err());
    }
}

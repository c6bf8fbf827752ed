//! Max pooling that stores the position of each maximum.
//!
//! candle's own gradient of `max_pool2d` divides by the size of the window, and ignores most
//! windows if sizes are odd.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::bf16::{self, Bf16};
use cifar_kernels::{Buffer, PoolDimensions, PoolShape, max_pool_backward, max_pool_forward};

use crate::FeatureMap;
use crate::feature_map::{Operation, record};
use crate::number::blocked_shape;

/// Computes the maximum of each `window`×`window` window of `images` `[N, H, W, C]`, with stride
/// `window`: `[N, H/window, W/window, C]`, rounded down.
///
/// Rows and columns that fill no window are ignored. The first of equal maxima receives the
/// gradient. The result has the number type of the images.
///
/// # Errors
/// If the window is larger than the images.
pub fn max_pool(images: &FeatureMap, window: usize) -> Result<FeatureMap> {
    let [n, h, w, c] = images.images("max_pool")?;
    let shape = PoolShape::new(PoolDimensions { images: n, height: h, width: w, channels: c, window, stride: window })
        .map_err(Error::wrap)?;
    let dims = [n, shape.out_height(), shape.out_width(), c];
    if images.is_bf16() {
        let len = blocked_shape(&dims)?.len();
        let (mut output, mut places) = (Buffer::new(len), Buffer::new(len));
        bf16::max_pool_forward(&shape, images.blocked()?, &mut output, &mut places).map_err(Error::wrap)?;
        let op = MaxPoolBf16 { shape, images: images.without_values(), places };
        return record(op, output, &dims, images, None, &[]);
    }
    let (mut output, mut places) = (Buffer::new(shape.output_len()), Buffer::new(shape.output_len()));
    max_pool_forward(&shape, images.values()?, &mut output, &mut places).map_err(Error::wrap)?;
    record(MaxPool { shape, images: images.without_values(), places }, output, &dims, images, None, &[])
}

struct MaxPool {
    shape: PoolShape,
    images: FeatureMap,
    places: Buffer<u8>,
}

impl Operation for MaxPool {
    const NAME: &'static str = "max-pool";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        if let Some(mut of_images) = self.images.new_gradient() {
            max_pool_backward(&self.shape, &self.places, &gradient, &mut of_images).map_err(Error::wrap)?;
            self.images.put_gradient(of_images)?;
        }
        Ok([None, None])
    }
}

struct MaxPoolBf16 {
    shape: PoolShape,
    images: FeatureMap,
    places: Buffer<u8>,
}

impl Operation for MaxPoolBf16 {
    const NAME: &'static str = "max-pool-bf16";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        if let Some(mut of_images) = self.images.new_gradient() {
            bf16::max_pool_backward(&self.shape, &self.places, &gradient, &mut of_images).map_err(Error::wrap)?;
            self.images.put_gradient(of_images)?;
        }
        Ok([None, None])
    }
}

/// Computes [`max_pool`] by reshaping and `max`. The gradient is only correct if maxima are unique.
pub fn max_pool_slow(images: &Tensor, window: usize) -> Result<Tensor> {
    let (n, h, w, c) = images.dims4()?;
    let (rows, columns) = (h / window, w / window);
    images
        .narrow(1, 0, rows * window)?
        .narrow(2, 0, columns * window)?
        .reshape((n, rows, window, columns, window * c))?
        .max(2)?
        .reshape((n, rows, columns, window, c))?
        .max(3)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, distinct, map, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right_for_even_and_odd_sizes() {
        for (h, w, window) in [(4, 6, 2), (7, 5, 2), (7, 7, 3), (3, 3, 3)] {
            let args = [distinct(&[2, h, w, 3], 1)];
            let fast = |a: &[Tensor]| max_pool(&map(&a[0])?, window)?.to_tensor();
            check_same(&args, fast, |a| max_pool_slow(&a[0], window));
            check_gradient(&args, fast);
        }
    }

    #[test]
    fn a_window_larger_than_the_image_is_refused() {
        assert!(max_pool(&map(&random(&[1, 2, 2, 1], 1)).unwrap(), 3).is_err());
    }
}

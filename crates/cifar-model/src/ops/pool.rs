//! Max pooling that remembers where each maximum stood.
//!
//! candle's own gradient of `max_pool2d` divides by the window's size and loses most windows where sizes are odd.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::{PoolShape, max_pool_backward, max_pool_forward};

use super::{filled_like, values, with_values};

/// The maximum of each `window`×`window` square of `images` [N, H, W, C], `window` apart: [N, H/window, W/window, C],
/// rounded down. Rows and columns that fill no window are left out. The first of equal maxima takes the gradient.
///
/// # Errors
/// If the window is larger than the images or they are not contiguous.
pub fn max_pool(images: &Tensor, window: usize) -> Result<Tensor> {
    images.apply_op1(MaxPool { window, argmax: Arc::default() })
}

struct MaxPool {
    window: usize,
    argmax: Arc<OnceLock<Vec<u8>>>,
}

impl MaxPool {
    fn shape(&self, images: &[usize]) -> Result<PoolShape> {
        let &[n, h, w, c] = images else {
            return Err(Error::Msg(format!("max_pool: expected [N, H, W, C], found {images:?}")));
        };
        PoolShape::new(n, h, w, c, self.window, self.window).map_err(Error::wrap)
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool-nhwc"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(layout.dims())?;
        let mut output = vec![0.0; shape.output_len()];
        let mut argmax = vec![0; shape.output_len()];
        max_pool_forward(&shape, values(storage, layout)?, &mut output, &mut argmax).map_err(Error::wrap)?;
        // An op value is made for one call, so the cell is empty.
        let _ = self.argmax.set(argmax);
        let dims = (layout.dims()[0], shape.out_height(), shape.out_width(), layout.dims()[3]);
        Ok((CpuStorage::F32(output), dims.into()))
    }

    fn bwd(&self, images: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let shape = self.shape(images.dims())?;
        let argmax = self.argmax.get().ok_or_else(|| Error::Msg("max_pool: backward before forward".into()))?;
        with_values(grad, |grad| filled_like(images, |out| max_pool_backward(&shape, argmax, grad, out))).map(Some)
    }
}

/// The same by reshaping and `max`; its gradient is right only where maxima are unique.
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
    use super::super::gradient_check::{check_gradient, check_same, distinct, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right_for_even_and_odd_sizes() {
        for (h, w, window) in [(4, 6, 2), (7, 5, 2), (7, 7, 3), (3, 3, 3)] {
            let args = [distinct(&[2, h, w, 3], 1)];
            check_same(&args, |a| max_pool(&a[0], window), |a| max_pool_slow(&a[0], window));
            check_gradient(&args, |a| max_pool(&a[0], window));
        }
    }

    #[test]
    fn a_window_larger_than_the_image_is_refused() {
        assert!(max_pool(&random(&[1, 2, 2, 1], 1), 3).is_err());
    }
}

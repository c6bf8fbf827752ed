//! Two-dimensional convolution (cross-correlation, as every framework has it).

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::{Conv2dShape, conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient};

use super::{filled_like, values, with_values};

/// Convolves `images` [N, H, W, I] with `weight` [K, K, I, O] into [N, H', W', O], H' = (H + 2·padding − K) / stride + 1.
///
/// # Errors
/// If the shapes do not fit or an argument is not contiguous.
pub fn conv2d(images: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    images.apply_op2(weight, Conv2d { stride, padding })
}

struct Conv2d {
    stride: usize,
    padding: usize,
}

impl Conv2d {
    fn shape(&self, images: &[usize], weight: &[usize]) -> Result<Conv2dShape> {
        let (&[n, h, w, i], &[kernel, kernel_width, weight_i, o]) = (images, weight) else {
            return Err(Error::Msg(format!(
                "conv2d: expected [N, H, W, I] and [K, K, I, O], found {images:?} and {weight:?}"
            )));
        };
        if kernel != kernel_width || i != weight_i {
            return Err(Error::Msg(format!("conv2d: weight {weight:?} does not fit images {images:?}")));
        }
        Conv2dShape::new(n, h, w, i, o, kernel, self.stride, self.padding).map_err(Error::wrap)
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d-nhwc"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(l1.dims(), l2.dims())?;
        let mut output = vec![0.0; shape.output_len()];
        conv2d_forward(&shape, values(s1, l1)?, values(s2, l2)?, None, &mut output).map_err(Error::wrap)?;
        let dims = (l1.dims()[0], shape.out_height(), shape.out_width(), l2.dims()[3]);
        Ok((CpuStorage::F32(output), dims.into()))
    }

    fn bwd(
        &self,
        images: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let shape = self.shape(images.dims(), weight.dims())?;
        with_values(grad, |grad| {
            let of_images = || {
                with_values(weight, |weight| {
                    filled_like(images, |out| conv2d_input_gradient(&shape, grad, weight, out))
                })
            };
            let of_weight = || {
                with_values(images, |images| {
                    filled_like(weight, |out| conv2d_weight_gradient(&shape, images, grad, out))
                })
            };
            Ok((images.track_op().then(of_images).transpose()?, weight.track_op().then(of_weight).transpose()?))
        })
    }
}

/// The same by candle's own convolution, for comparison and for other devices.
pub fn conv2d_slow(images: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let nchw = images.permute((0, 3, 1, 2))?.contiguous()?;
    let oikk = weight.permute((3, 2, 0, 1))?.contiguous()?;
    nchw.conv2d(&oikk, padding, stride, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for (kernel, stride, padding) in [(3, 1, 1), (1, 1, 0), (3, 2, 1), (2, 1, 0), (5, 1, 2)] {
            for width in [5, 6] {
                let args = [random(&[2, 7, width, 3], 1), random(&[kernel, kernel, 3, 5], 2)];
                let fast = |a: &[Tensor]| conv2d(&a[0], &a[1], stride, padding);
                check_gradient(&args, fast);
                // candle 0.11.1 cannot differentiate a strided convolution that leaves columns out.
                if stride == 1 || width % stride == 1 {
                    check_same(&args, fast, |a| conv2d_slow(&a[0], &a[1], stride, padding));
                }
            }
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let images = random(&[1, 4, 4, 3], 1);
        assert!(conv2d(&images, &random(&[3, 3, 2, 5], 2), 1, 1).is_err());
        assert!(conv2d(&images, &random(&[3, 2, 3, 5], 2), 1, 1).is_err());
        assert!(conv2d(&images, &random(&[3, 3, 3, 5], 2), 0, 1).is_err());
        assert!(conv2d(&images.permute((0, 2, 1, 3)).unwrap(), &random(&[3, 3, 3, 5], 2), 1, 1).is_err());
    }
}

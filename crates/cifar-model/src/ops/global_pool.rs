//! Global pooling: maps of any height and width become one value per channel.
//!
//! These maps are only a few pixels large, so plain loops are fast enough. The result is in `f32`.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::Buffer;
use rayon::prelude::*;

use super::to_f32;
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Computes the maximum of each channel over all pixels: `[N, H, W, C]` → `[N, C]`.
///
/// The first of equal maxima receives the gradient. NaN is larger than any number.
///
/// # Errors
/// If the images are not `[N, H, W, C]` or have no pixels.
pub fn global_max_pool(images: &FeatureMap) -> Result<FeatureMap> {
    let images = &to_f32(images)?;
    let (dims, pixels) = dimensions(images)?;
    let mut output = Buffer::new(dims[0] * dims[1]);
    output.par_chunks_mut(dims[1]).zip(images.values()?.par_chunks(pixels * dims[1])).for_each(|(output, image)| {
        output.copy_from_slice(&image[..output.len()]);
        for pixel in image.chunks_exact(output.len()).skip(1) {
            for (best, value) in output.iter_mut().zip(pixel) {
                if *value > *best || (value.is_nan() && !best.is_nan()) {
                    *best = *value;
                }
            }
        }
    });
    let kept = Buffer::copied(&output);
    record(GlobalMaxPool { images: images.clone(), maxima: kept }, output, &dims, images, None, &[])
}

/// Computes the mean of each channel over all pixels: `[N, H, W, C]` → `[N, C]`.
///
/// # Errors
/// If the images are not `[N, H, W, C]` or have no pixels.
pub fn global_average_pool(images: &FeatureMap) -> Result<FeatureMap> {
    let images = &to_f32(images)?;
    let (dims, pixels) = dimensions(images)?;
    let mut output = Buffer::new(dims[0] * dims[1]);
    output.par_chunks_mut(dims[1]).zip(images.values()?.par_chunks(pixels * dims[1])).for_each(|(output, image)| {
        output.fill(0.0);
        for pixel in image.chunks_exact(output.len()) {
            for (sum, value) in output.iter_mut().zip(pixel) {
                *sum += value;
            }
        }
        for sum in output {
            *sum /= pixels as f32;
        }
    });
    record(GlobalAveragePool { images: images.clone() }, output, &dims, images, None, &[])
}

/// Keeps the first maximum of each channel in its place and sets all other values to 0, so that the
/// sum over all pixels is that of [`global_max_pool`]. Without gradients.
///
/// # Errors
/// As [`global_max_pool`].
pub(crate) fn maxima_in_place(images: &FeatureMap) -> Result<FeatureMap> {
    let images = &to_f32(images)?;
    let ([_, channels], pixels) = dimensions(images)?;
    let maxima = global_max_pool(images)?;
    let mut output = Buffer::copied(images.values()?);
    let per_image = output.chunks_exact_mut(pixels * channels).zip(maxima.values()?.chunks_exact(channels));
    for (image, maxima) in per_image {
        let mut found = vec![false; channels];
        for pixel in image.chunks_exact_mut(channels) {
            for ((value, maximum), found) in pixel.iter_mut().zip(maxima).zip(&mut found) {
                // No value is greater than the maximum.
                let is_first = !*found && *value >= *maximum;
                *found |= is_first;
                *value = if is_first { *value } else { 0.0 };
            }
        }
    }
    FeatureMap::new(output, images.dims())
}

/// Returns the number of images and channels, and the pixels per image.
fn dimensions(images: &FeatureMap) -> Result<([usize; 2], usize)> {
    let [n, h, w, c] = images.images("global pool")?;
    if images.dims().contains(&0) {
        return Err(Error::Msg(format!("global pool: {:?} has a dimension of 0", images.dims())));
    }
    Ok(([n, c], h * w))
}

struct GlobalMaxPool {
    images: FeatureMap,
    maxima: Buffer<f32>,
}

impl Operation for GlobalMaxPool {
    const NAME: &'static str = "global-max-pool";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let ([_, c], pixels) = dimensions(&self.images)?;
        let Some(mut of_images) = self.images.new_gradient() else { return Ok([None, None]) };
        let images = of_images.par_chunks_mut(pixels * c).zip(self.images.values()?.par_chunks(pixels * c));
        let results = gradient.par_chunks(c).zip(self.maxima.par_chunks(c));
        images.zip(results).for_each_init(Vec::new, |left: &mut Vec<f32>, ((of_image, image), (gradient, maxima))| {
            // The remaining gradient of each channel: all of it, until its maximum is found.
            left.clear();
            left.extend_from_slice(gradient);
            for (of_pixel, pixel) in of_image.chunks_exact_mut(c).zip(image.chunks_exact(c)) {
                for (((g, x), left), best) in of_pixel.iter_mut().zip(pixel).zip(left.iter_mut()).zip(maxima) {
                    // No value is greater than the maximum.
                    *g = if x >= best { std::mem::take(left) } else { 0.0 };
                }
            }
        });
        self.images.put_gradient(of_images)?;
        Ok([None, None])
    }
}

struct GlobalAveragePool {
    images: FeatureMap,
}

impl Operation for GlobalAveragePool {
    const NAME: &'static str = "global-average-pool";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let ([_, c], pixels) = dimensions(&self.images)?;
        let Some(mut of_images) = self.images.new_gradient() else { return Ok([None, None]) };
        of_images.par_chunks_mut(pixels * c).zip(gradient.par_chunks(c)).for_each(|(of_image, gradient)| {
            for of_pixel in of_image.chunks_exact_mut(c) {
                for (g, sum) in of_pixel.iter_mut().zip(gradient) {
                    *g = sum / pixels as f32;
                }
            }
        });
        self.images.put_gradient(of_images)?;
        Ok([None, None])
    }
}

/// Computes [`global_max_pool`] by `max`. The gradient is only correct if maxima are unique.
pub fn global_max_pool_slow(images: &Tensor) -> Result<Tensor> {
    images.flatten(1, 2)?.max(1)
}

/// Computes [`global_average_pool`] by `mean`.
pub fn global_average_pool_slow(images: &Tensor) -> Result<Tensor> {
    images.flatten(1, 2)?.mean(1)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, distinct, map, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for (h, w) in [(3, 3), (1, 1), (2, 5)] {
            let args = [distinct(&[2, h, w, 7], 1)];
            let fast = |a: &[Tensor]| global_max_pool(&map(&a[0])?)?.to_tensor();
            check_same(&args, fast, |a| global_max_pool_slow(&a[0]));
            check_gradient(&args, fast);
            let fast = |a: &[Tensor]| global_average_pool(&map(&a[0])?)?.to_tensor();
            check_same(&args, fast, |a| global_average_pool_slow(&a[0]));
            check_gradient(&args, fast);
        }
    }

    #[test]
    fn the_first_of_equal_maxima_gets_the_gradient() {
        let x = candle_core::Var::from_tensor(
            &Tensor::ones((1, 2, 2, 1), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap(),
        )
        .unwrap();
        let y = global_max_pool(&map(x.as_tensor()).unwrap()).unwrap().to_tensor().unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn maxima_stay_in_place() {
        // Two channels; the first has its maximum twice.
        let images = FeatureMap::new(Buffer::copied(&[1.0, -3.0, 2.0, -1.0, 2.0, -2.0]), &[1, 1, 3, 2]).unwrap();
        assert_eq!(maxima_in_place(&images).unwrap().values().unwrap(), [0.0, 0.0, 2.0, -1.0, 0.0, 0.0]);
    }

    #[test]
    fn maps_that_are_not_images_are_refused() {
        assert!(global_max_pool(&map(&random(&[2, 3], 1)).unwrap()).is_err());
        assert!(global_average_pool(&FeatureMap::new(Buffer::new(0), &[0, 2, 2, 3]).unwrap()).is_err());
    }
}

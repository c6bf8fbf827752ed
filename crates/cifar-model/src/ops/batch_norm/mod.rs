//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) fused with a residual addition,
//! an activation and max pooling.

mod bf16;

use candle_core::{Device, Error, Result, Tensor};
use cifar_kernels::{self as kernels, Activation, BatchStatistics, Buffer, PoolDimensions, PoolShape};

use super::{activation_slow, max_pool, parameter_gradient, to_f32, with_both};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// The input and parameters of a batch normalisation.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormArgs<'a> {
    /// The input, `[.., C]`; each channel is normalised.
    pub input: &'a FeatureMap,
    /// The factor of each channel, `[C]`; `None` means 1, which is not trained.
    pub scale: Option<&'a Tensor>,
    /// The offset of each channel, `[C]`.
    pub shift: &'a Tensor,
    /// Values to add before the activation, in the shape of the input. They are converted to the
    /// number type of the input.
    pub residual: Option<&'a FeatureMap>,
    /// The value added to the variance, above 0.
    pub epsilon: f32,
    /// The activation.
    pub activation: Activation,
}

/// Normalises each channel of the input by its mean and variance in this batch:
/// activation(scale · (x − mean) / √(variance + ε) + shift + residual).
///
/// Also returns the statistics, from which running statistics are updated. The result has the
/// number type of the input.
///
/// # Errors
/// If the shapes do not fit or `epsilon` is not above 0.
pub fn batch_norm_train(args: &BatchNormArgs) -> Result<(FeatureMap, BatchStatistics)> {
    if args.input.is_bf16() {
        return bf16::train(args);
    }
    let BatchNormArgs { input, scale, shift, residual, epsilon, activation } = *args;
    let residual = residual.map(to_f32).transpose()?;
    let residual = residual.as_ref();
    let (rows, channels) = rows_and_channels(input.dims())?;
    let scale = scale_or_ones(scale, channels)?;
    let (values, added) = (input.values()?, residual.map(FeatureMap::values).transpose()?);
    let mut output = Buffer::new(values.len());
    let statistics = with_both(&scale, shift, |scale, shift| {
        let (input, residual) = (values, added);
        let layer = kernels::BatchNorm { rows, channels, input, scale, shift, residual, activation };
        kernels::batch_norm_forward(&layer, epsilon, &mut output)
    })?;
    let op = BatchNorm {
        input: input.clone(),
        residual: residual.cloned(),
        statistics: statistics.clone(),
        activation,
        pooling: None,
    };
    Ok((record(op, output, input.dims(), input, residual, &[&scale, shift])?, statistics))
}

/// Computes [`batch_norm_train`] of `[N, H, W, C]`, then the maximum of each `window`×`window`
/// window with stride `window`, as [`max_pool()`] does, in one pass.
///
/// # Errors
/// As [`batch_norm_train`], and if the window is larger than the images.
pub fn batch_norm_max_pool_train(args: &BatchNormArgs, window: usize) -> Result<(FeatureMap, BatchStatistics)> {
    if args.input.is_bf16() {
        let (output, statistics) = bf16::train(args)?;
        return Ok((max_pool(&output, window)?, statistics));
    }
    let BatchNormArgs { input, scale, shift, residual, epsilon, activation } = *args;
    let residual = residual.map(to_f32).transpose()?;
    let residual = residual.as_ref();
    let (values, added) = (input.values()?, residual.map(FeatureMap::values).transpose()?);
    let [images, height, width, channels] = input.images("batch_norm_max_pool")?;
    let shape = PoolDimensions { images, height, width, channels, window, stride: window };
    let shape = PoolShape::new(shape).map_err(Error::wrap)?;
    let scale = scale_or_ones(scale, channels)?;
    let (mut output, mut places) = (Buffer::new(shape.output_len()), Buffer::new(shape.output_len()));
    let statistics = with_both(&scale, shift, |scale, shift| {
        let (rows, input, residual) = (images * height * width, values, added);
        let layer = kernels::BatchNorm { rows, channels, input, scale, shift, residual, activation };
        kernels::batch_norm_max_pool_forward(&layer, &shape, epsilon, &mut output, &mut places)
    })?;
    let op = BatchNorm {
        input: input.clone(),
        residual: residual.cloned(),
        statistics: statistics.clone(),
        activation,
        pooling: Some((shape, places)),
    };
    let dims = [images, shape.out_height(), shape.out_width(), channels];
    Ok((record(op, output, &dims, input, residual, &[&scale, shift])?, statistics))
}

/// Returns the rows and channels of an input whose last dimension is the channel.
fn rows_and_channels(dims: &[usize]) -> Result<(usize, usize)> {
    match dims {
        [rows @ .., channels] if !rows.is_empty() => Ok((rows.iter().product(), *channels)),
        _ => Err(Error::Msg(format!("batch_norm: expected [.., C], found {dims:?}"))),
    }
}

fn scale_or_ones(scale: Option<&Tensor>, channels: usize) -> Result<Tensor> {
    scale.map_or_else(|| Tensor::from_vec(vec![1f32; channels], channels, &Device::Cpu), |scale| Ok(scale.clone()))
}

struct BatchNorm {
    input: FeatureMap,
    residual: Option<FeatureMap>,
    statistics: BatchStatistics,
    activation: Activation,
    /// The pooling after the activation, and the position of each maximum.
    pooling: Option<(PoolShape, Buffer<u8>)>,
}

impl Operation for BatchNorm {
    const NAME: &'static str = "batch-norm";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let (scale, shift) = (parameters[0], parameters[1]);
        let (rows, channels) = rows_and_channels(self.input.dims())?;
        let (mut of_scale, mut of_shift) = (vec![0.0; channels], vec![0.0; channels]);
        let input = self.input.values()?;
        let residual = self.residual.as_ref().map(FeatureMap::values).transpose()?;
        let mut of_input = Buffer::new(input.len());
        let mut of_residual = self.residual.as_ref().and_then(FeatureMap::new_gradient);
        with_both(scale, shift, |scale, shift| {
            let layer =
                kernels::BatchNorm { rows, channels, input, scale, shift, residual, activation: self.activation };
            let gradients = kernels::BatchNormGradients {
                input: &mut of_input,
                scale: &mut of_scale,
                shift: &mut of_shift,
                residual: of_residual.as_deref_mut(),
            };
            match &self.pooling {
                None => kernels::batch_norm_backward(&layer, &self.statistics, &gradient, gradients),
                Some((shape, places)) => {
                    kernels::batch_norm_max_pool_backward(&layer, shape, &self.statistics, places, &gradient, gradients)
                }
            }
        })?;
        // The residual first: if it is also the input, the order of additions affects the bits.
        if let (Some(residual), Some(gradient)) = (&self.residual, of_residual) {
            residual.put_gradient(gradient)?;
        }
        if self.input.is_tracked() {
            self.input.put_gradient(of_input)?;
        }
        Ok([
            parameter_gradient(scale, scale.track_op().then_some(of_scale))?,
            parameter_gradient(shift, shift.track_op().then_some(of_shift))?,
        ])
    }
}

/// Normalises each channel of the input by given statistics, as in evaluation.
///
/// The result is never tracked, as this operation is not differentiable.
///
/// # Errors
/// As [`batch_norm_train`].
pub fn batch_norm_evaluate(
    args: &BatchNormArgs,
    running_mean: &Tensor,
    running_variance: &Tensor,
) -> Result<FeatureMap> {
    if args.input.is_bf16() {
        return bf16::evaluate(args, running_mean, running_variance);
    }
    let BatchNormArgs { input, scale, shift, residual, epsilon, activation } = *args;
    let residual = residual.map(to_f32).transpose()?;
    let (rows, channels) = rows_and_channels(input.dims())?;
    let scale = scale_or_ones(scale, channels)?.to_vec1::<f32>()?;
    let shift = shift.to_vec1::<f32>()?;
    let values = input.values()?;
    let mut output = Buffer::new(values.len());
    let layer = kernels::BatchNorm {
        rows,
        channels,
        input: values,
        scale: &scale,
        shift: &shift,
        residual: residual.as_ref().map(FeatureMap::values).transpose()?,
        activation,
    };
    with_both(running_mean, running_variance, |mean, variance| {
        kernels::batch_norm_evaluate(&layer, mean, variance, epsilon, &mut output)
    })?;
    Ok(FeatureMap::new(output, input.dims())?.with_precision(input.precision()))
}

/// Computes [`batch_norm_train`] by candle's own operations.
pub fn batch_norm_slow(
    input: &Tensor,
    scale: Option<&Tensor>,
    shift: &Tensor,
    residual: Option<&Tensor>,
    epsilon: f32,
    activation: Activation,
) -> Result<Tensor> {
    let (rows, channels) = rows_and_channels(input.dims())?;
    let x = input.reshape((rows, channels))?;
    let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let variance = centred.sqr()?.mean_keepdim(0)?;
    let normalised = centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?;
    let scaled = scale.map_or(Ok(normalised.clone()), |scale| normalised.broadcast_mul(scale))?;
    let output = scaled.broadcast_add(shift)?.reshape(input.shape())?;
    activation_slow(&residual.map_or(Ok(output.clone()), |residual| output + residual)?, activation)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{
        assert_close, check_gradient, check_same, distance_from_zero, distinct, map, random,
    };
    use super::super::max_pool_slow;
    use super::*;

    fn args<'a>(
        input: &'a FeatureMap,
        scale: Option<&'a Tensor>,
        shift: &'a Tensor,
        residual: Option<&'a FeatureMap>,
        activation: Activation,
    ) -> BatchNormArgs<'a> {
        BatchNormArgs { input, scale, shift, residual, epsilon: 1e-3, activation }
    }

    /// Returns input, scale, shift and residual for which the activation's input avoids the kink of
    /// ReLU.
    fn arguments(dims: &[usize], with_residual: bool) -> [Tensor; 4] {
        let channels = *dims.last().unwrap();
        (0..100_000)
            .map(|seed| {
                let vector = |n| random(&[channels], 4 * seed + n);
                let residual = random(dims, 4 * seed + 3);
                let residual = if with_residual { residual } else { residual.zeros_like().unwrap() };
                [random(dims, 4 * seed), vector(1), vector(2), residual]
            })
            .find(|[x, scale, shift, residual]| {
                let z = batch_norm_slow(x, Some(scale), shift, Some(residual), 1e-3, Activation::Identity).unwrap();
                distance_from_zero(&z) > 0.05
            })
            .unwrap()
    }

    #[test]
    fn values_and_gradients_are_right() {
        for function in [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Silu] {
            for dims in [&[3usize, 2, 2, 5][..], &[7, 3]] {
                let [x, scale, shift, residual] = arguments(dims, false);
                let arguments = [x, scale, shift];
                let fast = |a: &[Tensor]| {
                    let input = &map(&a[0])?;
                    batch_norm_train(&args(input, Some(&a[1]), &a[2], None, function))?.0.to_tensor()
                };
                check_same(&arguments, fast, |a| batch_norm_slow(&a[0], Some(&a[1]), &a[2], None, 1e-3, function));
                check_gradient(&arguments, fast);
                drop(residual);
            }
        }
    }

    #[test]
    fn values_and_gradients_with_a_residual_are_right() {
        for function in [Activation::Identity, Activation::Relu, Activation::Gelu] {
            let arguments = arguments(&[3, 2, 2, 3], true);
            let fast = |a: &[Tensor]| {
                let (x, residual) = (map(&a[0])?, map(&a[3])?);
                batch_norm_train(&args(&x, Some(&a[1]), &a[2], Some(&residual), function))?.0.to_tensor()
            };
            check_same(&arguments, fast, |a| batch_norm_slow(&a[0], Some(&a[1]), &a[2], Some(&a[3]), 1e-3, function));
            check_gradient(&arguments, fast);
        }
    }

    /// GELU and SiLU, which are not monotonic, may give two pixels of a window nearly the same
    /// value. The kernels' tests compare them with the two operations one after the other.
    #[test]
    fn values_and_gradients_with_pooling_are_right() {
        for (dims, function) in [([2, 4, 5, 3], Activation::Relu), ([2, 3, 3, 2], Activation::Identity)] {
            let channels = dims[3];
            let x = (0..1000)
                .map(|seed| distinct(&dims, seed))
                .find(|x| {
                    let ones = Tensor::ones(channels, candle_core::DType::F32, &Device::Cpu).unwrap();
                    let shift = (&ones * 0.1).unwrap();
                    let z = batch_norm_slow(x, Some(&ones), &shift, None, 1e-3, Activation::Identity).unwrap();
                    distance_from_zero(&z) > 0.02
                })
                .unwrap();
            let ones = Tensor::ones(channels, candle_core::DType::F32, &Device::Cpu).unwrap();
            let arguments = [x, ones.clone(), (ones * 0.1).unwrap()];
            let fast = |a: &[Tensor]| {
                let input = &map(&a[0])?;
                batch_norm_max_pool_train(&args(input, Some(&a[1]), &a[2], None, function), 2)?.0.to_tensor()
            };
            check_same(&arguments, fast, |a| {
                max_pool_slow(&batch_norm_slow(&a[0], Some(&a[1]), &a[2], None, 1e-3, function)?, 2)
            });
            check_gradient(&arguments, fast);
        }
    }

    #[test]
    fn an_input_may_be_its_own_residual_and_the_scale_may_be_fixed() {
        let arguments = [random(&[3, 2, 2, 5], 1), random(&[5], 2)];
        let fast = |a: &[Tensor]| {
            let x = map(&a[0])?;
            batch_norm_train(&args(&x, None, &a[1], Some(&x), Activation::Gelu))?.0.to_tensor()
        };
        check_same(&arguments, fast, |a| batch_norm_slow(&a[0], None, &a[1], Some(&a[0]), 1e-3, Activation::Gelu));
        check_gradient(&arguments, fast);
    }

    #[test]
    fn a_residual_is_tracked_even_if_the_input_is_not() {
        let (x, shift) = (random(&[3, 2, 2, 5], 1), random(&[5], 2));
        let arguments = [random(&[3, 2, 2, 5], 3)];
        let fast = |a: &[Tensor]| {
            let (x, residual) = (map(&x)?, map(&a[0])?);
            batch_norm_train(&args(&x, None, &shift, Some(&residual), Activation::Silu))?.0.to_tensor()
        };
        check_same(&arguments, fast, |a| batch_norm_slow(&x, None, &shift, Some(&a[0]), 1e-3, Activation::Silu));
    }

    #[test]
    fn evaluation_with_the_batch_statistics_equals_training() {
        let (x, residual) = (map(&random(&[4, 3, 3, 6], 1)).unwrap(), map(&random(&[4, 3, 3, 6], 2)).unwrap());
        let (scale, shift) = (random(&[6], 3), random(&[6], 4));
        for (scale, residual) in [(Some(&scale), None), (None, Some(&residual))] {
            let args = BatchNormArgs { epsilon: 1e-5, ..args(&x, scale, &shift, residual, Activation::Gelu) };
            let (expected, statistics) = batch_norm_train(&args).unwrap();
            let [mean, variance] =
                [statistics.mean, statistics.variance].map(|v| Tensor::from_vec(v, 6, &Device::Cpu).unwrap());
            let found = batch_norm_evaluate(&args, &mean, &variance).unwrap();
            assert_close("values", &found.to_tensor().unwrap(), &expected.to_tensor().unwrap());
        }
    }
}

//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) fused with the activation that follows it.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Device, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::{
    Activation, BatchStatistics, batch_norm_backward, batch_norm_evaluate as evaluate_kernel, batch_norm_forward,
};

use super::{activation_slow, filled_like, values, with_values};

/// Normalises each channel (the last dimension) of `input` by the mean and variance of this batch:
/// activation(scale · (x − mean) / √(variance + ε) + shift). Returns the statistics too, for the running ones.
///
/// # Errors
/// If the shapes do not fit or an argument is not contiguous.
pub fn batch_norm_train(
    input: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    epsilon: f32,
    activation: Activation,
) -> Result<(Tensor, BatchStatistics)> {
    let statistics = Arc::new(OnceLock::new());
    let op = BatchNorm { epsilon, activation, statistics: Arc::clone(&statistics) };
    let output = input.apply_op3(scale, shift, op)?;
    let statistics: &BatchStatistics =
        statistics.get().ok_or_else(|| Error::Msg("batch_norm: forward left no statistics".into()))?;
    Ok((output, statistics.clone()))
}

struct BatchNorm {
    epsilon: f32,
    activation: Activation,
    statistics: Arc<OnceLock<BatchStatistics>>,
}

/// Rows and channels of an input whose last dimension is the channel.
fn rows_and_channels(dims: &[usize]) -> Result<(usize, usize)> {
    match dims {
        [rows @ .., channels] if !rows.is_empty() => Ok((rows.iter().product(), *channels)),
        _ => Err(Error::Msg(format!("batch_norm: expected [.., C], found {dims:?}"))),
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, channels) = rows_and_channels(l1.dims())?;
        let input = values(s1, l1)?;
        let mut output = vec![0.0; input.len()];
        let statistics = batch_norm_forward(
            rows,
            channels,
            input,
            values(s2, l2)?,
            values(s3, l3)?,
            self.epsilon,
            self.activation,
            None,
            &mut output,
        )
        .map_err(Error::wrap)?;
        // An op value is made for one call, so the cell is empty.
        let _ = self.statistics.set(statistics);
        Ok((CpuStorage::F32(output), l1.shape().clone()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, channels) = rows_and_channels(input.dims())?;
        let statistics =
            self.statistics.get().ok_or_else(|| Error::Msg("batch_norm: backward before forward".into()))?;
        let (mut scale_grad, mut shift_grad) = (vec![0.0; channels], vec![0.0; channels]);
        let input_grad = with_values(input, |x| {
            with_values(scale, |scale| {
                with_values(shift, |shift| {
                    with_values(grad, |grad| {
                        filled_like(input, |out| {
                            batch_norm_backward(
                                rows,
                                channels,
                                x,
                                scale,
                                shift,
                                statistics,
                                self.activation,
                                None,
                                grad,
                                out,
                                &mut scale_grad,
                                &mut shift_grad,
                                None,
                            )
                        })
                    })
                })
            })
        })?;
        let vector = |values| Tensor::from_vec(values, channels, &Device::Cpu);
        Ok((Some(input_grad), Some(vector(scale_grad)?), Some(vector(shift_grad)?)))
    }
}

/// The same with given statistics, as in evaluation. Not differentiable.
///
/// # Errors
/// If the shapes do not fit.
pub fn batch_norm_evaluate(
    input: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    running_mean: &Tensor,
    running_variance: &Tensor,
    epsilon: f32,
    activation: Activation,
) -> Result<Tensor> {
    let (rows, channels) = rows_and_channels(input.dims())?;
    let vectors = [scale, shift, running_mean, running_variance].map(Tensor::to_vec1::<f32>);
    let [scale, shift, mean, variance] = vectors;
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    with_values(input, |x| {
        filled_like(input, |out| {
            evaluate_kernel(rows, channels, x, &scale, &shift, &mean, &variance, epsilon, activation, None, out)
        })
    })
}

/// Training-mode batch norm and activation by candle's own operations.
pub fn batch_norm_slow(
    input: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    epsilon: f32,
    activation: Activation,
) -> Result<Tensor> {
    let (rows, channels) = rows_and_channels(input.dims())?;
    let x = input.reshape((rows, channels))?;
    let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let variance = centred.sqr()?.mean_keepdim(0)?;
    let normalised = centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?;
    let output = normalised.broadcast_mul(scale)?.broadcast_add(shift)?;
    activation_slow(&output, activation)?.reshape(input.shape())
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, distance_from_zero, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for function in [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Silu] {
            for dims in [&[3usize, 2, 2, 5][..], &[7, 3]] {
                let channels = *dims.last().unwrap();
                // Inputs whose normalised values keep clear of ReLU's kink.
                let args = (0..10_000)
                    .map(|seed| {
                        [random(dims, 3 * seed), random(&[channels], 3 * seed + 1), random(&[channels], 3 * seed + 2)]
                    })
                    .find(|[x, scale, shift]| {
                        let z = batch_norm_slow(x, scale, shift, 1e-3, Activation::Identity).unwrap();
                        distance_from_zero(&z) > 0.05
                    })
                    .unwrap();
                let fast = |a: &[Tensor]| batch_norm_train(&a[0], &a[1], &a[2], 1e-3, function).map(|(y, _)| y);
                check_same(&args, fast, |a| batch_norm_slow(&a[0], &a[1], &a[2], 1e-3, function));
                check_gradient(&args, fast);
            }
        }
    }

    #[test]
    fn evaluation_with_the_batch_statistics_equals_training() {
        let args = [random(&[4, 3, 3, 6], 1), random(&[6], 2), random(&[6], 3)];
        let (expected, statistics) = batch_norm_train(&args[0], &args[1], &args[2], 1e-5, Activation::Gelu).unwrap();
        let [mean, variance] =
            [statistics.mean, statistics.variance].map(|v| Tensor::from_vec(v, 6, &Device::Cpu).unwrap());
        let found =
            batch_norm_evaluate(&args[0], &args[1], &args[2], &mean, &variance, 1e-5, Activation::Gelu).unwrap();
        let difference = (expected - found)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        // Two orders of the same few f32 operations on values of about 1.
        assert!(difference < 1e-5, "{difference}");
    }
}

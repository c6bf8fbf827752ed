//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) fused with a residual addition and
//! an activation f:
//! output = f(scale · (x − mean) · `inverse_std` + shift + residual),
//! `inverse_std` = 1 / √(variance + ε).

use crate::Activation;
use crate::PoolShape;
use crate::error::{KernelError, Result, check_len, product};
use crate::generic::batch_norm::{Dense, Forward, Pooled};
use crate::generic::{batch_norm, on_isa};
use crate::pool::check_places;

/// The input and parameters of a batch normalisation.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Rows of the input: images · height · width, at least 1.
    pub rows: usize,
    /// Channels of the input, at least 1.
    pub channels: usize,
    /// The input x, `[rows, channels]`.
    pub input: &'a [f32],
    /// The factor of each channel.
    pub scale: &'a [f32],
    /// The offset of each channel.
    pub shift: &'a [f32],
    /// Values to add before the activation, `[rows, channels]`.
    pub residual: Option<&'a [f32]>,
    /// The activation f.
    pub activation: Activation,
}

/// Statistics of each channel over a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// The mean.
    pub mean: Vec<f32>,
    /// The biased variance: the sum of squared distances divided by the number of rows.
    pub variance: Vec<f32>,
    /// 1 / √(variance + ε).
    pub inverse_std: Vec<f32>,
}

/// Where [`batch_norm_backward`] writes the gradients.
#[derive(Debug)]
pub struct BatchNormGradients<'a> {
    /// The gradient with respect to the input, `[rows, channels]`.
    pub input: &'a mut [f32],
    /// The gradient with respect to the scale, one value per channel.
    pub scale: &'a mut [f32],
    /// The gradient with respect to the shift, one value per channel.
    pub shift: &'a mut [f32],
    /// The gradient with respect to the residual, `[rows, channels]`; not written if `None`.
    pub residual: Option<&'a mut [f32]>,
}

impl BatchNorm<'_> {
    /// Checks the dimensions and the slices that all entry points share, and returns rows ·
    /// channels.
    fn check(&self, op: &'static str) -> Result<usize> {
        let len = product(op, &[self.rows, self.channels])?;
        check_len(op, "input", self.input, len)?;
        check_len(op, "scale", self.scale, self.channels)?;
        check_len(op, "shift", self.shift, self.channels)?;
        if let Some(residual) = self.residual {
            check_len(op, "residual", residual, len)?;
        }
        Ok(len)
    }

    /// Checks the slices, and that `shape` pools the output in windows that do not overlap.
    fn check_pooling(&self, op: &'static str, shape: &PoolShape) -> Result<()> {
        let len = self.check(op)?;
        if shape.channels != self.channels || shape.input_len() != len || shape.window != shape.stride {
            let problem = format!(
                "pooling of {} values of {} channels with a window of {} and stride {} does not suit {len} values of {} \
                 channels; window and stride must be equal",
                shape.input_len(),
                shape.channels,
                shape.window,
                shape.stride,
                self.channels
            );
            return Err(KernelError::Shape { op, problem });
        }
        Ok(())
    }

    fn with<'a>(&'a self, statistics: &'a BatchStatistics) -> Forward<'a> {
        let Self { channels, input, scale, shift, residual, activation, .. } = *self;
        Forward { channels, input, scale, shift, statistics, activation, residual }
    }
}

pub(crate) fn check_epsilon(op: &'static str, epsilon: f32) -> Result<()> {
    if epsilon > 0.0 && epsilon.is_finite() {
        Ok(())
    } else {
        Err(KernelError::Range {
            op,
            argument: "epsilon",
            found: epsilon.to_string(),
            allowed: "a finite number above 0",
        })
    }
}

/// Normalises the input by its own statistics, as in training, and returns them.
///
/// `epsilon` is the ε of the formula. `output` is `[rows, channels]`.
///
/// # Errors
/// If a dimension is 0, a slice has the wrong length, or `epsilon` is not a finite number above 0.
///
/// ```
/// use cifar_kernels::{Activation, BatchNorm, batch_norm_forward};
///
/// let layer = BatchNorm {
///     rows: 2,
///     channels: 1,
///     input: &[1.0, 3.0],
///     scale: &[1.0],
///     shift: &[0.5],
///     residual: None,
///     activation: Activation::Identity,
/// };
/// let mut output = [0.0; 2];
/// let statistics = batch_norm_forward(&layer, 1e-12, &mut output)?;
/// assert_eq!((statistics.mean, statistics.variance), (vec![2.0], vec![1.0]));
/// assert_eq!(output, [-0.5, 1.5]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn batch_norm_forward(layer: &BatchNorm, epsilon: f32, output: &mut [f32]) -> Result<BatchStatistics> {
    const OP: &str = "batch_norm_forward";
    let len = layer.check(OP)?;
    check_epsilon(OP, epsilon)?;
    check_len(OP, "output", output, len)?;
    let statistics = on_isa!(batch_norm::statistics, layer.rows, layer.channels, layer.input, epsilon);
    on_isa!(batch_norm::apply, &layer.with(&statistics), output);
    Ok(statistics)
}

/// Computes the gradients of [`batch_norm_forward`], including those through the statistics.
///
/// `statistics` are those that the forward pass returned. `output_grad` is the gradient with
/// respect to its output, `[rows, channels]`.
///
/// # Errors
/// If a dimension is 0 or a slice has the wrong length.
///
/// ```
/// use cifar_kernels::{
///     Activation, BatchNorm, BatchNormGradients, batch_norm_backward, batch_norm_forward,
/// };
///
/// let layer = BatchNorm {
///     rows: 2,
///     channels: 1,
///     input: &[1.0, 3.0],
///     scale: &[1.0],
///     shift: &[0.0],
///     residual: None,
///     activation: Activation::Identity,
/// };
/// let statistics = batch_norm_forward(&layer, 1e-12, &mut [0.0; 2])?;
/// let (mut input, mut scale, mut shift) = ([0.0; 2], [0.0], [0.0]);
/// let gradients = BatchNormGradients {
///     input: &mut input,
///     scale: &mut scale,
///     shift: &mut shift,
///     residual: None,
/// };
/// batch_norm_backward(&layer, &statistics, &[0.0, 1.0], gradients)?;
/// assert_eq!((input, scale, shift), ([0.0; 2], [1.0], [1.0]));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn batch_norm_backward(
    layer: &BatchNorm,
    statistics: &BatchStatistics,
    output_grad: &[f32],
    gradients: BatchNormGradients,
) -> Result<()> {
    const OP: &str = "batch_norm_backward";
    let len = layer.check(OP)?;
    check_len(OP, "output_grad", output_grad, len)?;
    check_gradients(OP, layer, statistics, &gradients)?;
    let output_grad = Dense { values: output_grad, channels: layer.channels };
    on_isa!(batch_norm::backward, &layer.with(statistics), output_grad, gradients);
    Ok(())
}

fn check_gradients(
    op: &'static str,
    layer: &BatchNorm,
    statistics: &BatchStatistics,
    gradients: &BatchNormGradients,
) -> Result<()> {
    let len = layer.input.len();
    check_len(op, "input_grad", gradients.input, len)?;
    for (argument, slice) in [
        ("statistics.mean", &*statistics.mean),
        ("statistics.variance", &statistics.variance),
        ("statistics.inverse_std", &statistics.inverse_std),
        ("scale_grad", &*gradients.scale),
        ("shift_grad", &*gradients.shift),
    ] {
        check_len(op, argument, slice, layer.channels)?;
    }
    gradients.residual.as_ref().map_or(Ok(()), |residual| check_len(op, "residual_grad", residual, len))
}

/// Normalises the input as [`batch_norm_forward`] does, followed by max pooling, without storing
/// the values between the two.
///
/// `shape` is that of the pooling: its windows must not overlap. `output` and `places` are
/// `[images, out_height, out_width, channels]`. `places` receives the position of each maximum in
/// its window, as [`max_pool_forward`](crate::max_pool_forward) does.
///
/// # Errors
/// As [`batch_norm_forward`], and if the pooling has another input or its windows overlap.
///
/// ```
/// use cifar_kernels::{Activation, BatchNorm, PoolDimensions, PoolShape, batch_norm_max_pool_forward};
///
/// let layer = BatchNorm {
///     rows: 4,
///     channels: 1,
///     input: &[1.0, 3.0, 1.0, 3.0],
///     scale: &[1.0],
///     shift: &[0.5],
///     residual: None,
///     activation: Activation::Relu,
/// };
/// let shape = PoolShape::new(PoolDimensions {
///     images: 1,
///     height: 2,
///     width: 2,
///     channels: 1,
///     window: 2,
///     stride: 2,
/// })?;
/// let (mut output, mut places) = ([0.0], [0]);
/// batch_norm_max_pool_forward(&layer, &shape, 1e-12, &mut output, &mut places)?;
/// assert_eq!((output, places), ([1.5], [1]));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn batch_norm_max_pool_forward(
    layer: &BatchNorm,
    shape: &PoolShape,
    epsilon: f32,
    output: &mut [f32],
    places: &mut [u8],
) -> Result<BatchStatistics> {
    const OP: &str = "batch_norm_max_pool_forward";
    layer.check_pooling(OP, shape)?;
    check_epsilon(OP, epsilon)?;
    check_len(OP, "output", output, shape.output_len())?;
    check_len(OP, "places", places, shape.output_len())?;
    let statistics = on_isa!(batch_norm::statistics, layer.rows, layer.channels, layer.input, epsilon);
    on_isa!(batch_norm::apply_pooled, &layer.with(&statistics), shape, output, places);
    Ok(statistics)
}

/// Computes the gradients of [`batch_norm_max_pool_forward`].
///
/// `statistics` and `places` are those of the forward pass. `output_grad` is the gradient with
/// respect to its output, `[images, out_height, out_width, channels]`.
///
/// # Errors
/// As [`batch_norm_max_pool_forward`], and if `places` has a position outside of the window.
pub fn batch_norm_max_pool_backward(
    layer: &BatchNorm,
    shape: &PoolShape,
    statistics: &BatchStatistics,
    places: &[u8],
    output_grad: &[f32],
    gradients: BatchNormGradients,
) -> Result<()> {
    const OP: &str = "batch_norm_max_pool_backward";
    layer.check_pooling(OP, shape)?;
    check_places(OP, "places", places, shape.output_len(), shape.window * shape.window)?;
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_gradients(OP, layer, statistics, &gradients)?;
    let output_grad = Pooled { values: output_grad, places, shape };
    on_isa!(batch_norm::backward, &layer.with(statistics), output_grad, gradients);
    Ok(())
}

/// Normalises the input by given statistics, as in evaluation.
///
/// `running_mean` and `running_variance` have one value per channel. `output` is
/// `[rows, channels]`.
///
/// # Errors
/// As [`batch_norm_forward`].
///
/// ```
/// use cifar_kernels::{Activation, BatchNorm, batch_norm_evaluate};
///
/// let layer = BatchNorm {
///     rows: 2,
///     channels: 1,
///     input: &[1.0, 3.0],
///     scale: &[2.0],
///     shift: &[0.0],
///     residual: None,
///     activation: Activation::Relu,
/// };
/// let mut output = [0.0; 2];
/// batch_norm_evaluate(&layer, &[2.0], &[1.0], 1e-12, &mut output)?;
/// assert_eq!(output, [0.0, 2.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn batch_norm_evaluate(
    layer: &BatchNorm,
    running_mean: &[f32],
    running_variance: &[f32],
    epsilon: f32,
    output: &mut [f32],
) -> Result<()> {
    const OP: &str = "batch_norm_evaluate";
    let len = layer.check(OP)?;
    check_epsilon(OP, epsilon)?;
    check_len(OP, "output", output, len)?;
    check_len(OP, "running_mean", running_mean, layer.channels)?;
    check_len(OP, "running_variance", running_variance, layer.channels)?;
    let statistics = BatchStatistics {
        mean: running_mean.to_vec(),
        variance: running_variance.to_vec(),
        inverse_std: running_variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect(),
    };
    on_isa!(batch_norm::apply, &layer.with(&statistics), output);
    Ok(())
}

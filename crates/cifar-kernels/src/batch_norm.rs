//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) fused with a residual addition and
//! an activation f:
//! output = f(scale · (x − mean) · `inverse_std` + shift + residual),
//! `inverse_std` = 1 / √(variance + ε).

use crate::Activation;
use crate::error::{KernelError, Result, check_len, product};
use crate::generic::batch_norm::Forward;
use crate::generic::{batch_norm, on_isa};

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
    check_len(OP, "input_grad", gradients.input, len)?;
    for (argument, slice) in [
        ("statistics.mean", &*statistics.mean),
        ("statistics.variance", &statistics.variance),
        ("statistics.inverse_std", &statistics.inverse_std),
        ("scale_grad", gradients.scale),
        ("shift_grad", gradients.shift),
    ] {
        check_len(OP, argument, slice, layer.channels)?;
    }
    if let Some(residual) = &gradients.residual {
        check_len(OP, "residual_grad", residual, len)?;
    }
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

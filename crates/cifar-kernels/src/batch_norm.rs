//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) fused with a residual addition and an activation f:
//! output = f(scale · (x − mean) · `inverse_std` + shift + residual), `inverse_std` = 1 / √(variance + ε).

use crate::Activation;
use crate::error::{KernelError, Result, check_len, product};
use crate::generic::batch_norm::{Forward, Gradients};
use crate::generic::{batch_norm, on_arm};

/// Statistics of each channel over a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// The mean.
    pub mean: Vec<f32>,
    /// The variance, divided by the number of rows.
    pub variance: Vec<f32>,
    /// 1 / √(variance + ε).
    pub inverse_std: Vec<f32>,
}

fn check_epsilon(op: &'static str, epsilon: f32) -> Result<()> {
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

/// Training mode: normalises `input` [rows, channels] by its own statistics, and returns them.
pub fn batch_norm_forward(
    rows: usize,
    channels: usize,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    epsilon: f32,
    activation: Activation,
    residual: Option<&[f32]>,
    output: &mut [f32],
) -> Result<BatchStatistics> {
    const OP: &str = "batch_norm_forward";
    let len = product(OP, &[rows, channels])?;
    check_epsilon(OP, epsilon)?;
    check_len(OP, "input", input, len)?;
    check_len(OP, "scale", scale, channels)?;
    check_len(OP, "shift", shift, channels)?;
    check_len(OP, "output", output, len)?;
    if let Some(residual) = residual {
        check_len(OP, "residual", residual, len)?;
    }
    let statistics = on_arm!(batch_norm::statistics, rows, channels, input, epsilon);
    let forward = Forward { channels, input, scale, shift, statistics: &statistics, activation, residual };
    on_arm!(batch_norm::apply, &forward, output);
    Ok(statistics)
}

/// Gradients of [`batch_norm_forward`], through the statistics too. `residual_grad` is written if it is asked for.
pub fn batch_norm_backward(
    rows: usize,
    channels: usize,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    statistics: &BatchStatistics,
    activation: Activation,
    residual: Option<&[f32]>,
    output_grad: &[f32],
    input_grad: &mut [f32],
    scale_grad: &mut [f32],
    shift_grad: &mut [f32],
    residual_grad: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "batch_norm_backward";
    let len = product(OP, &[rows, channels])?;
    for (argument, slice) in [("input", input), ("output_grad", output_grad), ("input_grad", &*input_grad)] {
        check_len(OP, argument, slice, len)?;
    }
    for (argument, slice) in [
        ("scale", scale),
        ("shift", shift),
        ("statistics.mean", &statistics.mean),
        ("statistics.variance", &statistics.variance),
        ("statistics.inverse_std", &statistics.inverse_std),
        ("scale_grad", &*scale_grad),
        ("shift_grad", &*shift_grad),
    ] {
        check_len(OP, argument, slice, channels)?;
    }
    if let Some(residual) = residual {
        check_len(OP, "residual", residual, len)?;
    }
    if let Some(residual_grad) = &residual_grad {
        check_len(OP, "residual_grad", residual_grad, len)?;
    }
    let forward = Forward { channels, input, scale, shift, statistics, activation, residual };
    let gradients = Gradients { input: input_grad, scale: scale_grad, shift: shift_grad, residual: residual_grad };
    on_arm!(batch_norm::backward, &forward, output_grad, gradients);
    Ok(())
}

/// Evaluation mode: normalises by given statistics.
pub fn batch_norm_evaluate(
    rows: usize,
    channels: usize,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    running_mean: &[f32],
    running_variance: &[f32],
    epsilon: f32,
    activation: Activation,
    residual: Option<&[f32]>,
    output: &mut [f32],
) -> Result<()> {
    const OP: &str = "batch_norm_evaluate";
    let len = product(OP, &[rows, channels])?;
    check_epsilon(OP, epsilon)?;
    check_len(OP, "input", input, len)?;
    check_len(OP, "output", output, len)?;
    for (argument, slice) in
        [("scale", scale), ("shift", shift), ("running_mean", running_mean), ("running_variance", running_variance)]
    {
        check_len(OP, argument, slice, channels)?;
    }
    if let Some(residual) = residual {
        check_len(OP, "residual", residual, len)?;
    }
    let statistics = BatchStatistics {
        mean: running_mean.to_vec(),
        variance: running_variance.to_vec(),
        inverse_std: running_variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect(),
    };
    let forward = Forward { channels, input, scale, shift, statistics: &statistics, activation, residual };
    on_arm!(batch_norm::apply, &forward, output);
    Ok(())
}

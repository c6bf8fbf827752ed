//! Fully connected layers: output `[rows, out_features]` = input `[rows, in_features]` · weight
//! `[in_features, out_features]` + bias.

use crate::error::{Result, check_len, check_offsets, product};
use crate::generic::linear::ROWS;
use crate::generic::{linear, on_isa};

/// Returns the lengths of input, weight and output.
fn lengths(op: &'static str, rows: usize, in_features: usize, out_features: usize) -> Result<[usize; 3]> {
    Ok([
        product(op, &[rows, in_features])?,
        product(op, &[in_features, out_features])?,
        product(op, &[rows, out_features])?,
    ])
}

/// Computes the matrix product input · weight, plus `bias[o]` if there is a bias.
///
/// # Errors
/// If a dimension is 0, a slice has the wrong length, or the 32-bit row offsets overflow.
///
/// ```
/// let mut output = [0.0; 2];
/// let (input, weight, bias) = ([1.0, 2.0], [10.0, 20.0, 30.0, 40.0], [0.5, 0.0]);
/// cifar_kernels::linear_forward(1, 2, 2, &input, &weight, Some(&bias), &mut output)?;
/// assert_eq!(output, [70.5, 100.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn linear_forward(
    rows: usize,
    in_features: usize,
    out_features: usize,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) -> Result<()> {
    const OP: &str = "linear_forward";
    let [inputs, weights, outputs] = lengths(OP, rows, in_features, out_features)?;
    check_offsets(OP, rows.min(ROWS), in_features)?;
    check_len(OP, "input", input, inputs)?;
    check_len(OP, "weight", weight, weights)?;
    check_len(OP, "output", output, outputs)?;
    if let Some(bias) = bias {
        check_len(OP, "bias", bias, out_features)?;
    }
    on_isa!(linear::forward, in_features, out_features, input, weight, bias, output);
    Ok(())
}

/// Computes the gradient with respect to the input: `output_grad` · weightᵀ.
///
/// # Errors
/// As [`linear_forward`].
///
/// ```
/// let mut input_grad = [0.0; 2];
/// let (output_grad, weight) = ([1.0], [10.0, 20.0]);
/// cifar_kernels::linear_input_gradient(1, 2, 1, &output_grad, &weight, &mut input_grad)?;
/// assert_eq!(input_grad, [10.0, 20.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn linear_input_gradient(
    rows: usize,
    in_features: usize,
    out_features: usize,
    output_grad: &[f32],
    weight: &[f32],
    input_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "linear_input_gradient";
    let [inputs, weights, outputs] = lengths(OP, rows, in_features, out_features)?;
    check_offsets(OP, rows.min(ROWS), out_features)?;
    check_len(OP, "output_grad", output_grad, outputs)?;
    check_len(OP, "weight", weight, weights)?;
    check_len(OP, "input_grad", input_grad, inputs)?;
    on_isa!(linear::input_gradient, in_features, out_features, output_grad, weight, input_grad);
    Ok(())
}

/// Computes the gradient with respect to the weight: inputᵀ · `output_grad`.
///
/// # Errors
/// As [`linear_forward`].
///
/// ```
/// let mut weight_grad = [0.0; 2];
/// let (input, output_grad) = ([3.0, 4.0], [2.0]);
/// cifar_kernels::linear_weight_gradient(1, 2, 1, &input, &output_grad, &mut weight_grad)?;
/// assert_eq!(weight_grad, [6.0, 8.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn linear_weight_gradient(
    rows: usize,
    in_features: usize,
    out_features: usize,
    input: &[f32],
    output_grad: &[f32],
    weight_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "linear_weight_gradient";
    let [inputs, weights, outputs] = lengths(OP, rows, in_features, out_features)?;
    check_offsets(OP, rows, in_features)?;
    check_len(OP, "input", input, inputs)?;
    check_len(OP, "output_grad", output_grad, outputs)?;
    check_len(OP, "weight_grad", weight_grad, weights)?;
    on_isa!(linear::weight_gradient, rows, in_features, out_features, input, output_grad, weight_grad);
    Ok(())
}

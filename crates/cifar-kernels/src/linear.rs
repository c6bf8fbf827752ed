//! Fully connected layers: output [rows, `out_features`] = input [rows, `in_features`] · weight [`in_features`, `out_features`] + bias.

use crate::error::{Result, check_len, check_offsets, product};
use crate::generic::linear::ROWS;
use crate::generic::{linear, on_arm};

/// Input, weight and output lengths.
fn lengths(op: &'static str, rows: usize, in_features: usize, out_features: usize) -> Result<[usize; 3]> {
    Ok([
        product(op, &[rows, in_features])?,
        product(op, &[in_features, out_features])?,
        product(op, &[rows, out_features])?,
    ])
}

/// The matrix product, plus `bias[o]` where there is one.
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
    on_arm!(linear::forward, in_features, out_features, input, weight, bias, output);
    Ok(())
}

/// The gradient with respect to the input: `output_grad` · weightᵀ.
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
    on_arm!(linear::input_gradient, in_features, out_features, output_grad, weight, input_grad);
    Ok(())
}

/// The gradient with respect to the weight: inputᵀ · `output_grad`.
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
    on_arm!(linear::weight_gradient, rows, in_features, out_features, input, output_grad, weight_grad);
    Ok(())
}

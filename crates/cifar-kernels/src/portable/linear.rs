//! Matrix products, divided by rows of the output.

use rayon::prelude::*;

use super::matmul::{Matrix, matmul};

/// Rows of the output that one task works on.
const ROWS: usize = 32;

pub(crate) fn forward(i: usize, o: usize, input: &[f32], weight: &[f32], bias: Option<&[f32]>, output: &mut [f32]) {
    let weight = Matrix::new(weight, i, o);
    output.par_chunks_mut(ROWS * o).zip(input.par_chunks(ROWS * i)).for_each(|(output, input)| {
        matmul(Matrix::new(input, input.len() / i, i), weight, output, false);
        if let Some(bias) = bias {
            for row in output.chunks_exact_mut(o) {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        }
    });
}

pub(crate) fn input_gradient(i: usize, o: usize, output_grad: &[f32], weight: &[f32], input_grad: &mut [f32]) {
    let weight = Matrix::new(weight, i, o).transposed();
    input_grad.par_chunks_mut(ROWS * i).zip(output_grad.par_chunks(ROWS * o)).for_each(|(input_grad, grad)| {
        matmul(Matrix::new(grad, grad.len() / o, o), weight, input_grad, false);
    });
}

pub(crate) fn weight_gradient(
    rows: usize,
    i: usize,
    o: usize,
    input: &[f32],
    output_grad: &[f32],
    weight_grad: &mut [f32],
) {
    let grad = Matrix::new(output_grad, rows, o);
    weight_grad.par_chunks_mut(ROWS * o).enumerate().for_each(|(block, weight_grad)| {
        let (first, count) = (block * ROWS, weight_grad.len() / o);
        let columns: Vec<f32> = input.chunks_exact(i).flat_map(|row| &row[first..first + count]).copied().collect();
        matmul(Matrix::new(&columns, rows, count).transposed(), grad, weight_grad, false);
    });
}

//! Fully connected layers, divided into tasks by rows of the output.

use rayon::prelude::*;

use super::matmul::{
    Columns, Rows, Target, multiply, multiply_transposed, pack, pack_transposed, packed_len, row_offsets,
};
use super::shared::Shared;
use crate::Buffer;
use crate::isa::Simd;

/// Rows of the output per task.
pub(crate) const ROWS: usize = 48;

/// Computes C = `left` `[rows, k]` · B, for a packed matrix B `[k, n]`.
fn product<S: Simd>(s: S, left: &[f32], k: usize, packed: &[f32], n: usize, out: &mut [f32]) {
    out.par_chunks_mut(ROWS * n).zip(left.par_chunks(ROWS * k)).for_each(|(out, left)| {
        let offsets = row_offsets(left.len() / k, k);
        let c = Target { base: out.as_mut_ptr(), stride: n, padded: false, add: false };
        // SAFETY: both chunks have the same number of whole rows, and `packed` is a k × n matrix.
        unsafe { multiply(s, Rows { base: left.as_ptr(), offsets: &offsets }, k, packed.as_ptr(), n, c) };
    });
}

pub(crate) fn forward<S: Simd>(
    s: S,
    i: usize,
    o: usize,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let mut packed = Buffer::new(packed_len::<S>(i, o));
    pack::<S>(weight, i, o, o, &mut packed);
    product(s, input, i, &packed, o, output);
    if let Some(bias) = bias {
        for row in output.chunks_exact_mut(o) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }
}

pub(crate) fn input_gradient<S: Simd>(
    s: S,
    i: usize,
    o: usize,
    output_grad: &[f32],
    weight: &[f32],
    input_grad: &mut [f32],
) {
    let mut packed = Buffer::new(packed_len::<S>(o, i));
    pack_transposed::<S>(weight, o, i, o, &mut packed);
    product(s, output_grad, o, &packed, i, input_grad);
}

pub(crate) fn weight_gradient<S: Simd>(
    s: S,
    rows: usize,
    i: usize,
    o: usize,
    input: &[f32],
    output_grad: &[f32],
    weight_grad: &mut [f32],
) {
    let offsets = row_offsets(rows, i);
    let input = Shared::new_const(input);
    weight_grad.par_chunks_mut(ROWS * o).enumerate().for_each(|(block, weight_grad)| {
        weight_grad.fill(0.0);
        let a = Rows { base: input.at(block * ROWS), offsets: &offsets };
        let b = Columns { base: output_grad.as_ptr(), stride: o, padded: false };
        let c = Target { base: weight_grad.as_mut_ptr(), stride: o, padded: false, add: true };
        // SAFETY: the columns of the block start at `block · ROWS` in every row of `input`, and
        // they are as many as the rows here.
        unsafe { multiply_transposed(s, a, weight_grad.len() / o, b, o, c) };
    });
}

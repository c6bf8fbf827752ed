//! Pooling.

use super::Real;
use crate::PoolShape;

/// Calls `visit(input index, output index, position)` for every position in every window.
fn for_each_tap(s: &PoolShape, mut visit: impl FnMut(usize, usize, u8)) {
    for n in 0..s.batch {
        for y in 0..s.out_height {
            for x in 0..s.out_width {
                for c in 0..s.channels {
                    for i in 0..s.window {
                        for j in 0..s.window {
                            let (row, column) = (y * s.stride + i, x * s.stride + j);
                            visit(
                                ((n * s.in_height + row) * s.in_width + column) * s.channels + c,
                                ((n * s.out_height + y) * s.out_width + x) * s.channels + c,
                                (i * s.window + j) as u8,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Returns the maxima and their positions.
pub fn max_pool_forward<R: Real>(shape: &PoolShape, input: &[R]) -> (Vec<R>, Vec<u8>) {
    let (mut output, mut argmax) = (vec![R::ZERO; shape.output_len()], vec![0; shape.output_len()]);
    for_each_tap(shape, |x, y, place| {
        if place == 0 || input[x] > output[y] {
            (output[y], argmax[y]) = (input[x], place);
        }
    });
    (output, argmax)
}

/// Returns the gradient of [`max_pool_forward`]: each output's gradient goes to its maximum.
pub fn max_pool_backward<R: Real>(shape: &PoolShape, argmax: &[u8], output_grad: &[R]) -> Vec<R> {
    let mut input_grad = vec![R::ZERO; shape.input_len()];
    for_each_tap(shape, |x, y, place| {
        if argmax[y] == place {
            input_grad[x] += output_grad[y];
        }
    });
    input_grad
}

/// Returns the means.
pub fn average_pool_forward<R: Real>(shape: &PoolShape, input: &[R]) -> Vec<R> {
    let mut output = vec![R::ZERO; shape.output_len()];
    let count = R::from_f64((shape.window * shape.window) as f64);
    for_each_tap(shape, |x, y, _| output[y] += input[x] / count);
    output
}

/// Returns the gradient of [`average_pool_forward`]: each output's gradient is spread over its
/// window.
pub fn average_pool_backward<R: Real>(shape: &PoolShape, output_grad: &[R]) -> Vec<R> {
    let mut input_grad = vec![R::ZERO; shape.input_len()];
    let count = R::from_f64((shape.window * shape.window) as f64);
    for_each_tap(shape, |x, y, _| input_grad[x] += output_grad[y] / count);
    input_grad
}

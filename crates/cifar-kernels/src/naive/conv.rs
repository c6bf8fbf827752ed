//! Convolutions and linear layers.

use super::{Real, max_pool_backward, max_pool_forward};
use crate::{Conv2dShape, PoolShape};

/// Calls `visit(input index, weight index, output index)` for every product of the convolution.
fn for_each_product(s: &Conv2dShape, mut visit: impl FnMut(usize, usize, usize)) {
    for n in 0..s.batch {
        for y in 0..s.out_height {
            for x in 0..s.out_width {
                for i in 0..s.kernel {
                    for j in 0..s.kernel {
                        let (row, column) = (y * s.stride + i, x * s.stride + j);
                        let inside = (s.padding..s.padding + s.in_height).contains(&row)
                            && (s.padding..s.padding + s.in_width).contains(&column);
                        if !inside {
                            continue;
                        }
                        let pixel = (n * s.in_height + row - s.padding) * s.in_width + column - s.padding;
                        for c in 0..s.in_channels {
                            for o in 0..s.out_channels {
                                visit(
                                    pixel * s.in_channels + c,
                                    ((i * s.kernel + j) * s.in_channels + c) * s.out_channels + o,
                                    ((n * s.out_height + y) * s.out_width + x) * s.out_channels + o,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the convolution, plus bias.
pub fn conv2d_forward<R: Real>(shape: &Conv2dShape, input: &[R], weight: &[R], bias: Option<&[R]>) -> Vec<R> {
    let mut output: Vec<R> =
        (0..shape.output_len()).map(|i| bias.map_or(R::ZERO, |b| b[i % shape.out_channels])).collect();
    for_each_product(shape, |x, w, y| output[y] += input[x] * weight[w]);
    output
}

/// Returns the gradient of the convolution with respect to the input.
pub fn conv2d_input_gradient<R: Real>(shape: &Conv2dShape, output_grad: &[R], weight: &[R]) -> Vec<R> {
    let mut input_grad = vec![R::ZERO; shape.input_len()];
    for_each_product(shape, |x, w, y| input_grad[x] += output_grad[y] * weight[w]);
    input_grad
}

/// Returns the gradient of the convolution with respect to the filters.
pub fn conv2d_weight_gradient<R: Real>(shape: &Conv2dShape, input: &[R], output_grad: &[R]) -> Vec<R> {
    let mut weight_grad = vec![R::ZERO; shape.weight_len()];
    for_each_product(shape, |x, w, y| weight_grad[w] += input[x] * output_grad[y]);
    weight_grad
}

/// Returns the shape of a 2×2 pooling of the convolution's output.
fn pool(s: &Conv2dShape) -> PoolShape {
    s.pool().expect("the output has two rows and columns")
}

/// Returns the maxima of a convolution without bias over 2×2 windows, and their positions.
///
/// # Panics
/// If the output of the convolution has only one row or column.
pub fn conv2d_max_pool_forward<R: Real>(shape: &Conv2dShape, input: &[R], weight: &[R]) -> (Vec<R>, Vec<u8>) {
    max_pool_forward(&pool(shape), &conv2d_forward(shape, input, weight, None))
}

/// Returns the gradients with respect to the input and the filters: those of the convolution or,
/// with `places`, of the convolution followed by max pooling.
///
/// # Panics
/// With `places`, if the output of the convolution has only one row or column.
pub fn conv2d_backward<R: Real>(
    shape: &Conv2dShape,
    input: &[R],
    weight: &[R],
    output_grad: &[R],
    places: Option<&[u8]>,
) -> (Vec<R>, Vec<R>) {
    let unpooled = places.map(|places| max_pool_backward(&pool(shape), places, output_grad));
    let output_grad = unpooled.as_deref().unwrap_or(output_grad);
    (conv2d_input_gradient(shape, output_grad, weight), conv2d_weight_gradient(shape, input, output_grad))
}

/// Calls `visit(input index, weight index, output index)` for every product of a linear layer.
fn for_each_linear_product(rows: usize, i: usize, o: usize, mut visit: impl FnMut(usize, usize, usize)) {
    for row in 0..rows {
        for from in 0..i {
            for to in 0..o {
                visit(row * i + from, from * o + to, row * o + to);
            }
        }
    }
}

/// Returns the matrix product input · weight, plus bias.
pub fn linear_forward<R: Real>(
    rows: usize,
    i: usize,
    o: usize,
    input: &[R],
    weight: &[R],
    bias: Option<&[R]>,
) -> Vec<R> {
    let mut output: Vec<R> = (0..rows * o).map(|at| bias.map_or(R::ZERO, |b| b[at % o])).collect();
    for_each_linear_product(rows, i, o, |x, w, y| output[y] += input[x] * weight[w]);
    output
}

/// Returns the gradient of the matrix product with respect to the input.
pub fn linear_input_gradient<R: Real>(rows: usize, i: usize, o: usize, output_grad: &[R], weight: &[R]) -> Vec<R> {
    let mut input_grad = vec![R::ZERO; rows * i];
    for_each_linear_product(rows, i, o, |x, w, y| input_grad[x] += output_grad[y] * weight[w]);
    input_grad
}

/// Returns the gradient of the matrix product with respect to the weight.
pub fn linear_weight_gradient<R: Real>(rows: usize, i: usize, o: usize, input: &[R], output_grad: &[R]) -> Vec<R> {
    let mut weight_grad = vec![R::ZERO; i * o];
    for_each_linear_product(rows, i, o, |x, w, y| weight_grad[w] += input[x] * output_grad[y]);
    weight_grad
}

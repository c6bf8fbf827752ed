//! Convolution as matrix products: the windows of some output rows are laid out as the rows of a matrix (im2col).

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::matmul::{Matrix, matmul};
use super::vectorised;
use crate::Conv2dShape;

/// Windows that are laid out at once: enough for the matrix product to run well, few enough for the second-level cache.
const WINDOWS: usize = 256;

/// Images whose weight gradients are summed before they join the others: fixed, so that the order of additions is too.
const SUMMED_IMAGES: usize = 8;

thread_local! {
    /// Scratch for laid-out windows, kept from call to call.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `len` values of this thread's scratch, whatever they hold.
fn with_scratch(len: usize, work: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        work(&mut scratch[..len]);
    });
}

/// Blocks of output rows, [`WINDOWS`] windows or one row each.
fn row_blocks(shape: &Conv2dShape) -> impl Iterator<Item = Range<usize>> {
    let rows = (WINDOWS / shape.out_width).max(1);
    let height = shape.out_height;
    (0..height).step_by(rows).map(move |start| start..(start + rows).min(height))
}

fn image_len(shape: &Conv2dShape) -> usize {
    shape.in_height * shape.in_width * shape.in_channels
}

fn output_image_len(shape: &Conv2dShape) -> usize {
    shape.out_height * shape.out_width * shape.out_channels
}

/// Calls `copy(input offset, window offset)` for every row of taps that lies inside the image and `outside(window
/// range)` for what lies in the padding. A run is the part of one filter row that lies inside the image.
#[inline(always)]
fn for_each_run(
    shape: &Conv2dShape,
    rows: &Range<usize>,
    mut inside: impl FnMut(Range<usize>, usize),
    mut outside: impl FnMut(Range<usize>),
) {
    let (c, k, window) = (shape.in_channels, shape.kernel, shape.window());
    for (index, (y, x)) in rows.clone().flat_map(|y| (0..shape.out_width).map(move |x| (y, x))).enumerate() {
        // The window's left edge, in padded coordinates; columns first..last of the filter lie inside the image.
        let left = x * shape.stride;
        let first = shape.padding.saturating_sub(left).min(k);
        let last = (shape.in_width + shape.padding).saturating_sub(left).clamp(first, k);
        for i in 0..k {
            let start = index * window + i * k * c;
            let row = y * shape.stride + i;
            if first == last || row < shape.padding || row >= shape.in_height + shape.padding {
                outside(start..start + k * c);
                continue;
            }
            outside(start..start + first * c);
            let from = ((row - shape.padding) * shape.in_width + left + first - shape.padding) * c;
            inside(from..from + (last - first) * c, start + first * c);
            outside(start + last * c..start + k * c);
        }
    }
}

/// Lays out the windows of some output rows of one image.
#[inline(always)]
fn gather(shape: &Conv2dShape, rows: &Range<usize>, image: &[f32], windows: &mut [f32]) {
    let windows = RefCell::new(windows);
    for_each_run(
        shape,
        rows,
        |from, to| windows.borrow_mut()[to..to + from.len()].copy_from_slice(&image[from]),
        |padding| windows.borrow_mut()[padding].fill(0.0),
    );
}

/// Adds laid-out windows back to where they came from.
#[inline(always)]
fn scatter_add(shape: &Conv2dShape, rows: &Range<usize>, windows: &[f32], image: &mut [f32]) {
    for_each_run(
        shape,
        rows,
        |to, from| {
            let len = to.len();
            for (pixel, value) in image[to].iter_mut().zip(&windows[from..from + len]) {
                *pixel += value;
            }
        },
        |_| {},
    );
}

pub(crate) fn forward(shape: &Conv2dShape, input: &[f32], weight: &[f32], bias: Option<&[f32]>, output: &mut [f32]) {
    let (window, o) = (shape.window(), shape.out_channels);
    let weight = Matrix::new(weight, window, o);
    output.par_chunks_mut(output_image_len(shape)).zip(input.par_chunks(image_len(shape))).for_each(
        |(output, image)| {
            for rows in row_blocks(shape) {
                let count = rows.len() * shape.out_width;
                let block = &mut output[rows.start * shape.out_width * o..rows.end * shape.out_width * o];
                with_scratch(count * window, |windows| {
                    vectorised(|| gather(shape, &rows, image, windows));
                    matmul(Matrix::new(windows, count, window), weight, block, false);
                });
                if let Some(bias) = bias {
                    for pixel in block.chunks_exact_mut(o) {
                        for (y, b) in pixel.iter_mut().zip(bias) {
                            *y += b;
                        }
                    }
                }
            }
        },
    );
}

pub(crate) fn input_gradient(shape: &Conv2dShape, output_grad: &[f32], weight: &[f32], input_grad: &mut [f32]) {
    let (window, o) = (shape.window(), shape.out_channels);
    let weight = Matrix::new(weight, window, o).transposed();
    input_grad.par_chunks_mut(image_len(shape)).zip(output_grad.par_chunks(output_image_len(shape))).for_each(
        |(image, grad)| {
            image.fill(0.0);
            for rows in row_blocks(shape) {
                let count = rows.len() * shape.out_width;
                let grad = &grad[rows.start * shape.out_width * o..rows.end * shape.out_width * o];
                with_scratch(count * window, |windows| {
                    matmul(Matrix::new(grad, count, o), weight, windows, false);
                    vectorised(|| scatter_add(shape, &rows, windows, image));
                });
            }
        },
    );
}

pub(crate) fn weight_gradient(shape: &Conv2dShape, input: &[f32], output_grad: &[f32], weight_grad: &mut [f32]) {
    let (window, o) = (shape.window(), shape.out_channels);
    let (images, grads) = (SUMMED_IMAGES * image_len(shape), SUMMED_IMAGES * output_image_len(shape));
    let partial: Vec<Vec<f32>> = (input.par_chunks(images).zip(output_grad.par_chunks(grads)))
        .map(|(images, grads)| {
            let mut sum = vec![0.0; shape.weight_len()];
            for (image, grad) in images.chunks_exact(image_len(shape)).zip(grads.chunks_exact(output_image_len(shape)))
            {
                for rows in row_blocks(shape) {
                    let count = rows.len() * shape.out_width;
                    let grad = &grad[rows.start * shape.out_width * o..rows.end * shape.out_width * o];
                    with_scratch(count * window, |windows| {
                        vectorised(|| gather(shape, &rows, image, windows));
                        matmul(
                            Matrix::new(windows, count, window).transposed(),
                            Matrix::new(grad, count, o),
                            &mut sum,
                            true,
                        );
                    });
                }
            }
            sum
        })
        .collect();
    weight_grad.fill(0.0);
    for sum in partial {
        for (w, s) in weight_grad.iter_mut().zip(sum) {
            *w += s;
        }
    }
}

//! Pooling, image by image.

use rayon::prelude::*;

use crate::PoolShape;
use crate::isa::Simd;

/// Calls `visit(output offset, input offset, position)` for every output pixel and every position
/// in its window, in order. Offsets are those of the first channel.
#[inline(always)]
fn for_each_tap(shape: &PoolShape, mut visit: impl FnMut(usize, usize, u8)) {
    for (y, x) in (0..shape.out_height).flat_map(|y| (0..shape.out_width).map(move |x| (y, x))) {
        let output = (y * shape.out_width + x) * shape.channels;
        for (i, j) in (0..shape.window).flat_map(|i| (0..shape.window).map(move |j| (i, j))) {
            let input = ((y * shape.stride + i) * shape.in_width + x * shape.stride + j) * shape.channels;
            visit(output, input, (i * shape.window + j) as u8);
        }
    }
}

fn image_len(shape: &PoolShape) -> usize {
    shape.in_height * shape.in_width * shape.channels
}

fn output_image_len(shape: &PoolShape) -> usize {
    shape.out_height * shape.out_width * shape.channels
}

pub(crate) fn max_forward<S: Simd>(s: S, shape: &PoolShape, input: &[f32], output: &mut [f32], argmax: &mut [u8]) {
    let (c, out) = (shape.channels, output_image_len(shape));
    let images = output.par_chunks_mut(out).zip(argmax.par_chunks_mut(out)).zip(input.par_chunks(image_len(shape)));
    images.for_each(|((output, argmax), image)| {
        s.vectorize(|| {
            for_each_tap(shape, |to, from, place| {
                let best = output[to..to + c].iter_mut().zip(&mut argmax[to..to + c]);
                for ((best, at), value) in best.zip(&image[from..from + c]) {
                    if place == 0 || *value > *best || (value.is_nan() && !best.is_nan()) {
                        (*best, *at) = (*value, place);
                    }
                }
            });
        });
    });
}

pub(crate) fn max_backward<S: Simd>(
    s: S,
    shape: &PoolShape,
    argmax: &[u8],
    output_grad: &[f32],
    input_grad: &mut [f32],
) {
    let (c, out) = (shape.channels, output_image_len(shape));
    let images =
        input_grad.par_chunks_mut(image_len(shape)).zip(argmax.par_chunks(out)).zip(output_grad.par_chunks(out));
    images.for_each(|((image, argmax), grad)| {
        image.fill(0.0);
        s.vectorize(|| {
            for_each_tap(shape, |from, to, place| {
                let taken = argmax[from..from + c].iter().zip(&grad[from..from + c]);
                for (pixel, (at, grad)) in image[to..to + c].iter_mut().zip(taken) {
                    // Without a branch, so that the compiler vectorises it.
                    *pixel += if *at == place { *grad } else { 0.0 };
                }
            });
        });
    });
}

pub(crate) fn average_forward<S: Simd>(s: S, shape: &PoolShape, input: &[f32], output: &mut [f32]) {
    let c = shape.channels;
    let share = 1.0 / (shape.window * shape.window) as f32;
    let images = output.par_chunks_mut(output_image_len(shape)).zip(input.par_chunks(image_len(shape)));
    images.for_each(|(output, image)| {
        output.fill(0.0);
        s.vectorize(|| {
            for_each_tap(shape, |to, from, _| {
                for (sum, value) in output[to..to + c].iter_mut().zip(&image[from..from + c]) {
                    *sum += value * share;
                }
            });
        });
    });
}

pub(crate) fn average_backward<S: Simd>(s: S, shape: &PoolShape, output_grad: &[f32], input_grad: &mut [f32]) {
    let c = shape.channels;
    let share = 1.0 / (shape.window * shape.window) as f32;
    let images = input_grad.par_chunks_mut(image_len(shape)).zip(output_grad.par_chunks(output_image_len(shape)));
    images.for_each(|(image, grad)| {
        image.fill(0.0);
        s.vectorize(|| {
            for_each_tap(shape, |from, to, _| {
                for (pixel, grad) in image[to..to + c].iter_mut().zip(&grad[from..from + c]) {
                    *pixel += grad * share;
                }
            });
        });
    });
}

//! The result of an image has the same bits alone and anywhere in a batch, so an evaluation does
//! not depend on the batch size.

mod common;

use std::ops::Range;

use cifar_kernels::{
    Activation, BatchNorm, CachingAllocator, Result, activation_forward, average_pool_forward, batch_norm_evaluate,
    conv2d_activation_forward, conv2d_backward, conv2d_forward, conv2d_max_pool_forward, linear_forward,
    max_pool_forward, softmax,
};
use common::kernels::{Conv, Heap, Linear, Memory, Norm, Pool};
use common::{ACTIVATIONS, CONVS, LINEARS, POOLS, TABLES, WINOGRADS, bits, conv2d, on_every_isa, pool_shape, values};

/// Results must not depend on the allocator either.
#[global_allocator]
static ALLOCATOR: CachingAllocator = CachingAllocator::new();

const FITS: &str = "the shape is a valid one";

/// Returns the part of `values` that belongs to `images` of `batch`.
fn of<'a, T>(images: &Range<usize>, batch: usize, values: &'a [T]) -> &'a [T] {
    let image = values.len() / batch;
    &values[images.start * image..images.end * image]
}

/// Checks `run`, which returns the results of some images of a batch.
fn check(name: &str, batch: usize, run: impl Fn(&Range<usize>) -> Vec<f32>) {
    let alone = [0, 1, batch / 2, batch - 1].map(|image| image..(image + 1).min(batch));
    let together = [0..batch - 1, 1..batch, batch / 3..batch.div_ceil(2)];
    on_every_isa(|_| {
        let all = run(&(0..batch));
        for images in alone.iter().chain(&together).filter(|images| !images.is_empty()) {
            assert!(bits(&run(images)) == bits(of(images, batch, &all)), "{name}: images {images:?} of {batch}");
        }
    });
}

/// Returns values and positions, interleaved image by image.
fn joined(images: usize, values: &[f32], places: &[u8]) -> Vec<f32> {
    let image = values.len() / images;
    let joined = values.chunks(image).zip(places.chunks(image));
    joined.flat_map(|(v, p)| v.iter().copied().chain(p.iter().map(|p| f32::from(*p)))).collect()
}

fn maxima(images: usize, len: usize, write: impl FnOnce(&mut [f32], &mut [u8]) -> Result<()>) -> Vec<f32> {
    let mut places = vec![u8::MAX; len];
    let values = Heap.made(len, |y| write(y, &mut places));
    joined(images, &values, &places)
}

#[test]
fn convolutions() {
    for dims in CONVS.iter().chain(WINOGRADS) {
        let [batch, h, w, c, o, kernel, stride, padding] = *dims;
        let Conv { input, weight, bias, .. } = Conv::new(*dims, 1).expect(FITS);
        let shape = |images: &Range<usize>| conv2d([images.len(), h, w, c, o, kernel, stride, padding]);
        check(&format!("conv2d_forward {dims:?}"), batch, |images| {
            let (s, x) = (shape(images).expect(FITS), of(images, batch, &input));
            Heap.made(s.output_len(), |y| conv2d_forward(&s, x, &weight, Some(&bias), y))
        });
        check(&format!("conv2d_activation_forward {dims:?}"), batch, |images| {
            let (s, x) = (shape(images).expect(FITS), of(images, batch, &input));
            Heap.made(s.output_len(), |y| conv2d_activation_forward(&s, x, &weight, &bias, Activation::Gelu, y))
        });
        if shape(&(0..1)).expect(FITS).pool().is_ok() {
            check(&format!("conv2d_max_pool_forward {dims:?}"), batch, |images| {
                let (s, x) = (shape(images).expect(FITS), of(images, batch, &input));
                let len = s.pool().expect(FITS).output_len();
                maxima(images.len(), len, |y, places| conv2d_max_pool_forward(&s, x, &weight, y, places))
            });
        }
    }
}

/// Outputs of more than 8 MB are stored past the caches, those of single images are not.
#[test]
fn large_outputs() {
    // Rows of 63 channels start at any alignment.
    for [c, o] in [[8, 64], [64, 8], [9, 63], [63, 9]] {
        let dims = [35, 32, 32, c, o, 3, 1, 1];
        let batch = dims[0];
        let Conv { input, weight, output_grad, .. } = Conv::new(dims, 1).expect(FITS);
        let shape = |images: &Range<usize>| conv2d([images.len(), 32, 32, c, o, 3, 1, 1]).expect(FITS);
        check(&format!("conv2d_forward {dims:?}"), batch, |images| {
            let (s, x) = (shape(images), of(images, batch, &input));
            Heap.made(s.output_len(), |y| conv2d_forward(&s, x, &weight, None, y))
        });
        check(&format!("conv2d_backward {dims:?}"), batch, |images| {
            let (s, x, dy) = (shape(images), of(images, batch, &input), of(images, batch, &output_grad));
            Heap.made(s.input_len(), |dx| conv2d_backward(&s, x, &weight, dy, None, Some(dx), None))
        });
    }
}

#[test]
fn pools() {
    for dims in POOLS {
        let [batch, h, w, c, window, stride] = *dims;
        let input = Pool::new(*dims, 2).expect(FITS).input;
        let shape = |images: &Range<usize>| pool_shape([images.len(), h, w, c, window, stride]).expect(FITS);
        check(&format!("max_pool_forward {dims:?}"), batch, |images| {
            let (s, x) = (shape(images), of(images, batch, &input));
            maxima(images.len(), s.output_len(), |y, places| max_pool_forward(&s, x, y, places))
        });
        check(&format!("average_pool_forward {dims:?}"), batch, |images| {
            let (s, x) = (shape(images), of(images, batch, &input));
            Heap.made(s.output_len(), |y| average_pool_forward(&s, x, y))
        });
    }
}

/// Here rows take the role of images.
#[test]
fn linear_layers() {
    for dims in LINEARS {
        let [rows, i, o] = *dims;
        let Linear { input, weight, bias, .. } = Linear::new(*dims, 3);
        check(&format!("linear_forward {dims:?}"), rows, |images| {
            let (n, x) = (images.len(), of(images, rows, &input));
            Heap.made(n * o, |y| linear_forward(n, i, o, x, &weight, Some(&bias), y))
        });
    }
}

#[test]
fn norms_activations_and_softmax() {
    for dims in TABLES {
        let [rows, c] = *dims;
        for activation in ACTIVATIONS {
            let Norm { input, scale, shift, residual, running_mean: mean, running_variance: variance, .. } =
                Norm::new(*dims, activation, true, 4);
            let residual = residual.expect("it was asked for");
            check(&format!("batch_norm_evaluate {dims:?} {activation:?}"), rows, |images| {
                let (n, x, residual) = (images.len(), of(images, rows, &input), of(images, rows, &residual));
                let epsilon = Norm::EPSILON;
                let residual = Some(residual);
                let (scale, shift) = (&scale[..], &shift[..]);
                let layer = BatchNorm { rows: n, channels: c, input: x, scale, shift, residual, activation };
                Heap.made(n * c, |y| batch_norm_evaluate(&layer, &mean, &variance, epsilon, y))
            });
            check(&format!("activation_forward {dims:?} {activation:?}"), rows, |images| {
                Heap.made(images.len() * c, |y| activation_forward(activation, of(images, rows, &input), y))
            });
        }
        let logits = values(5, rows * c);
        check(&format!("softmax {dims:?}"), rows, |images| {
            Heap.made(images.len() * c, |p| softmax(images.len(), c, of(images, rows, &logits), p))
        });
    }
}

//! The layers between convolutions: batch norm with its activation, pooling, the loss and the
//! optimiser's update, for 128 images of airbench94 and of a ResNet-18. "elem/s" are input values
//! per second.
//!
//! `cargo bench -p cifar-kernels --bench layers -- 'batch norm'`

mod common;

use cifar_kernels::{
    Activation, BatchNorm, BatchNormGradients, PoolDimensions, PoolShape, adamw_update, average_pool_backward,
    average_pool_forward, batch_norm_backward, batch_norm_evaluate, batch_norm_forward, max_pool_backward,
    max_pool_forward, sgd_update, softmax_cross_entropy,
};
use common::{BATCH, criterion, values};
use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = criterion();
    // After airbench94's pooled convolutions, then in the first and last stage of ResNet-18.
    for (side, channels, activation) in
        [(15, 64, Activation::Gelu), (7, 256, Activation::Gelu), (32, 64, Activation::Relu), (4, 512, Activation::Relu)]
    {
        batch_norm(&mut criterion, side, channels, activation, false);
    }
    batch_norm(&mut criterion, 32, 64, Activation::Relu, true);
    for (side, channels, window) in [(31, 64, 2), (15, 256, 2), (3, 256, 3)] {
        max_pool(&mut criterion, side, channels, window);
    }
    average_pool(&mut criterion, 4, 512);
    loss(&mut criterion, 10);
    // The weights of the largest layers of airbench94 and ResNet-18.
    for len in [9 * 256 * 256, 9 * 512 * 512] {
        optimisers(&mut criterion, len);
    }
    criterion.final_summary();
}

/// Training, its gradients, and evaluation, with or without a residual before the activation.
fn batch_norm(criterion: &mut Criterion, side: usize, channels: usize, activation: Activation, residual: bool) {
    const EPSILON: f32 = 1e-5;
    let rows = BATCH * side * side;
    let (input, output_grad) = (values(rows * channels), values(rows * channels));
    let (mut output, mut input_grad) = (vec![0.0; rows * channels], vec![0.0; rows * channels]);
    let (scale, shift) = (vec![1.0; channels], values(channels));
    let (mut scale_grad, mut shift_grad) = (vec![0.0; channels], vec![0.0; channels]);
    let added = residual.then(|| values(rows * channels));
    let mut added_grad = residual.then(|| vec![0.0; rows * channels]);
    let layer = BatchNorm {
        rows,
        channels,
        input: &input,
        scale: &scale,
        shift: &shift,
        residual: added.as_deref(),
        activation,
    };
    let suffix = if residual { " with residual" } else { "" };
    let mut group = criterion.benchmark_group(format!("batch norm {channels} @{side} {activation:?}{suffix}"));
    group.throughput(Throughput::Elements((rows * channels) as u64));
    let mut statistics = None;
    group.bench_function("forward", |bencher| {
        bencher.iter(|| {
            statistics = Some(batch_norm_forward(&layer, EPSILON, &mut output).expect("valid arguments"));
        });
    });
    // A filter on the command line may have skipped the forward pass.
    let statistics =
        statistics.unwrap_or_else(|| batch_norm_forward(&layer, EPSILON, &mut output).expect("valid arguments"));
    group.bench_function("backward", |bencher| {
        bencher.iter(|| {
            let gradients = BatchNormGradients {
                input: &mut input_grad,
                scale: &mut scale_grad,
                shift: &mut shift_grad,
                residual: added_grad.as_deref_mut(),
            };
            batch_norm_backward(&layer, &statistics, &output_grad, gradients).expect("valid arguments");
        });
    });
    group.bench_function("evaluate", |bencher| {
        bencher.iter(|| {
            batch_norm_evaluate(&layer, &statistics.mean, &statistics.variance, EPSILON, &mut output)
                .expect("valid arguments");
        });
    });
}

fn pool_shape(side: usize, channels: usize, window: usize) -> PoolShape {
    PoolShape::new(PoolDimensions { images: BATCH, height: side, width: side, channels, window, stride: window })
        .expect("a valid shape")
}

fn max_pool(criterion: &mut Criterion, side: usize, channels: usize, window: usize) {
    let shape = pool_shape(side, channels, window);
    let (input, output_grad) = (values(shape.input_len()), values(shape.output_len()));
    let (mut output, mut input_grad) = (vec![0.0; shape.output_len()], vec![0.0; shape.input_len()]);
    let mut places = vec![0; shape.output_len()];
    let mut group = criterion.benchmark_group(format!("max pool {channels} @{side} {window}×{window}"));
    group.throughput(Throughput::Elements(shape.input_len() as u64));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| max_pool_forward(&shape, &input, &mut output, &mut places).expect("valid arguments"));
    });
    group.bench_function("backward", |bencher| {
        bencher.iter(|| max_pool_backward(&shape, &places, &output_grad, &mut input_grad).expect("valid arguments"));
    });
}

fn average_pool(criterion: &mut Criterion, side: usize, channels: usize) {
    let shape = pool_shape(side, channels, side);
    let (input, output_grad) = (values(shape.input_len()), values(shape.output_len()));
    let (mut output, mut input_grad) = (vec![0.0; shape.output_len()], vec![0.0; shape.input_len()]);
    let mut group = criterion.benchmark_group(format!("average pool {channels} @{side}"));
    group.throughput(Throughput::Elements(shape.input_len() as u64));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| average_pool_forward(&shape, &input, &mut output).expect("valid arguments"));
    });
    group.bench_function("backward", |bencher| {
        bencher.iter(|| average_pool_backward(&shape, &output_grad, &mut input_grad).expect("valid arguments"));
    });
}

/// Smoothed cross-entropy with its gradient.
fn loss(criterion: &mut Criterion, classes: usize) {
    let labels: Vec<u32> = (0..BATCH).map(|row| (row % classes) as u32).collect();
    let logits = values(BATCH * classes);
    let (mut losses, mut gradient) = (vec![0.0; BATCH], vec![0.0; BATCH * classes]);
    let mut group = criterion.benchmark_group(format!("loss of {classes} classes"));
    group.throughput(Throughput::Elements((BATCH * classes) as u64));
    group.bench_function("forward and gradient", |bencher| {
        bencher.iter(|| {
            softmax_cross_entropy(BATCH, classes, &logits, &labels, None, 0.2, &mut losses, &mut gradient)
                .expect("valid arguments");
        });
    });
}

fn optimisers(criterion: &mut Criterion, len: usize) {
    let gradient = values(len);
    let (mut weight, mut first, mut second) = (values(len), vec![0.0; len], vec![0.0; len]);
    let mut group = criterion.benchmark_group(format!("update of {len} weights"));
    group.throughput(Throughput::Elements(len as u64));
    // The rates are so small that weights stay bounded over any number of iterations.
    group.bench_function("sgd", |bencher| {
        bencher.iter(|| {
            sgd_update(&mut weight, &gradient, &mut first, 1e-6, 0.9, true, 5e-4).expect("valid arguments");
        });
    });
    group.bench_function("adamw", |bencher| {
        bencher.iter(|| {
            adamw_update(&mut weight, &gradient, &mut first, &mut second, 1e-6, [0.9, 0.999], 1e-8, 1e-2, 100)
                .expect("valid arguments");
        });
    });
}

//! A small network learns in bf16 as it does in `f32`: convolution, batch norm with GELU, max
//! pooling, global average pooling and a linear layer.

use crate::common;

use cifar_kernels::bf16::{self, Bf16, BlockedShape};
use cifar_kernels::{
    Activation, BatchNorm, BatchNormGradients, Conv2dShape, PoolShape, average_pool_backward, average_pool_forward,
    batch_norm_backward, batch_norm_forward, conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient,
    max_pool_backward, max_pool_forward, sgd_update, softmax_cross_entropy,
};
use common::{conv2d, pool_shape, values};

const FITS: &str = "the lengths are those of the shapes";
const IMAGES: usize = 70;
const SIDE: usize = 8;
const CHANNELS: usize = 20;
const CLASSES: usize = 4;
const EPSILON: f32 = 1e-5;

struct Shapes {
    conv: Conv2dShape,
    max: PoolShape,
    average: PoolShape,
    linear: Conv2dShape,
}

impl Shapes {
    fn new() -> Self {
        Self {
            conv: conv2d([IMAGES, SIDE, SIDE, 3, CHANNELS, 3, 1, 1]).expect(FITS),
            max: pool_shape([IMAGES, SIDE, SIDE, CHANNELS, 2, 2]).expect(FITS),
            average: pool_shape([IMAGES, SIDE / 2, SIDE / 2, CHANNELS, SIDE / 2, 1]).expect(FITS),
            linear: conv2d([IMAGES, 1, 1, CHANNELS, CLASSES, 1, 1, 0]).expect(FITS),
        }
    }
}

/// Filters, scale, shift and the weight of the linear layer, or their gradients.
type Parameters = [Vec<f32>; 4];

fn zeros(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

/// Returns the mean loss and the gradient with respect to the logits.
fn loss(logits: &[f32], labels: &[u32]) -> (f32, Vec<f32>) {
    let (mut losses, mut grad) = (zeros(IMAGES), zeros(logits.len()));
    softmax_cross_entropy(IMAGES, CLASSES, logits, labels, None, 0.0, &mut losses, &mut grad).expect(FITS);
    for g in &mut grad {
        *g /= IMAGES as f32;
    }
    (losses.iter().sum::<f32>() / IMAGES as f32, grad)
}

fn in_f32(input: &[f32], labels: &[u32], [filters, scale, shift, weight]: &Parameters) -> (f32, Parameters) {
    let (s, rows) = (Shapes::new(), IMAGES * SIDE * SIDE);
    let [mut x, mut y, mut dx, mut dy] = [(); 4].map(|()| zeros(s.conv.output_len()));
    conv2d_forward(&s.conv, input, filters, None, &mut x).expect(FITS);
    let activation = Activation::Gelu;
    let layer = BatchNorm { rows, channels: CHANNELS, input: &x, scale, shift, residual: None, activation };
    let statistics = batch_norm_forward(&layer, EPSILON, &mut y).expect(FITS);
    let [mut maxima, mut maxima_grad] = [(); 2].map(|()| zeros(s.max.output_len()));
    let mut places = vec![0; maxima.len()];
    max_pool_forward(&s.max, &y, &mut maxima, &mut places).expect(FITS);
    let [mut means, mut means_grad] = [(); 2].map(|()| zeros(s.average.output_len()));
    average_pool_forward(&s.average, &maxima, &mut means).expect(FITS);
    let mut logits = zeros(s.linear.output_len());
    conv2d_forward(&s.linear, &means, weight, None, &mut logits).expect(FITS);

    let (loss, grad) = loss(&logits, labels);
    let mut gradients = [filters, scale, shift, weight].map(|p| zeros(p.len()));
    let [filters_grad, scale_grad, shift_grad, weight_grad] = &mut gradients;
    conv2d_weight_gradient(&s.linear, &means, &grad, weight_grad).expect(FITS);
    conv2d_input_gradient(&s.linear, &grad, weight, &mut means_grad).expect(FITS);
    average_pool_backward(&s.average, &means_grad, &mut maxima_grad).expect(FITS);
    max_pool_backward(&s.max, &places, &maxima_grad, &mut dy).expect(FITS);
    let to = BatchNormGradients { input: &mut dx, scale: scale_grad, shift: shift_grad, residual: None };
    batch_norm_backward(&layer, &statistics, &dy, to).expect(FITS);
    conv2d_weight_gradient(&s.conv, input, &dx, filters_grad).expect(FITS);
    (loss, gradients)
}

fn in_bf16(input: &[f32], labels: &[u32], [filters, scale, shift, weight]: &Parameters) -> (f32, Parameters) {
    let s = Shapes::new();
    let none = |shape: &BlockedShape| vec![Bf16::ZERO; shape.len()];
    let [from, shape, pooled] = [
        BlockedShape::of_input(&s.conv).expect(FITS),
        BlockedShape::of_output(&s.conv).expect(FITS),
        BlockedShape::new([IMAGES, SIDE / 2, SIDE / 2, CHANNELS]).expect(FITS),
    ];
    let [features, classes] =
        [BlockedShape::of_input(&s.linear).expect(FITS), BlockedShape::of_output(&s.linear).expect(FITS)];
    let mut images = none(&from);
    bf16::to_blocked(&from, input, &mut images).expect(FITS);
    let [mut x, mut y, mut dx, mut dy] = [(); 4].map(|()| none(&shape));
    bf16::conv2d_forward(&s.conv, &images, filters, &mut x).expect(FITS);
    let layer = bf16::BatchNorm { shape, input: &x, scale, shift, residual: None, activation: Activation::Gelu };
    let statistics = bf16::batch_norm_forward(&layer, EPSILON, &mut y).expect(FITS);
    let [mut maxima, mut maxima_grad] = [(); 2].map(|()| none(&pooled));
    let mut places = vec![0; maxima.len()];
    bf16::max_pool_forward(&s.max, &y, &mut maxima, &mut places).expect(FITS);
    let [mut means, mut means_grad] = [(); 2].map(|()| none(&features));
    bf16::average_pool_forward(&s.average, &maxima, &mut means).expect(FITS);
    let (mut logits, mut values) = (none(&classes), zeros(s.linear.output_len()));
    bf16::conv2d_forward(&s.linear, &means, weight, &mut logits).expect(FITS);
    bf16::from_blocked(&classes, &logits, &mut values).expect(FITS);

    let (loss, grad) = loss(&values, labels);
    let mut logits_grad = none(&classes);
    bf16::to_blocked(&classes, &grad, &mut logits_grad).expect(FITS);
    let mut gradients = [filters, scale, shift, weight].map(|p| zeros(p.len()));
    let [filters_grad, scale_grad, shift_grad, weight_grad] = &mut gradients;
    bf16::conv2d_weight_gradient(&s.linear, &means, &logits_grad, weight_grad).expect(FITS);
    bf16::conv2d_input_gradient(&s.linear, &logits_grad, weight, &mut means_grad).expect(FITS);
    bf16::average_pool_backward(&s.average, &means_grad, &mut maxima_grad).expect(FITS);
    bf16::max_pool_backward(&s.max, &places, &maxima_grad, &mut dy).expect(FITS);
    let to = bf16::BatchNormGradients { input: &mut dx, scale: scale_grad, shift: shift_grad, residual: None };
    bf16::batch_norm_backward(&layer, &statistics, &dy, to).expect(FITS);
    bf16::conv2d_weight_gradient(&s.conv, &images, &dx, filters_grad).expect(FITS);
    (loss, gradients)
}

/// Returns the loss before each of twenty steps of SGD.
fn losses(step: impl Fn(&[f32], &[u32], &Parameters) -> (f32, Parameters)) -> Vec<f32> {
    let labels: Vec<u32> = (0..IMAGES as u32).map(|image| image % CLASSES as u32).collect();
    let mut input = values(1, IMAGES * SIDE * SIDE * 3);
    // Each class has stripes of its own width in the first channel.
    for (at, value) in input.iter_mut().enumerate().filter(|(at, _)| at % 3 == 0) {
        let (image, column) = (at / (3 * SIDE * SIDE), at / 3 % SIDE);
        *value = 0.5 * *value + if (column >> (image % CLASSES)).is_multiple_of(2) { 0.5 } else { -0.5 };
    }
    let scaled = |seed, len, scale: f32| values(seed, len).into_iter().map(|v| v * scale).collect::<Vec<f32>>();
    let s = Shapes::new();
    let mut parameters: Parameters = [
        scaled(2, s.conv.weight_len(), 0.3),
        vec![1.0; CHANNELS],
        zeros(CHANNELS),
        scaled(3, s.linear.weight_len(), 0.3),
    ];
    let mut velocities = parameters.each_ref().map(|p| zeros(p.len()));
    let mut step = || {
        let (loss, gradients) = step(&input, &labels, &parameters);
        for ((p, g), v) in parameters.iter_mut().zip(&gradients).zip(&mut velocities) {
            sgd_update(p, g, v, 0.2, 0.9, true, 0.0).expect(FITS);
        }
        loss
    };
    (0..20).map(|_| step()).collect()
}

#[test]
fn a_network_learns_in_bf16_as_in_f32() {
    let [expected, got] = [losses(in_f32), losses(in_bf16)];
    for (step, (expected, got)) in expected.iter().zip(&got).enumerate() {
        // The largest difference is 0.0008.
        assert!((expected - got).abs() < 0.004, "loss {got} instead of {expected} before step {step}");
    }
    assert!(expected[0] > 1.2 && expected[19] < 0.4, "the network learns: {expected:?}");
}

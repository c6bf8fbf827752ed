//! Every kernel against naive loops in f64, on awkward shapes and on random ones.

mod common;

use cifar_kernels::{
    Activation, activation_backward, batch_norm_forward, max_pool_forward, naive, softmax_cross_entropy,
};
use common::kernels::{Conv, Heap, Linear, Loss, Norm, Outputs, Pool, Table};
use common::{ACTIVATIONS, CONVS, LINEARS, POOLS, TABLES, widen};
use proptest::prelude::*;

/// Error allowed as a part of the magnitude of what was added up. A sum of n products rounds n times by at most 2⁻²⁴
/// of that magnitude, at random √n times: 2·10⁻⁶ for the longest sum here (1 400 products), and a missing or wrong
/// product weighs 1 / n, hundreds of times the tolerance.
const TOLERANCE: f64 = 5e-6;

const FITS: &str = "the shape is a valid one";

/// What a kernel should have written, and the magnitude that its rounding is measured by.
struct Expected {
    values: Vec<f64>,
    magnitude: Vec<f64>,
}

/// A function linear in each argument: its magnitude is its value on absolute values.
fn linear<const N: usize>(arguments: [&[f32]; N], f: impl Fn([&[f64]; N]) -> Vec<f64>) -> Expected {
    let [exact, absolute] = [|v: f64| v, f64::abs].map(|g| arguments.map(|a| widen(a).into_iter().map(g).collect()));
    let apply = |a: &[Vec<f64>; N]| f(std::array::from_fn(|i| &*a[i]));
    Expected { values: apply(&exact), magnitude: apply(&absolute) }
}

/// Values whose terms are about as large as 1 or the largest value.
fn ordinary(values: Vec<f64>) -> Expected {
    let largest = values.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    Expected { magnitude: vec![largest; values.len()], values }
}

fn column_sums(channels: usize, values: &[f64]) -> Vec<f64> {
    (0..channels).map(|c| values.iter().skip(c).step_by(channels).sum()).collect()
}

fn check(dims: &[usize], outputs: Outputs, expected: Vec<Expected>) {
    assert_eq!(outputs.len(), expected.len(), "every output has its expectation");
    for ((name, got), Expected { values, magnitude }) in outputs.into_iter().zip(expected) {
        assert_eq!(got.len(), values.len(), "{name} {dims:?}");
        for (at, ((got, value), magnitude)) in got.into_iter().zip(values).zip(magnitude).enumerate() {
            let error = (f64::from(got) - value).abs();
            assert!(error <= TOLERANCE * magnitude, "{name} {dims:?}: {got} instead of {value} at {at}");
        }
    }
}

fn check_conv(dims: [usize; 8], seed: u64) {
    let conv = Conv::new(dims, seed).expect(FITS);
    let Conv { shape: s, out_channels, input, weight, bias, output_grad } = &conv;
    let expected = vec![
        linear([input, weight, bias], |[x, w, b]| naive::conv2d_forward(s, x, w, Some(b))),
        linear([input, weight], |[x, w]| naive::conv2d_forward(s, x, w, None)),
        linear([output_grad, weight], |[dy, w]| naive::conv2d_input_gradient(s, dy, w)),
        linear([input, output_grad], |[x, dy]| naive::conv2d_weight_gradient(s, x, dy)),
        linear([output_grad], |[dy]| column_sums(*out_channels, dy)),
    ];
    check(&dims, conv.run(&Heap), expected);
}

fn check_linear(dims: [usize; 3], seed: u64) {
    let layer = Linear::new(dims, seed);
    let ([rows, i, o], Linear { input, weight, bias, output_grad, .. }) = (dims, &layer);
    let expected = vec![
        linear([input, weight, bias], |[x, w, b]| naive::linear_forward(rows, i, o, x, w, Some(b))),
        linear([input, weight], |[x, w]| naive::linear_forward(rows, i, o, x, w, None)),
        linear([output_grad, weight], |[dy, w]| naive::linear_input_gradient(rows, i, o, dy, w)),
        linear([input, output_grad], |[x, dy]| naive::linear_weight_gradient(rows, i, o, x, dy)),
    ];
    check(&dims, layer.run(&Heap), expected);
}

fn check_pool(dims: [usize; 6], seed: u64) {
    let pool = Pool::new(dims, seed).expect(FITS);
    let Pool { shape: s, input, output_grad } = &pool;
    let (maxima, places) = naive::max_pool_forward(s, &widen(input));
    // Without a magnitude: taking a maximum rounds nothing.
    let exactly = |values: Vec<f64>| Expected { magnitude: vec![0.0; values.len()], values };
    let expected = vec![
        exactly(maxima),
        exactly(places.iter().map(|p| f64::from(*p)).collect()),
        linear([output_grad], |[dy]| naive::max_pool_backward(s, &places, dy)),
        linear([input], |[x]| naive::average_pool_forward(s, x)),
        linear([output_grad], |[dy]| naive::average_pool_backward(s, dy)),
    ];
    check(&dims, pool.run(&Heap), expected);
}

fn check_norm(dims: [usize; 2], activation: Activation, residual: bool, seed: u64) {
    let norm = Norm::new(dims, activation, residual, seed);
    let ([rows, c], epsilon) = (dims, f64::from(Norm::EPSILON));
    let [x, scale, shift, dy] = [&norm.input, &norm.scale, &norm.shift, &norm.output_grad].map(|v| widen(v));
    let residual = norm.residual.as_deref().map(widen);
    let residual = residual.as_deref();
    let gradients = naive::batch_norm_backward(c, &x, &scale, &shift, epsilon, activation, residual, &dy);

    let mean: Vec<f64> = column_sums(c, &x).into_iter().map(|sum| sum / rows as f64).collect();
    let squares: Vec<f64> = x.iter().enumerate().map(|(at, x)| (x - mean[at % c]).powi(2)).collect();
    let variance: Vec<f64> = column_sums(c, &squares).into_iter().map(|sum| sum / rows as f64).collect();
    let inverse_std = variance.iter().map(|v| (v + epsilon).sqrt().recip()).collect();
    let evaluated = |at: usize| {
        let (c, mean, variance) = (at % c, f64::from(norm.running_mean[at % c]), norm.running_variance[at % c]);
        let normalised = (x[at] - mean) / (f64::from(variance) + epsilon).sqrt();
        normalised * scale[c] + shift[c] + residual.map_or(0.0, |r| r[at])
    };
    let evaluated: Vec<f64> = (0..x.len()).map(evaluated).collect();

    let mut expected: Vec<Expected> = [
        norm.naive_forward(activation),
        naive::activation_forward(activation, &evaluated),
        mean,
        variance,
        inverse_std,
        gradients.input,
        gradients.scale,
        gradients.shift,
    ]
    .map(ordinary)
    .into();
    expected.extend(residual.map(|_| ordinary(gradients.residual)));
    check(&dims, norm.run(&Heap), expected);
}

fn check_loss(dims: [usize; 2], smoothing: f32, seed: u64) {
    let loss = Loss::new(dims, smoothing, seed);
    let ([_, classes], logits) = (dims, widen(&loss.logits));
    let (losses, gradient) = naive::softmax_cross_entropy(classes, &logits, &loss.labels, f64::from(smoothing));
    let softmax = logits.chunks_exact(classes).flat_map(|row| {
        let sum: f64 = row.iter().map(|l| l.exp()).sum();
        row.iter().map(move |l| l.exp() / sum)
    });
    let expected = [losses, gradient, softmax.collect()].map(ordinary);
    check(&dims, loss.run(&Heap), expected.into());
}

fn check_table(dims: [usize; 2], seed: u64) {
    let table = Table::new(dims, seed);
    let [x, dy, velocity, mean, std] =
        [&table.input, &table.output_grad, &table.velocity, &table.mean, &table.std].map(|v| widen(v));
    let c = table.channels;
    let pixels = table.pixels.iter().enumerate();
    let mut expected = vec![pixels.map(|(at, p)| (f64::from(*p) / 255.0 - mean[at % c]) / std[at % c]).collect()];
    for f in ACTIVATIONS {
        expected.push(naive::activation_forward(f, &x));
        expected.push(naive::activation_backward(f, &x, &dy));
    }
    let [rate, momentum, decay] = [Table::LEARNING_RATE, Table::MOMENTUM, Table::DECAY].map(f64::from);
    for nesterov in [false, true] {
        let velocity: Vec<f64> = velocity.iter().zip(&dy).map(|(v, g)| momentum * v + g).collect();
        let step = |(g, v): (&f64, &f64)| if nesterov { g + momentum * v } else { *v };
        let steps = dy.iter().zip(&velocity).map(step);
        expected.push(x.iter().zip(steps).map(|(w, step)| w - rate * decay * w - rate * step).collect());
        expected.push(velocity);
    }
    check(&dims, table.run(&Heap), expected.into_iter().map(ordinary).collect());
}

#[test]
fn convolutions() {
    for dims in CONVS {
        check_conv(*dims, 1);
    }
}

#[test]
fn linear_layers() {
    for dims in LINEARS {
        check_linear(*dims, 2);
    }
}

#[test]
fn pools() {
    for dims in POOLS {
        check_pool(*dims, 3);
    }
}

#[test]
fn norms() {
    for dims in TABLES {
        for activation in ACTIVATIONS {
            check_norm(*dims, activation, false, 4);
            check_norm(*dims, activation, true, 5);
        }
    }
}

#[test]
fn losses() {
    for dims in TABLES {
        for smoothing in [0.0, 0.1, 0.9] {
            check_loss(*dims, smoothing, 6);
        }
    }
}

#[test]
fn value_by_value() {
    for dims in TABLES {
        check_table(*dims, 7);
    }
}

/// A mean of 1000 squared leaves f32 no digit of a variance of 0.25.
#[test]
fn variance_survives_a_large_mean() {
    let input: Vec<f32> = (0..64).map(|i| 1000.0 + (i % 2) as f32).collect();
    let mut output = vec![f32::NAN; 64];
    let statistics =
        batch_norm_forward(64, 1, &input, &[1.0], &[0.0], 1e-12, Activation::Identity, None, &mut output).expect(FITS);
    assert_eq!((statistics.mean, statistics.variance), (vec![1000.5], vec![0.25]));
    assert_eq!(output, [-1.0, 1.0].repeat(32));
}

/// Softmax does not see what all logits have in common; log Σ e^l does, and would round the loss away with it.
#[test]
fn loss_is_unmoved_by_a_common_offset() {
    let loss_of = |offset: f32| {
        let (mut loss, mut gradient) = ([f32::NAN], [f32::NAN; 3]);
        let logits = [0.0, -1.5, -9.0].map(|l| l + offset); // exact at every offset here
        softmax_cross_entropy(1, 3, &logits, &[0], 0.1, &mut loss, &mut gradient).expect(FITS);
        (loss, gradient)
    };
    for offset in [1000.0, -1000.0, 1e5] {
        assert_eq!(loss_of(offset), loss_of(0.0), "offset {offset}");
    }
}

#[test]
fn logits_far_apart_overflow_nothing() {
    let (mut losses, mut gradient) = ([f32::NAN; 2], [f32::NAN; 4]);
    softmax_cross_entropy(2, 2, &[3e4, -3e4, 3e4, -3e4], &[0, 1], 0.0, &mut losses, &mut gradient).expect(FITS);
    assert_eq!((losses, gradient), ([0.0, 6e4], [0.0, 0.0, 1.0, -1.0]));
}

#[test]
fn the_first_of_equal_maxima_counts_and_nan_outdoes_all() {
    fn check(window: [f32; 4], expected: (f32, u8)) {
        let (mut output, mut argmax) = ([0.0], [u8::MAX]);
        let shape = cifar_kernels::PoolShape::new(1, 2, 2, 1, 2, 1).expect(FITS);
        max_pool_forward(&shape, &window, &mut output, &mut argmax).expect(FITS);
        assert_eq!((output[0].to_bits(), argmax[0]), (expected.0.to_bits(), expected.1), "{window:?}");
    }
    check([1.0, 3.0, 3.0, 2.0], (3.0, 1));
    check([-2.0, -2.0, -2.0, -2.0], (-2.0, 0));
    check([f32::NEG_INFINITY; 4], (f32::NEG_INFINITY, 0));
    check([1.0, f32::NAN, f32::INFINITY, f32::NAN], (f32::NAN, 1));
    check([f32::NAN, 1.0, 2.0, 3.0], (f32::NAN, 0));
}

#[test]
fn relu_is_flat_at_zero() {
    let mut gradient = vec![f32::NAN; 3];
    activation_backward(Activation::Relu, &[0.0, -0.0, 1e-30], &[1.0; 3], &mut gradient).expect(FITS);
    assert_eq!(gradient, [0.0, 0.0, 1.0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_convolutions(
        [n, h, w] in [1..12_usize, 1..10, 1..10],
        [c, o] in [1..20_usize, 1..20],
        [kernel, stride, padding] in [1..5_usize, 1..4, 0..4],
        seed: u32,
    ) {
        let dims = [n, h, w, c, o, kernel, stride, padding];
        prop_assume!(kernel <= h.min(w) + 2 * padding);
        check_conv(dims, u64::from(seed));
    }

    #[test]
    fn random_pools([n, h, w, c] in [1..5_usize, 1..12, 1..12, 1..20], [window, stride] in [1..5_usize, 1..5], seed: u32) {
        prop_assume!(window <= h.min(w));
        check_pool([n, h, w, c, window, stride], u64::from(seed));
    }

    #[test]
    fn random_linear_layers(dims in [1..80_usize, 1..40, 1..40], seed: u32) {
        check_linear(dims, u64::from(seed));
    }

    #[test]
    fn random_tables(dims in [1..80_usize, 1..40], which in 0..4_usize, residual: bool, smoothing in 0.0..1.0_f32, seed: u32) {
        check_norm(dims, ACTIVATIONS[which], residual, u64::from(seed));
        check_loss(dims, smoothing, u64::from(seed));
        check_table(dims, u64::from(seed));
    }
}

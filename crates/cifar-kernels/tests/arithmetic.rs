//! Numerically difficult values: tiny, huge, almost equal, or far apart. On every ISA.

use crate::common;

use cifar_kernels::{
    Activation, BatchNorm, activation_backward, activation_forward, batch_norm_forward, naive, softmax_cross_entropy,
};
use common::kernels::{Heap, Memory};
use common::{ACTIVATIONS, on_every_isa, values, widen};

const FITS: &str = "the shape is a valid one";

/// Allowed error of f(x), relative to the larger of |x| and 1. The largest error is 1.4·10⁻⁷ (GELU
/// on every ISA), part of which comes from the formula for Φ. GELU and SiLU at −x are small
/// differences of larger numbers, so no error relative to f(x) itself can be guaranteed.
const VALUE: f64 = 2e-7;
/// Allowed error relative to f(x), for tiny x. The largest error is 3·10⁻⁷ on every ISA.
const TINY_VALUE: f64 = 4e-7;
/// Allowed error of f′(x). The largest is 9.7·10⁻⁷ (SiLU at 17 on every ISA), where 1 − σ(x) has
/// few digits left and is multiplied by x.
const SLOPE: f64 = 1.2e-6;

#[test]
fn activations_from_tiny_numbers_to_a_hundred() {
    let mut x: Vec<f32> = (-6400..=6400_i16).map(|i| f32::from(i) / 64.0).collect();
    // Inputs down to the smallest positive number.
    x.extend((1..150).flat_map(|k| [1.37, -1.37].map(|x: f64| (x * 2f64.powi(-k)) as f32)));
    let (wide, ones) = (widen(&x), vec![1.0; x.len()]);
    on_every_isa(|isa| {
        for f in ACTIVATIONS {
            let got = Heap.made(x.len(), |y| activation_forward(f, &x, y));
            for ((got, value), x) in got.iter().zip(naive::activation_forward(f, &wide)).zip(&wide) {
                let error = (f64::from(*got) - value).abs();
                assert!(error <= VALUE * x.abs().max(1.0), "{isa}: {f:?}({x}) = {got} instead of {value}");
                // Below, numbers are subnormal and have fewer digits.
                if (3e-38..1e-3).contains(&x.abs()) {
                    assert!(error <= TINY_VALUE * value.abs(), "{isa}: {f:?}({x}) = {got} instead of {value}");
                }
            }
            let got = Heap.made(x.len(), |dx| activation_backward(f, &x, &ones, dx));
            for ((got, slope), x) in got.iter().zip(naive::activation_backward(f, &wide, &widen(&ones))).zip(&wide) {
                let error = (f64::from(*got) - slope).abs();
                assert!(error <= SLOPE, "{isa}: the slope of {f:?} at {x} is {got} instead of {slope}");
            }
        }
    });
}

#[test]
fn relu_is_flat_at_zero() {
    on_every_isa(|_| {
        let gradient = Heap.made(3, |dx| activation_backward(Activation::Relu, &[0.0, -0.0, 1e-30], &[1.0; 3], dx));
        assert_eq!(gradient, [0.0, 0.0, 1.0]);
    });
}

fn one_channel(input: &[f32]) -> BatchNorm<'_> {
    let (rows, activation) = (input.len(), Activation::Identity);
    BatchNorm { rows, channels: 1, input, scale: &[1.0], shift: &[0.0], residual: None, activation }
}

/// In f32, the square of a mean of 1000 leaves no digit of a variance of 0.25.
#[test]
fn variance_survives_a_large_mean() {
    on_every_isa(|_| {
        for mean in [1e3, 1e6] {
            let input: Vec<f32> = (0..64).map(|i| mean + (i % 2) as f32).collect();
            let mut output = vec![f32::NAN; 64];
            let statistics = batch_norm_forward(&one_channel(&input), 1e-12, &mut output).expect(FITS);
            assert_eq!((statistics.mean, statistics.variance), (vec![mean + 0.5], vec![0.25]));
            assert_eq!(output, [-1.0, 1.0].repeat(32));
        }
    });
}

/// Distances are taken from the mean of the first rows, which may be far from all others.
#[test]
fn variance_survives_first_rows_far_from_the_others() {
    fn check(rows: usize, first: f32, allowed: f64) {
        let mut input = values(3, rows);
        input[..8].fill(first);
        let n = rows as f64;
        let mean = widen(&input).iter().sum::<f64>() / n;
        let variance = widen(&input).iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        on_every_isa(|isa| {
            let mut output = vec![0.0; rows];
            let got = batch_norm_forward(&one_channel(&input), 1e-12, &mut output).expect(FITS);
            let error = (f64::from(got.variance[0]) - variance).abs();
            assert!(error <= allowed * variance, "{isa}: {:?} instead of {variance}, rows at {first}", got.variance);
        });
    }
    // The error of a sum of 256 squares in f32 is about 10⁻⁷ of the squared distance, which is this
    // many times the variance.
    check(20_000, 3.0, 1e-5);
    check(20_000, 10.0, 1e-4);
    // Here most of the variance is that of the first rows.
    check(20_000, 1e4, 1e-3);
}

/// A common offset of all logits does not change softmax. It does change log Σ e^l, which would
/// round the loss away.
#[test]
fn a_common_offset_does_not_change_the_loss() {
    let loss_of = |offset: f32| {
        let (mut loss, mut gradient) = ([f32::NAN], [f32::NAN; 3]);
        let logits = [0.0, -1.5, -9.0].map(|l| l + offset); // exact at every offset here
        softmax_cross_entropy(1, 3, &logits, &[0], None, 0.1, &mut loss, &mut gradient).expect(FITS);
        (loss, gradient)
    };
    for offset in [1000.0, -1000.0, 1e5] {
        assert_eq!(loss_of(offset), loss_of(0.0), "offset {offset}");
    }
}

#[test]
fn logits_far_apart_do_not_overflow() {
    let (mut losses, mut gradient) = ([f32::NAN; 2], [f32::NAN; 4]);
    softmax_cross_entropy(2, 2, &[3e4, -3e4, 3e4, -3e4], &[0, 1], None, 0.0, &mut losses, &mut gradient).expect(FITS);
    assert_eq!((losses, gradient), ([0.0, 6e4], [0.0, 0.0, 1.0, -1.0]));
}

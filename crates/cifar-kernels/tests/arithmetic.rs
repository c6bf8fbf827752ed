//! Numbers that are hard to compute with: not numbers, infinite, far apart, or almost equal; on every arm.

mod common;

use cifar_kernels::{Activation, activation_backward, batch_norm_forward, max_pool_forward, softmax_cross_entropy};

const FITS: &str = "the shape is a valid one";

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

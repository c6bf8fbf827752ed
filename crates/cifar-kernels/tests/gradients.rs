//! The naive gradients compared with central differences of the naive forward passes, in f64.

use crate::common;

use cifar_kernels::{Activation, naive};
use common::{ACTIVATIONS, conv2d, pool_shape, values, widen};

/// The error of a central difference is h² f‴ / 6 from truncation and about 2⁻⁵³ f / h from
/// rounding. With this h, both are about 10⁻¹⁰ of the gradients here.
const STEP: f64 = 1e-5;

/// Allowed error relative to the largest gradient.
const TOLERANCE: f64 = 1e-6;

const FITS: &str = "the shape is a valid one";

fn numbers(seed: u64, len: usize) -> Vec<f64> {
    widen(&values(seed, len))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Checks that `gradient` is the gradient of `f` at `at`.
fn check(name: &str, at: &[f64], f: impl Fn(&[f64]) -> f64, gradient: &[f64]) {
    let mut x = at.to_vec();
    let mut difference = |i: usize| {
        let [up, down] = [STEP, -STEP].map(|step| {
            x[i] = at[i] + step;
            f(&x)
        });
        x[i] = at[i];
        (up - down) / (2.0 * STEP)
    };
    let expected: Vec<f64> = (0..at.len()).map(&mut difference).collect();
    let largest = expected.iter().fold(0.0, |m: f64, e| m.max(e.abs()));
    assert!(largest > 1e-2, "{name}: nothing to compare");
    assert_eq!(gradient.len(), expected.len(), "{name}");
    for (i, (gradient, expected)) in gradient.iter().zip(&expected).enumerate() {
        let error = (gradient - expected).abs();
        assert!(error <= TOLERANCE * largest, "{name}: {gradient} instead of {expected} at {i}");
    }
}

#[test]
fn convolution() {
    // 3×3 with padding, 2×2 without, and a stride that does not divide a map of unequal sides.
    for [n, h, w, c, o, kernel, stride, padding] in
        [[2, 5, 5, 3, 2, 3, 1, 1], [2, 4, 3, 2, 3, 2, 1, 0], [1, 6, 7, 2, 2, 3, 2, 1], [1, 3, 3, 1, 1, 1, 1, 2]]
    {
        let s = conv2d([n, h, w, c, o, kernel, stride, padding]).expect(FITS);
        let (x, k, b) = (numbers(1, s.input_len()), numbers(2, s.weight_len()), numbers(3, o));
        let dy = numbers(4, s.output_len());
        let value = |x: &[f64], k: &[f64], b: &[f64]| dot(&dy, &naive::conv2d_forward(&s, x, k, Some(b)));
        check("conv2d input", &x, |x| value(x, &k, &b), &naive::conv2d_input_gradient(&s, &dy, &k));
        check("conv2d weight", &k, |k| value(&x, k, &b), &naive::conv2d_weight_gradient(&s, &x, &dy));
        let bias_gradient: Vec<f64> = (0..o).map(|c| dy.iter().skip(c).step_by(o).sum()).collect();
        check("conv2d bias", &b, |b| value(&x, &k, b), &bias_gradient);
    }
}

#[test]
fn convolution_and_maxima() {
    // Even and odd maps, with and without padding, and windows that cover a map only in part.
    for [n, h, w, c, o, kernel, stride, padding] in
        [[2, 4, 6, 3, 2, 3, 1, 1], [1, 7, 5, 2, 3, 3, 1, 0], [2, 4, 4, 1, 2, 2, 1, 0], [1, 7, 9, 2, 1, 3, 2, 2]]
    {
        let s = conv2d([n, h, w, c, o, kernel, stride, padding]).expect(FITS);
        let (x, k) = (numbers(1, s.input_len()), numbers(2, s.weight_len()));
        let (maxima, places) = naive::conv2d_max_pool_forward(&s, &x, &k);
        let dy = numbers(4, maxima.len());
        let value = |x: &[f64], k: &[f64]| dot(&dy, &naive::conv2d_max_pool_forward(&s, x, k).0);
        let (dx, dk) = naive::conv2d_backward(&s, &x, &k, &dy, Some(&places));
        check("conv2d and maxima, input", &x, |x| value(x, &k), &dx);
        check("conv2d and maxima, weight", &k, |k| value(&x, k), &dk);
    }
}

#[test]
fn linear() {
    let [rows, i, o] = [5, 7, 3];
    let (x, w, b, dy) = (numbers(1, rows * i), numbers(2, i * o), numbers(3, o), numbers(4, rows * o));
    let value = |x: &[f64], w: &[f64]| dot(&dy, &naive::linear_forward(rows, i, o, x, w, Some(&b)));
    check("linear input", &x, |x| value(x, &w), &naive::linear_input_gradient(rows, i, o, &dy, &w));
    check("linear weight", &w, |w| value(&x, w), &naive::linear_weight_gradient(rows, i, o, &x, &dy));
}

#[test]
fn pooling() {
    // Adjacent and overlapping windows, and pixels in no window.
    for [n, h, w, c, window, stride] in [[2, 5, 4, 3, 2, 2], [1, 5, 5, 2, 3, 1], [1, 7, 7, 1, 2, 3]] {
        let s = pool_shape([n, h, w, c, window, stride]).expect(FITS);
        let len = s.input_len();
        // All values differ by much more than the step, so no maximum moves. 37 is coprime to every
        // length here.
        let x: Vec<f64> = (0..len).map(|i| (i * 37 % len) as f64 / 16.0).collect();
        let dy = numbers(5, s.output_len());
        let (_, places) = naive::max_pool_forward(&s, &x);
        let maximum = |x: &[f64]| dot(&dy, &naive::max_pool_forward(&s, x).0);
        check("max pool", &x, maximum, &naive::max_pool_backward(&s, &places, &dy));
        let average = |x: &[f64]| dot(&dy, &naive::average_pool_forward(&s, x));
        check("average pool", &x, average, &naive::average_pool_backward(&s, &dy));
    }
}

fn check_batch_norm(activation: Activation, residual: bool) {
    let ([rows, c], epsilon) = ([7, 3], 1e-5);
    let (x, scale, shift) = (numbers(6, rows * c), numbers(7, c), numbers(8, c));
    let residual = residual.then(|| numbers(9, rows * c));
    let (residual, dy) = (residual.as_deref(), numbers(10, rows * c));
    let forward = |x: &[f64], scale: &[f64], shift: &[f64], activation, residual: Option<&[f64]>| {
        naive::batch_norm_forward(c, x, scale, shift, epsilon, activation, residual)
    };
    let before = forward(&x, &scale, &shift, Activation::Identity, residual);
    assert!(before.iter().all(|z| z.abs() > 100.0 * STEP), "no value lies at the kink of relu");

    let value = |x: &[f64], scale: &[f64], shift: &[f64], residual: Option<&[f64]>| {
        dot(&dy, &forward(x, scale, shift, activation, residual))
    };
    let gradients = naive::batch_norm_backward(c, &x, &scale, &shift, epsilon, activation, residual, &dy);
    let name = |of: &str| format!("batch norm {activation:?} {of}");
    check(&name("input"), &x, |x| value(x, &scale, &shift, residual), &gradients.input);
    check(&name("scale"), &scale, |scale| value(&x, scale, &shift, residual), &gradients.scale);
    check(&name("shift"), &shift, |shift| value(&x, &scale, shift, residual), &gradients.shift);
    if let Some(residual) = residual {
        check(&name("residual"), residual, |r| value(&x, &scale, &shift, Some(r)), &gradients.residual);
    }
}

#[test]
fn batch_norm() {
    for activation in ACTIVATIONS {
        check_batch_norm(activation, false);
        check_batch_norm(activation, true);
    }
}

#[test]
fn activations() {
    // From −4 to 4, without 0.
    let x: Vec<f64> = (0..32).map(|i| (f64::from(i) - 15.5) / 4.0).collect();
    let dy = numbers(11, x.len());
    for f in ACTIVATIONS {
        let value = |x: &[f64]| dot(&dy, &naive::activation_forward(f, x));
        check(&format!("{f:?}"), &x, value, &naive::activation_backward(f, &x, &dy));
    }
}

/// With a constant gradient there are closed forms: the velocity is a geometric sum, and unbiased
/// moments are the gradient and its square at every step.
#[test]
fn updates_under_a_constant_gradient() {
    let (gradient, start, rate, [mu, beta1, beta2]) = ([0.3, -2.0], [1.0, 0.5], 0.1, [0.8, 0.9, 0.999]);
    for (nesterov, decay) in [(false, 0.0), (true, 0.0), (false, 0.2), (true, 0.2)] {
        let (mut w, mut v) = (start, [0.0; 2]);
        let (mut adam, mut m1, mut m2) = (start, [0.0; 2], [0.0; 2]);
        let (mut expected, mut expected_adam) = (start, start);
        for step in 1..=5_u32 {
            naive::sgd_update(&mut w, &gradient, &mut v, rate, mu, nesterov, decay);
            naive::adamw_update(&mut adam, &gradient, &mut m1, &mut m2, rate, [beta1, beta2], 1e-3, decay, step);
            let steps = if nesterov { step + 1 } else { step };
            for (i, g) in gradient.into_iter().enumerate() {
                let velocity = g * (1.0 - f64::powi(mu, steps as i32)) / (1.0 - mu);
                expected[i] = (1.0 - rate * decay) * expected[i] - rate * velocity;
                let unbiased = g / (g.abs() + 1e-3);
                expected_adam[i] = (1.0 - rate * decay) * expected_adam[i] - rate * unbiased;
                // A few dozen roundings of 2⁻⁵³ each, which 1 − β₂ magnifies a thousandfold.
                assert!((w[i] - expected[i]).abs() < 1e-14, "sgd, step {step}: {w:?} instead of {expected:?}");
                assert!(
                    (adam[i] - expected_adam[i]).abs() < 1e-12,
                    "adamw, step {step}: {adam:?} instead of {expected_adam:?}"
                );
            }
        }
    }
}

#[test]
fn cross_entropy() {
    let (classes, labels) = (7, [0, 6, 3, 3, 1]);
    let logits: Vec<f64> = numbers(12, classes * labels.len()).into_iter().map(|l| 3.0 * l).collect();
    for smoothing in [0.0, 0.1, 0.5] {
        let total = |l: &[f64]| naive::softmax_cross_entropy(classes, l, &labels, smoothing).0.iter().sum();
        let (_, gradient) = naive::softmax_cross_entropy(classes, &logits, &labels, smoothing);
        check(&format!("cross-entropy smoothed by {smoothing}"), &logits, total, &gradient);
        let weights = [0.02, 1.0, 3.0, 0.5, 1.0, 2.0, 7.0];
        let weighted = |l: &[f64]| naive::softmax_cross_entropy_weighted(classes, l, &labels, smoothing, &weights);
        let gradient = weighted(&logits).1;
        let total = |l: &[f64]| weighted(l).0.iter().sum();
        check(&format!("weighted cross-entropy smoothed by {smoothing}"), &logits, total, &gradient);
    }
}

//! Every kernel except convolutions compared with naive loops in f64, on difficult and random
//! shapes, on every ISA.

use crate::common;

use cifar_kernels::{Activation, PixelView, naive, normalise_pixels, normalise_views};
use common::compare::{Expected, check, column_sums, exactly, linear, ordinary};
use common::kernels::{Heap, Linear, Loss, Norm, Pool, PooledNorm, Table};
use common::{ACTIVATIONS, LINEARS, POOLS, TABLES, bits, on_every_isa, widen};
use proptest::prelude::*;

const FITS: &str = "the shape is a valid one";

fn check_linear(dims: [usize; 3], seed: u64) {
    let layer = Linear::new(dims, seed);
    let ([rows, i, o], Linear { input, weight, bias, output_grad, .. }) = (dims, &layer);
    let expected = [
        linear([input, weight, bias], |[x, w, b]| naive::linear_forward(rows, i, o, x, w, Some(b))),
        linear([input, weight], |[x, w]| naive::linear_forward(rows, i, o, x, w, None)),
        linear([output_grad, weight], |[dy, w]| naive::linear_input_gradient(rows, i, o, dy, w)),
        linear([input, output_grad], |[x, dy]| naive::linear_weight_gradient(rows, i, o, x, dy)),
    ];
    check(&dims, &expected, || layer.run(&Heap));
}

fn check_pool(dims: [usize; 6], seed: u64) {
    let pool = Pool::new(dims, seed).expect(FITS);
    let Pool { shape: s, input, output_grad } = &pool;
    let (maxima, places) = naive::max_pool_forward(s, &widen(input));
    let expected = [
        exactly(maxima),
        exactly(places.iter().map(|p| f64::from(*p)).collect()),
        linear([output_grad], |[dy]| naive::max_pool_backward(s, &places, dy)),
        linear([input], |[x]| naive::average_pool_forward(s, x)),
        linear([output_grad], |[dy]| naive::average_pool_backward(s, dy)),
    ];
    check(&dims, &expected, || pool.run(&Heap));
}

fn check_norm(dims: [usize; 2], activation: Activation, residual: bool, seed: u64) {
    let norm = Norm::new(dims, activation, residual, seed);
    check(&dims, &expected_norm(&norm), || norm.run(&Heap));
}

/// Returns what [`Norm::run`] should return.
pub(crate) fn expected_norm(norm: &Norm) -> Vec<Expected> {
    let ([rows, c], activation, epsilon) = (norm.dims, norm.activation, f64::from(Norm::EPSILON));
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
    expected
}

fn check_loss(dims: [usize; 2], smoothing: f32, seed: u64) {
    let loss = Loss::new(dims, smoothing, seed);
    let ([_, classes], logits) = (dims, widen(&loss.logits));
    let (losses, gradient) = naive::softmax_cross_entropy(classes, &logits, &loss.labels, f64::from(smoothing));
    let softmax = logits.chunks_exact(classes).flat_map(|row| {
        let sum: f64 = row.iter().map(|l| l.exp()).sum();
        row.iter().map(move |l| l.exp() / sum)
    });
    let weights: Vec<f64> = Loss::weights(classes).into_iter().map(f64::from).collect();
    let weighted =
        naive::softmax_cross_entropy_weighted(classes, &logits, &loss.labels, f64::from(smoothing), &weights);
    let expected = [losses, gradient, weighted.0, weighted.1, softmax.collect()].map(ordinary);
    check(&dims, &expected, || loss.run(&Heap));
}

fn check_table(dims: [usize; 2], seed: u64) {
    let table = Table::new(dims, seed);
    let [x, dy, velocity, mean, std] =
        [&table.input, &table.output_grad, &table.velocity, &table.mean, &table.std].map(|v| widen(v));
    let c = table.channels;
    let pixels = table.pixels.iter().enumerate();
    let mut expected = vec![pixels.map(|(at, p)| (f64::from(*p) / 255.0 - mean[at % c]) / std[at % c]).collect()];
    for (size, view) in table.views() {
        expected.push(naive::normalise_views(&[&table.pixels], size, c, &[view], &mean, &std));
    }
    for f in ACTIVATIONS {
        expected.push(naive::activation_forward(f, &x));
        expected.push(naive::activation_backward(f, &x, &dy));
    }
    let [rate, momentum, decay] = [Table::LEARNING_RATE, Table::MOMENTUM, Table::DECAY].map(f64::from);
    for nesterov in [false, true] {
        let (mut weight, mut velocity) = (x.clone(), velocity.clone());
        naive::sgd_update(&mut weight, &dy, &mut velocity, rate, momentum, nesterov, decay);
        expected.extend([weight, velocity]);
    }
    let (mut weight, mut first, mut second) = (x.clone(), vec![0.0; x.len()], vec![0.0; x.len()]);
    for step in 1..=Table::STEPS {
        let (gradient, betas, epsilon) =
            (widen(&table.gradient(step)), Table::BETAS.map(f64::from), Table::EPSILON.into());
        naive::adamw_update(&mut weight, &gradient, &mut first, &mut second, rate, betas, epsilon, decay, step);
    }
    expected.extend([weight, first, second]);
    let expected: Vec<Expected> = expected.into_iter().map(ordinary).collect();
    check(&dims, &expected, || table.run(&Heap));
}

/// All views (flips and shifts) of different images of 4×5 pixels.
#[test]
fn images_through_views() {
    let views: Vec<PixelView> = (-3..=3)
        .flat_map(|down| (-4..=4).map(move |right| (down, right)))
        .flat_map(|(down, right)| [false, true].map(|mirrored| PixelView { down, right, mirrored }))
        .collect();
    let ([height, width], channels) = ([4, 5], 3);
    let image_len = height * width * channels;
    let pixels: Vec<u8> = (0..views.len() * image_len).map(|i| (i * 37 % 251) as u8).collect();
    let images: Vec<&[u8]> = pixels.chunks_exact(image_len).collect();
    let (mean, std) = ([0.4_f32, 0.5, 0.3], [0.2_f32, 0.3, 0.25]);
    let expected = naive::normalise_views(&images, [height, width], channels, &views, &widen(&mean), &widen(&std));
    check(&[height, width, channels], &[ordinary(expected)], || {
        let mut output = vec![f32::NAN; pixels.len()];
        normalise_views(&images, [height, width], channels, &views, &mean, &std, &mut output).unwrap();
        vec![("normalise_views", output)]
    });
    // Without a shift, the bits are those of `normalise_pixels`.
    let mut still = vec![0.0; pixels.len()];
    let unmoved = vec![PixelView::default(); images.len()];
    normalise_views(&images, [height, width], channels, &unmoved, &mean, &std, &mut still).unwrap();
    let mut plain = vec![0.0; pixels.len()];
    normalise_pixels(&pixels, channels, &mean, &std, &mut plain).unwrap();
    assert_eq!(still, plain);
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

/// Maps of more than 8 MB are stored past the caches.
#[test]
fn large_batch_norms() {
    for channels in [64, 63, 272] {
        let dims = [2_240_000_usize.div_ceil(channels), channels];
        check_norm(dims, Activation::Relu, false, 6);
        check_norm(dims, Activation::Relu, true, 7);
        check_norm(dims, Activation::Gelu, true, 8);
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
fn elementwise() {
    for dims in TABLES {
        check_table(*dims, 7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

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

/// Batch norm and pooling are judged above; in one pass they have the same bits.
#[test]
fn pooled_batch_norms() {
    for dims in POOLS {
        for activation in ACTIVATIONS {
            for residual in [false, true] {
                let Some(norm) = PooledNorm::new(*dims, activation, residual, 11) else { continue };
                on_every_isa(|isa| {
                    for ((name, got), (_, expected)) in norm.run(&Heap, false).iter().zip(norm.run(&Heap, true)) {
                        assert!(bits(got) == bits(&expected), "{name} {dims:?} with {activation:?}, {isa}");
                    }
                });
            }
        }
    }
}

//! Batch norm, activations and pooling in bf16 compared with naive loops in f64 on rounded
//! operands, on every ISA.

use crate::common;

use cifar_kernels::bf16::{
    BatchNorm, BatchNormGradients, Bf16, BlockedShape, activation_backward, activation_forward, average_pool_backward,
    average_pool_forward, batch_norm_backward, batch_norm_evaluate, batch_norm_forward,
    conv2d_activation_bias_gradient, conv2d_activation_forward, conv2d_weight_gradient_f32, max_pool_backward,
    max_pool_forward,
};
use cifar_kernels::{Activation, BatchStatistics, naive};
use common::compare::{Expected, TOLERANCE, compare, exactly, linear, ordinary, rounded_to_bf16};
use common::kernels::{Bf16ActivatedConv, Bf16Norm, Bf16Pool, Heap, Norm, Outputs, Pool};
use common::refuse::{check as refused, check_lengths, zeros};
use common::{ACTIVATIONS, BF16_CONVS, BF16_NORMS, BF16_POOLS, CONVS, conv2d, on_every_isa, pool_shape, widen};
use proptest::prelude::*;

use crate::oracle::expected_norm;

/// Returns the error of an activation's slope beside that of `f32`: GELU comes from a table.
fn of_slope(activation: Activation) -> f64 {
    if activation == Activation::Gelu { 2e-5 } else { 0.0 }
}

const FITS: &str = "the shape is a valid one";

/// Checks outputs, and that their blocks are filled up with 0.
fn check(dims: &[usize], expected: &[Expected], mut outputs: Outputs, shapes: &[[usize; 4]]) {
    let blocks = outputs.split_off(expected.len());
    assert_eq!(blocks.len(), shapes.len(), "{dims:?}");
    for ((_, blocks), shape) in blocks.iter().zip(shapes) {
        let filled_up = naive::blocked(*shape, &naive::unblocked(*shape, &widen(blocks)));
        assert!(filled_up == widen(blocks), "{dims:?}");
    }
    compare(dims, expected, outputs);
}

/// Returns the gradients of input, scale and shift of the gradient before the activation, which the
/// kernel rounds to bf16. It computes that gradient in `f32`, so that a few numbers may be rounded
/// to the other neighbour, 2⁻⁷ of themselves away. Each sum has room for two of them, and for the
/// errors of slopes.
fn norm_gradients(norm: &Norm) -> [Expected; 3] {
    let ([rows, c], epsilon) = (norm.dims, f64::from(Norm::EPSILON));
    let [x, scale, shift, dy] = [&norm.input, &norm.scale, &norm.shift, &norm.output_grad].map(|v| widen(v));
    let residual = norm.residual.as_deref().map(widen);
    let of = |activation, residual, dy: &[f64]| {
        naive::batch_norm_backward(c, &x, &scale, &shift, epsilon, activation, residual, dy)
    };
    let before = of(norm.activation, residual.as_deref(), &dy).residual;
    let before: Vec<f64> = before.into_iter().map(|grad| naive::bf16_rounded(grad as f32)).collect();
    let gradients = of(Activation::Identity, None, &before);
    let (one, zero) = (vec![1.0; c], vec![0.0; c]);
    let normalised = naive::batch_norm_forward(c, &x, &one, &zero, epsilon, Activation::Identity, None);
    let largest = |values: &[f64]| values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let slope = of_slope(norm.activation);
    let slopes = slope * largest(&dy) * rows as f64;
    let (grad, distance) = (2.0 * largest(&before) / 128.0 + slopes, largest(&normalised));
    let [mut input, mut scales, mut shifts] = [gradients.input, gradients.scale, gradients.shift].map(ordinary);
    shifts.allowed.iter_mut().for_each(|allowed| *allowed += grad);
    scales.allowed.iter_mut().for_each(|allowed| *allowed += grad * distance);
    let factors: Vec<f64> = (0..c)
        .map(|c| {
            let column = || x.iter().skip(c).step_by(norm.dims[1]);
            let mean = column().sum::<f64>() / rows as f64;
            let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
            scale[c].abs() / (variance + epsilon).sqrt()
        })
        .collect();
    for (at, allowed) in input.allowed.iter_mut().enumerate() {
        let factor = factors[at % c];
        let sums = grad * (1.0 + normalised[at].abs() * distance) / rows as f64;
        *allowed += factor * (before[at].abs() / 128.0 + slope * dy[at].abs() + sums);
    }
    [input, scales, shifts]
}

/// Allows the error of slopes in the gradients before an activation. `dy` are those after it.
fn add_slopes(gradients: &mut Expected, activation: Activation, dy: &[f64]) {
    let slope = of_slope(activation);
    gradients.allowed.iter_mut().zip(dy).for_each(|(allowed, dy)| *allowed += slope * dy.abs());
}

fn check_norm(dims: [usize; 4], activation: Activation, residual: bool, seed: u64) {
    let layer = Bf16Norm::new(dims, activation, residual, seed);
    let [x, dy] = [&layer.norm.input, &layer.norm.output_grad].map(|v| widen(v));
    let is_rounded = |output| matches!(output, 0 | 1 | 5 | 8);
    on_every_isa(|_| {
        let mut norm = expected_norm(&layer.norm);
        norm.splice(5..8, norm_gradients(&layer.norm));
        if let Some(residual) = norm.get_mut(8) {
            add_slopes(residual, activation, &dy);
        }
        let norm = norm.into_iter().enumerate();
        let mut expected: Vec<Expected> =
            norm.map(|(at, values)| if is_rounded(at) { rounded_to_bf16(values) } else { values }).collect();
        let [values, mut gradients] =
            [naive::activation_forward(activation, &x), naive::activation_backward(activation, &x, &dy)].map(ordinary);
        add_slopes(&mut gradients, activation, &dy);
        expected.extend([values, gradients].map(rounded_to_bf16));
        check(&dims, &expected, layer.run(&Heap), &[dims].repeat(5 + usize::from(residual)));
    });
}

fn check_activated_conv(dims: [usize; 8], activation: Activation, seed: u64) {
    let layer = Bf16ActivatedConv::new(dims, activation, seed);
    let [output, of_bias] = layer.layer.expected([TOLERANCE, TOLERANCE + of_slope(activation)]);
    let of_weight = linear([&layer.layer.conv.input, &layer.layer.output_grad], |[x, dy]| {
        naive::conv2d_weight_gradient(&layer.layer.conv.shape, x, dy)
    });
    let expected = [rounded_to_bf16(output), of_bias, of_weight];
    on_every_isa(|_| {
        let outputs = layer.run(&Heap);
        if activation != Activation::Gelu {
            // The same bits as rounding afterwards.
            let in_f32 = layer.layer.run(&Heap).swap_remove(0).1;
            assert!(
                outputs[0].1.iter().map(|v| f64::from(*v)).eq(in_f32.into_iter().map(naive::bf16_rounded)),
                "{dims:?}"
            );
        }
        check(&dims, &expected, outputs, &[layer.dims]);
    });
}

fn check_pool(dims: [usize; 6], seed: u64) {
    let layer = Bf16Pool::new(dims, seed).expect(FITS);
    let Pool { shape: s, input, output_grad } = &layer.pool;
    let (maxima, places) = naive::max_pool_forward(s, &widen(input));
    let [x, y] = layer.dims;
    on_every_isa(|_| {
        let expected = [
            exactly(maxima.clone()),
            exactly(places.iter().map(|p| f64::from(*p)).collect()),
            rounded_to_bf16(linear([output_grad], |[dy]| naive::max_pool_backward(s, &places, dy))),
            rounded_to_bf16(linear([input], |[x]| naive::average_pool_forward(s, x))),
            rounded_to_bf16(linear([output_grad], |[dy]| naive::average_pool_backward(s, dy))),
        ];
        check(&dims, &expected, layer.run(&Heap), &[y, x, y, x]);
    });
}

#[test]
fn convolutions_with_an_activation() {
    for dims in BF16_CONVS.iter().chain(CONVS) {
        for activation in ACTIVATIONS {
            check_activated_conv(*dims, activation, 4);
        }
    }
}

#[test]
fn norms() {
    for (seed, dims) in BF16_NORMS.iter().enumerate() {
        for activation in ACTIVATIONS {
            check_norm(*dims, activation, false, seed as u64);
            check_norm(*dims, activation, true, seed as u64);
        }
    }
}

#[test]
fn pools() {
    for (seed, dims) in BF16_POOLS.iter().enumerate() {
        check_pool(*dims, seed as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_convolutions_with_an_activation(
        (n, h, w, c, o) in (1..70usize, 1..9usize, 1..9usize, 1..5usize, 1..70usize),
        (kernel, stride, padding) in (1..3usize, 1..3usize, 0..2usize),
        (activation, seed) in (0..4_usize, 0..u64::MAX - 10),
    ) {
        prop_assume!(kernel <= h.min(w) + 2 * padding);
        check_activated_conv([n, h, w, c, o, kernel, stride, padding], ACTIVATIONS[activation], seed);
    }

    #[test]
    fn random_norms(
        (n, h, w, c) in (1..40_usize, 1..4_usize, 1..4_usize, 1..40_usize),
        (activation, residual, seed) in (0..4_usize, any::<bool>(), 0..u64::MAX),
    ) {
        // Two values, so that the variance is not 0.
        check_norm([2 * n, h, w, c], ACTIVATIONS[activation], residual, seed);
    }

    #[test]
    fn random_pools(
        (n, h, w, c) in (1..40_usize, 1..8_usize, 1..8_usize, 1..40_usize),
        (window, stride, seed) in (1..4_usize, 1..4_usize, 0..u64::MAX),
    ) {
        check_pool([n, h, w, c, window.min(h).min(w), stride], seed);
    }
}

/// The first of equal maxima counts, and NaN is larger than any number.
#[test]
fn maxima_of_windows_with_nan_and_infinity() {
    let shape = pool_shape([1, 2, 2, 1, 2, 2]).expect(FITS);
    on_every_isa(|isa| {
        for (window, expected) in [
            ([1.0, 3.0, 3.0, 2.0], (3.0, 1)),
            ([-0.0, 0.0, -0.0, 0.0], (-0.0, 0)),
            ([f32::NEG_INFINITY; 4], (f32::NEG_INFINITY, 0)),
            ([1.0, f32::NAN, f32::INFINITY, f32::NAN], (f32::NAN, 1)),
        ] {
            let input: Vec<Bf16> = window.iter().flat_map(|v| [Bf16::from_f32(*v); 1024]).collect();
            let (mut output, mut places) = (vec![Bf16::ZERO; 1024], vec![9; 1024]);
            max_pool_forward(&shape, &input, &mut output, &mut places).expect(FITS);
            assert!(output.iter().all(|v| *v == Bf16::from_f32(expected.0)), "{window:?}, {isa}");
            assert!(places.iter().all(|place| *place == expected.1), "{window:?}, {isa}");
        }
    });
}

#[test]
fn nan_stays_in_its_pixel() {
    let dims = [33, 1, 40, 3, 5, 1, 1, 0];
    for activation in ACTIVATIONS {
        let usual = Bf16ActivatedConv::new(dims, activation, 7);
        let mut odd = Bf16ActivatedConv::new(dims, activation, 7);
        odd.layer.conv.input[3 * 1319 + 1] = f32::NAN; // the last pixel of the last image
        on_every_isa(|isa| {
            let [got, usual] = [&odd, &usual].map(|layer| layer.run(&Heap));
            for (at, (got, usual)) in got[0].1.iter().zip(&usual[0].1).enumerate() {
                let fits = if at >= 5 * 1319 { got.is_nan() } else { got.to_bits() == usual.to_bits() };
                assert!(fits, "{activation:?}: {got} instead of {usual} at {at}, {isa}");
            }
            // Of blocks with 32 channels: nothing but the five of that pixel.
            let count = got[3].1.iter().filter(|v| v.is_nan()).count();
            assert_eq!(count, 5, "{activation:?}, {isa}");
            // The filters of the second of three input channels, for all five outputs.
            for (at, got) in got[2].1.iter().enumerate() {
                assert_eq!(got.is_nan(), at / 5 == 1, "{activation:?}: {got} at {at}, {isa}");
            }
        });
    }
}

/// In training a NaN reaches its whole channel, in evaluation only its own value. The values that
/// fill up blocks stay 0.
#[test]
fn nan_stays_in_its_channel() {
    let dims = [3, 2, 2, 5];
    for activation in ACTIVATIONS {
        let usual = Bf16Norm::new(dims, activation, true, 7);
        let mut odd = Bf16Norm::new(dims, activation, true, 7);
        odd.norm.input[27] = f32::NAN; // in channel 2
        on_every_isa(|isa| {
            let check = |output: usize, reached: &dyn Fn(usize) -> bool| {
                let [(name, got), (_, usual)] = [odd.run(&Heap), usual.run(&Heap)].map(|mut o| o.swap_remove(output));
                for (at, (got, usual)) in got.iter().zip(&usual).enumerate() {
                    let fits = if reached(at) { got.is_nan() } else { got.to_bits() == usual.to_bits() };
                    assert!(fits, "{name}, {activation:?}: {got} instead of {usual} at {at}, {isa}");
                }
            };
            check(0, &|at| at % 5 == 2);
            check(1, &|at| at == 27);
            check(5, &|at| at % 5 == 2);
            // The blocks of output and input gradient have 32 channels.
            check(11, &|at| at % 32 == 2 && at / 32 % 32 < 3);
            check(13, &|at| at % 32 == 2 && at / 32 % 32 < 3);
        });
    }
}

#[test]
fn slices_of_the_wrong_length_are_refused() {
    let shape = BlockedShape::new([2, 3, 5, 4]).expect(FITS);
    let (len, none) = (15 * 1024, |len| vec![Bf16::ZERO; len]);
    let (input, scale, shift, residual) = (("input", len), ("scale", 4), ("shift", 4), ("residual", len));
    let with = |[x, s, b, r]: [usize; 4], call: &dyn Fn(&BatchNorm) -> cifar_kernels::Result<()>| {
        let (input, scale, shift, residual) = (none(x), zeros(s), zeros(b), none(r));
        let residual = Some(&*residual);
        let activation = Activation::Relu;
        call(&BatchNorm { shape, input: &input, scale: &scale, shift: &shift, residual, activation })
    };
    let lengths = [input, scale, shift, residual, ("output", len)];
    check_lengths("bf16::batch_norm_forward", lengths, |[x, s, b, r, y]| {
        with([x, s, b, r], &|layer| batch_norm_forward(layer, 1e-5, &mut none(y)).map(drop))
    });
    let lengths = [input, scale, shift, residual, ("running_mean", 4), ("running_variance", 4), ("output", len)];
    check_lengths("bf16::batch_norm_evaluate", lengths, |[x, s, b, r, mean, variance, y]| {
        with([x, s, b, r], &|layer| batch_norm_evaluate(layer, &zeros(mean), &zeros(variance), 1e-5, &mut none(y)))
    });
    let lengths = [
        ("output_grad", len),
        ("statistics.mean", 4),
        ("statistics.variance", 4),
        ("statistics.inverse_std", 4),
        ("input_grad", len),
        ("scale_grad", 4),
        ("shift_grad", 4),
        ("residual_grad", len),
    ];
    check_lengths("bf16::batch_norm_backward", lengths, |[dy, mean, variance, inverse, dx, ds, db, dr]| {
        let statistics = BatchStatistics { mean: zeros(mean), variance: zeros(variance), inverse_std: zeros(inverse) };
        with([len, 4, 4, len], &|layer| {
            let ([mut input, mut residual], [mut scale, mut shift]) = ([dx, dr].map(none), [ds, db].map(zeros));
            let (input, residual) = (&mut *input, Some(&mut *residual));
            let gradients = BatchNormGradients { input, scale: &mut scale, shift: &mut shift, residual };
            batch_norm_backward(layer, &statistics, &none(dy), gradients)
        })
    });
    let conv = conv2d([2, 3, 5, 3, 4, 1, 1, 0]).expect(FITS);
    let (image, weight, bias) = (("input", 90), ("weight", 12), ("bias", 4));
    let relu = Activation::Relu;
    check_lengths("bf16::conv2d_activation_forward", [image, weight, bias, ("output", len)], |[x, w, b, y]| {
        conv2d_activation_forward(&conv, &zeros(x), &zeros(w), &zeros(b), relu, &mut none(y))
    });
    let lengths = [image, weight, bias, ("output_grad", len), ("bias_grad", 4)];
    check_lengths("bf16::conv2d_activation_bias_gradient", lengths, |[x, w, b, dy, db]| {
        let [x, w, b, mut db] = [x, w, b, db].map(zeros);
        conv2d_activation_bias_gradient(&conv, &x, &w, &b, relu, &none(dy), &mut db)
    });
    let lengths = [image, ("output_grad", len), ("weight_grad", 12)];
    check_lengths("bf16::conv2d_weight_gradient_f32", lengths, |[x, dy, dw]| {
        conv2d_weight_gradient_f32(&conv, &zeros(x), &none(dy), &mut zeros(dw))
    });
    let pool = pool_shape([2, 3, 5, 4, 2, 2]).expect(FITS);
    let (small, output) = (2 * 1024, ("output", 2 * 1024));
    check_lengths("bf16::max_pool_forward", [input, output, ("places", small)], |[x, y, at]| {
        max_pool_forward(&pool, &none(x), &mut none(y), &mut vec![0; at])
    });
    let lengths = [("places", small), ("output_grad", small), ("input_grad", len)];
    check_lengths("bf16::max_pool_backward", lengths, |[at, dy, dx]| {
        max_pool_backward(&pool, &vec![3; at], &none(dy), &mut none(dx))
    });
    check_lengths("bf16::average_pool_forward", [input, output], |[x, y]| {
        average_pool_forward(&pool, &none(x), &mut none(y))
    });
    check_lengths("bf16::average_pool_backward", [("output_grad", small), ("input_grad", len)], |[dy, dx]| {
        average_pool_backward(&pool, &none(dy), &mut none(dx))
    });
    check_lengths("bf16::activation_forward", [("output", 3)], |[y]| activation_forward(relu, &none(3), &mut none(y)));
    check_lengths("bf16::activation_backward", [("output_grad", 3), ("input_grad", 3)], |[dy, dx]| {
        activation_backward(relu, &none(3), &none(dy), &mut none(dx))
    });
}

#[test]
fn values_out_of_range_are_refused() {
    let shape = BlockedShape::new([1, 1, 1, 1]).expect(FITS);
    let (input, activation) = (vec![Bf16::ZERO; 1024], Activation::Relu);
    let layer = BatchNorm { shape, input: &input, scale: &[1.0], shift: &[0.0], residual: None, activation };
    refused(
        batch_norm_forward(&layer, 0.0, &mut vec![Bf16::ZERO; 1024]).map(drop),
        "bf16::batch_norm_forward: `epsilon` is 0, allowed is a finite number above 0",
    );
    let pool = pool_shape([1, 2, 2, 1, 2, 2]).expect(FITS);
    refused(
        max_pool_backward(&pool, &[4; 1024], &vec![Bf16::ZERO; 1024], &mut vec![Bf16::ZERO; 4096]),
        "bf16::max_pool_backward: `places` is 4, allowed is a position in the window, counted from 0",
    );
    refused(activation_forward(activation, &[], &mut []), "bf16::activation_forward: [0] has a dimension of 0");
}

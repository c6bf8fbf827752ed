//! Convolutions in bf16 with 2×2 max pooling: they return the bits of the convolution and the
//! pooling one after the other, on every ISA.

use crate::common;

use cifar_kernels::bf16::{
    Bf16, conv2d_backward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient,
};
use common::kernels::{Bf16Conv, Bf16PooledConv, Heap};
use common::refuse::{check as refused, check_lengths, kept, zeros};
use common::{BF16_CONVS, bits, conv2d, on_every_isa};
use proptest::prelude::*;

const FITS: &str = "the shape is a valid one";

/// As [`BF16_CONVS`], with larger images, and rows and columns that fill no window.
const SHAPES: &[[usize; 8]] = &[
    [1, 31, 31, 3, 24, 3, 1, 1],
    [33, 15, 14, 3, 31, 3, 1, 1],
    [2, 15, 15, 24, 65, 3, 1, 1],
    [65, 7, 7, 33, 24, 3, 1, 1],
    [97, 3, 3, 3, 33, 3, 1, 1], // one window, in four partial sums of the weight gradient
    [33, 2, 3, 24, 3, 1, 1, 0],
    [2, 31, 29, 24, 3, 3, 2, 1],
    [2, 9, 6, 3, 5, 5, 3, 2],
    [300, 2, 2, 1, 1, 1, 1, 0], // more groups of images than the gradient is expanded for at once
];

fn check(dims: [usize; 8], conv: &Bf16PooledConv) {
    on_every_isa(|isa| {
        for ((name, got), (_, expected)) in conv.run(&Heap).iter().zip(conv.run_apart(&Heap)) {
            assert!(bits(got) == bits(&expected), "{name} {dims:?}: other bits than in two passes, {isa}");
        }
    });
}

#[test]
fn difficult_shapes() {
    let mut count = 0;
    for (seed, dims) in SHAPES.iter().chain(BF16_CONVS).enumerate() {
        if let Some(conv) = Bf16PooledConv::new(*dims, seed as u64) {
            check(*dims, &conv);
            count += 1;
        }
    }
    assert!(count > SHAPES.len(), "every shape above has windows");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_shapes(
        (n, c, o) in (1..40_usize, 1..40_usize, 1..40_usize),
        (h, w, kernel) in (1..9_usize, 1..9_usize, 1..4_usize),
        (stride, padding, seed) in (1..3_usize, 0..3_usize, 0..u64::from(u32::MAX)),
    ) {
        let padding = if h.min(w) + 2 * padding < kernel { kernel } else { padding };
        let dims = [n, h, w, c, o, kernel, stride, padding];
        if let Some(conv) = Bf16PooledConv::new(dims, seed) {
            check(dims, &conv);
        }
    }
}

/// Small integers, so that most windows have equal maxima; and values that are not finite.
#[test]
fn equal_maxima_nan_and_infinity() {
    let dims = [33, 7, 5, 3, 5, 3, 1, 1];
    for odd in [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut conv = Bf16PooledConv::new(dims, 3).expect(FITS);
        for values in [&mut conv.conv.input, &mut conv.conv.weight, &mut conv.output_grad] {
            for v in &mut *values {
                *v = v.round();
            }
            // Also in images that are alone in their group.
            for at in (7..values.len()).step_by(401) {
                values[at] = odd;
            }
        }
        check(dims, &conv);
    }
}

/// Without places, the function returns the bits of the separate gradients.
#[test]
fn both_gradients_without_pooling() {
    let dims = [33, 5, 4, 24, 33, 3, 1, 1];
    let conv = Bf16Conv::new(dims, 2).expect(FITS);
    let (s, weight) = (&conv.shape, &conv.weight);
    let [input, grad] = [(0, &conv.input), (1, &conv.output_grad)].map(|(side, values)| {
        let shape = cifar_kernels::bf16::BlockedShape::new(conv.dims[side]).expect(FITS);
        let mut blocks = vec![Bf16::NAN; shape.len()];
        cifar_kernels::bf16::to_blocked(&shape, values, &mut blocks).expect(FITS);
        blocks
    });
    on_every_isa(|isa| {
        let [mut dx, mut expected_dx] = [(); 2].map(|()| vec![Bf16::NAN; input.len()]);
        let [mut dw, mut expected_dw] = [(); 2].map(|()| vec![f32::NAN; weight.len()]);
        conv2d_backward(s, &input, weight, &grad, None, Some(&mut dx), Some(&mut dw)).expect(FITS);
        conv2d_input_gradient(s, &grad, weight, &mut expected_dx).expect(FITS);
        conv2d_weight_gradient(s, &input, &grad, &mut expected_dw).expect(FITS);
        assert!(dx == expected_dx && bits(&dw) == bits(&expected_dw), "{isa}");
    });
}

#[test]
fn slices_of_the_wrong_length_are_refused() {
    let s = conv2d([2, 5, 4, 2, 4, 3, 1, 1]).expect(FITS);
    let none = |len| vec![Bf16::ZERO; len];
    let (input, weight, maxima) = (("input", 20 * 1024), ("weight", 72), 4 * 1024);
    let lengths = [input, weight, ("output", maxima), ("places", maxima)];
    check_lengths("bf16::conv2d_max_pool_forward", lengths, |[x, w, y, at]| {
        let mut output = vec![Bf16::NAN; y];
        let result = kept(at, |at| conv2d_max_pool_forward(&s, &none(x), &zeros(w), &mut output, at));
        assert!(result.is_ok() || output == vec![Bf16::NAN; y]);
        result
    });
    let gradients = [("input_grad", 20 * 1024), ("weight_grad", 72)];
    let [dx, dw] = gradients;
    let lengths = [input, weight, ("output_grad", maxima), ("places", maxima), dx, dw];
    check_lengths("bf16::conv2d_backward", lengths, |[x, w, dy, at, dx, dw]| {
        let (mut dx, at) = (vec![Bf16::NAN; dx], vec![3; at]);
        let before = dx.clone();
        let (x, w, dy) = (none(x), zeros(w), none(dy));
        let result = kept(dw, |dw| conv2d_backward(&s, &x, &w, &dy, Some(&at), Some(&mut dx), Some(dw)));
        assert!(result.is_ok() || dx == before);
        result
    });
    let lengths = [input, weight, ("output_grad", 20 * 1024), dx, dw];
    check_lengths("bf16::conv2d_backward", lengths, |[x, w, dy, dx, dw]| {
        let (x, w, dy) = (none(x), zeros(w), none(dy));
        kept(dw, |dw| conv2d_backward(&s, &x, &w, &dy, None, Some(&mut none(dx)), Some(dw)))
    });
}

#[test]
fn invalid_places_are_refused() {
    let s = conv2d([1, 2, 2, 1, 1, 1, 1, 0]).expect(FITS);
    let (input, grad) = (vec![Bf16::ZERO; 4096], vec![Bf16::ZERO; 1024]);
    let mut places = vec![3; 1024];
    places[1023] = 4; // also beyond the last image and channel
    let result = kept(1, |dw| conv2d_backward(&s, &input, &[1.0], &grad, Some(&places), None, Some(dw)));
    let expected = "bf16::conv2d_backward: `places` is 4, allowed is a position in the window, counted from 0";
    refused(result, expected);
}

#[test]
fn pooling_needs_two_rows_and_columns() {
    for (h, w) in [(1, 5), (5, 1)] {
        let s = conv2d([1, h, w, 2, 2, 3, 1, 1]).expect(FITS);
        let (x, weight) = (vec![Bf16::ZERO; 5 * 1024], zeros(36));
        let expected = format!("pool: a window of 2 with stride 2 does not fit {h}×{w} pixels (at most 16)");
        refused(conv2d_max_pool_forward(&s, &x, &weight, &mut [], &mut []), &expected);
        refused(conv2d_backward(&s, &x, &weight, &[], Some(&[]), None, None), &expected);
    }
}

/// Without requested gradients nothing is computed, but the lengths of arguments are still checked.
#[test]
fn without_requested_gradients() {
    let s = conv2d([1, 2, 2, 1, 1, 1, 1, 0]).expect(FITS);
    let x = vec![Bf16::ZERO; 4096];
    assert_eq!(conv2d_backward(&s, &x, &[1.0], &x, None, None, None), Ok(()));
    refused(
        conv2d_backward(&s, &x, &[1.0], &x[1..], None, None, None),
        "bf16::conv2d_backward: `output_grad` has 4095 elements, expected 4096",
    );
}

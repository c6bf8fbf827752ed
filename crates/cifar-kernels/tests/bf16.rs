//! Convolutions in bf16 compared with naive loops in f64 on rounded operands, on every ISA.

use crate::common;

use cifar_kernels::bf16::{
    Bf16, BlockedShape, conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient, from_blocked, to_blocked,
};
use cifar_kernels::{Isa, naive, with_isa};
use common::compare::{Expected, compare, rounded_to_bf16};
use common::kernels::{Bf16Conv, Heap, Outputs};
use common::refuse::{check_lengths, kept, zeros};
use common::{BF16_CONVS, bits, conv2d, on_every_isa, widen};
use proptest::prelude::*;

const FITS: &str = "the shape is a valid one";

/// As [`BF16_CONVS`], with larger images.
const SHAPES: &[[usize; 8]] = &[
    [1, 31, 31, 3, 24, 3, 1, 1],
    [2, 31, 29, 24, 3, 3, 2, 1],
    [33, 15, 15, 3, 31, 3, 1, 1],
    [1, 15, 15, 65, 33, 3, 1, 1],
    [33, 7, 7, 24, 33, 3, 2, 1],
    [1, 7, 7, 31, 65, 1, 2, 0],
    [33, 3, 3, 65, 24, 3, 1, 1],
    [33, 3, 3, 24, 31, 1, 1, 0],
    [1, 2, 2, 33, 33, 3, 1, 1],
    [33, 2, 2, 31, 3, 3, 2, 1],
    [70, 1, 1, 65, 10, 1, 1, 0],
    [1, 1, 1, 3, 3, 3, 1, 1], // only the middle of the filter is in the image
    [2, 9, 6, 3, 5, 5, 3, 2],
];

/// Expects sums whose terms add up to `magnitudes` without their signs.
///
/// A term passes at most 16 additions of its chain, the addition of the two chains, one addition
/// per product of blocks and one per partial sum. Each addition rounds by at most 2⁻²⁴ of its
/// result, which is at most the sum of the magnitudes of its terms. So all roundings together are
/// at most `additions` · 2⁻²⁴ of the magnitude. One more covers the squares of 2⁻²⁴. Products are
/// exact.
fn sums(values: Vec<f64>, magnitudes: &[f64], products: usize, parts: usize) -> Expected {
    let additions = (16 + 1 + products + parts + 1) as f64;
    Expected { values, allowed: magnitudes.iter().map(|m| additions / (1 << 24) as f64 * m).collect() }
}

fn narrowed(values: &[f64]) -> Vec<u32> {
    values.iter().map(|v| (*v as f32).to_bits()).collect()
}

/// Checks the outputs and their blocks, which are filled up with 0.
fn check_outputs(conv: &Bf16Conv, dims: [usize; 8], expected: &[Expected], mut outputs: Outputs) {
    let images = [widen(&conv.input), widen(&outputs[0].1), widen(&outputs[1].1)];
    let blocks = outputs.split_off(3);
    for (((name, got), images), shape) in blocks.iter().zip(images).zip([0, 1, 0]) {
        assert!(bits(got) == narrowed(&naive::blocked(conv.dims[shape], &images)), "{name} {dims:?}");
        assert!(images == naive::unblocked(conv.dims[shape], &widen(got)), "{name} {dims:?}");
    }
    compare(&dims, expected, outputs);
}

fn check_conv(dims: [usize; 8], seed: u64) {
    let conv = Bf16Conv::new(dims, seed).expect(FITS);
    let (s, [n, _, _, c, o, kernel, ..]) = (&conv.shape, dims);
    let [values, magnitudes] = [|v: f64| v, f64::abs].map(|f| {
        let [x, w, dy] =
            [&conv.input, &conv.weight, &conv.output_grad].map(|v| widen(v).into_iter().map(f).collect::<Vec<f64>>());
        [
            naive::conv2d_forward(s, &x, &w, None),
            naive::conv2d_input_gradient(s, &dy, &w),
            naive::conv2d_weight_gradient(s, &x, &dy),
        ]
    });
    let [output, input_grad, weight_grad] = values;
    let pixels = n.div_ceil(32) * s.out_height() * s.out_width();
    let expected = [
        rounded_to_bf16(sums(output, &magnitudes[0], kernel * kernel * c.div_ceil(32), 0)),
        rounded_to_bf16(sums(input_grad, &magnitudes[1], kernel * kernel * o.div_ceil(32), 0)),
        sums(weight_grad, &magnitudes[2], pixels, 4),
    ];
    on_every_isa(|_| check_outputs(&conv, dims, &expected, conv.run(&Heap)));
}

#[test]
fn convolutions_on_difficult_shapes() {
    for (seed, dims) in SHAPES.iter().chain(BF16_CONVS).enumerate() {
        check_conv(*dims, seed as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_on_random_shapes(
        (n, c, o) in (1..40_usize, 1..40_usize, 1..40_usize),
        (h, w, kernel) in (1..7_usize, 1..7_usize, 1..4_usize),
        (stride, padding, seed) in (1..4_usize, 0..3_usize, 0..u64::MAX),
    ) {
        let padding = if h.min(w) + 2 * padding < kernel { kernel } else { padding };
        check_conv([n, h, w, c, o, kernel, stride, padding], seed);
    }
}

/// ⟨dy, conv x⟩ = ⟨dx, x⟩ = ⟨dw, w⟩. All numbers are −1, 0 or 1, so every sum of up to 256 products
/// is exact in bf16, and the three are equal.
#[test]
fn gradients_are_adjoint_to_the_forward_pass() {
    for dims in [
        [33, 7, 7, 28, 28, 3, 1, 1],
        [3, 9, 6, 28, 24, 3, 2, 1],
        [34, 3, 3, 65, 33, 1, 1, 0],
        [2, 5, 4, 3, 65, 1, 2, 0],
        [2, 8, 5, 10, 8, 5, 2, 2],
    ] {
        let mut conv = Bf16Conv::new(dims, 4).expect(FITS);
        for values in [&mut conv.input, &mut conv.weight, &mut conv.output_grad] {
            for v in values {
                *v = (1.5 * *v).round();
            }
        }
        on_every_isa(|isa| {
            let outputs = conv.run(&Heap);
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a * b) as i64).sum::<i64>();
            let forward = product(&conv.output_grad, &outputs[0].1);
            assert_eq!(product(&outputs[1].1, &conv.input), forward, "{dims:?}, {isa}");
            assert_eq!(product(&outputs[2].1, &conv.weight), forward, "{dims:?}, {isa}");
            assert_ne!(forward, 0, "{dims:?}");
        });
    }
}

/// Also with operands whose products are subnormal or infinite.
#[test]
fn every_isa_returns_the_same_bits() {
    for (dims, scale) in [(BF16_CONVS[2], 1.0), (BF16_CONVS[3], 1e-19), (BF16_CONVS[4], 1e-38), (SHAPES[6], 1e19)] {
        let mut conv = Bf16Conv::new(dims, 5).expect(FITS);
        for values in [&mut conv.input, &mut conv.weight, &mut conv.output_grad] {
            for v in values {
                *v *= scale;
            }
        }
        let run = || conv.run(&Heap).into_iter().map(|(_, values)| bits(&values)).collect::<Vec<_>>();
        let expected = with_isa(Isa::Portable, run).expect("every processor has the ISA");
        on_every_isa(|isa| assert!(run() == expected, "{dims:?}, scale {scale}, {isa}"));
    }
}

/// A change of the arithmetic or of the order of additions shows here.
#[test]
fn the_bits_are_those_of_every_processor() {
    let conv = Bf16Conv::new([97, 3, 2, 33, 24, 3, 1, 1], 8).expect(FITS);
    on_every_isa(|isa| {
        // FNV-1a over the bits of output and gradients.
        let hashes = conv.run(&Heap).into_iter().take(3).map(|(_, values)| {
            bits(&values)
                .into_iter()
                .flat_map(u32::to_le_bytes)
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        });
        let expected = [0xb866_950f_da59_b9ba, 0xc56f_76b0_f1c1_321d, 0x4aaa_cfd3_5dc2_9ec0];
        assert_eq!(hashes.collect::<Vec<u64>>(), expected, "{isa}");
    });
}

/// An infinite or NaN value reaches what depends on it: its image, the filters of its channel.
/// Everything else, with the values that fill up blocks, keeps its bits.
#[test]
fn nan_and_infinity_stay_in_their_images_and_channels() {
    let dims = [3, 4, 3, 5, 6, 3, 1, 1];
    let usual = Bf16Conv::new(dims, 6).expect(FITS);
    let (image, image_grad) = (usual.input.len() / 3, usual.output_grad.len() / 3);
    // In channel 2 of the second image.
    let at = image + 4 * 5 + 2;
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut with_input = Bf16Conv::new(dims, 6).expect(FITS);
        with_input.input[at] = odd;
        let mut with_gradient = Bf16Conv::new(dims, 6).expect(FITS);
        with_gradient.output_grad[image_grad + 4 * 6 + 2] = odd;
        on_every_isa(|isa| {
            let expected = usual.run(&Heap);
            let check = |output: usize, got: &Outputs, reached: &dyn Fn(usize) -> bool| {
                let (name, values) = &got[output];
                let mut affected = 0;
                for (at, (got, usual)) in values.iter().zip(&expected[output].1).enumerate() {
                    let same = got.to_bits() == usual.to_bits();
                    assert!(same || (reached(at) && !got.is_finite()), "{odd} in {name}: {got} at {at}, {isa}");
                    assert!(!got.is_nan() || got.to_bits() == f32::NAN.to_bits(), "{name}: another NaN, {isa}");
                    affected += usize::from(!same);
                }
                assert!(affected > 0, "{odd} does not reach {name}, {isa}");
            };
            let got = with_input.run(&Heap);
            check(0, &got, &|at| at / image_grad == 1);
            check(2, &got, &|at| at / 6 % 5 == 2);
            let got = with_gradient.run(&Heap);
            check(1, &got, &|at| at / image == 1);
            check(2, &got, &|at| at % 6 == 2);
            let blocks = &got[5].1;
            assert_eq!(blocks.iter().filter(|v| !v.is_finite()).count(), 9 * 5, "only values of images, {isa}");
        });
    }
}

#[test]
fn slices_of_the_wrong_length_are_refused() {
    let s = conv2d([2, 3, 5, 2, 4, 3, 1, 1]).expect(FITS);
    let [x, y] = [BlockedShape::of_input(&s), BlockedShape::of_output(&s)].map(|shape| shape.expect(FITS));
    let none = |len| vec![Bf16::ZERO; len];
    let (weight, blocks) = (("weight", 72), 15 * 1024);
    check_lengths("bf16::conv2d_forward", [("input", blocks), weight, ("output", blocks)], |[x, w, y]| {
        let mut output = none(y);
        let result = conv2d_forward(&s, &none(x), &zeros(w), &mut output);
        assert!(output == none(y));
        result
    });
    let lengths = [("output_grad", blocks), weight, ("input_grad", blocks)];
    check_lengths("bf16::conv2d_input_gradient", lengths, |[dy, w, dx]| {
        conv2d_input_gradient(&s, &none(dy), &zeros(w), &mut none(dx))
    });
    let lengths = [("input", blocks), ("output_grad", blocks), ("weight_grad", 72)];
    check_lengths("bf16::conv2d_weight_gradient", lengths, |[x, dy, dw]| {
        kept(dw, |dw| conv2d_weight_gradient(&s, &none(x), &none(dy), dw))
    });
    check_lengths("to_blocked", [("images", 60), ("blocked", blocks)], |[images, blocked]| {
        to_blocked(&x, &zeros(images), &mut none(blocked))
    });
    check_lengths("from_blocked", [("blocked", blocks), ("images", 120)], |[blocked, images]| {
        kept(images, |images| from_blocked(&y, &none(blocked), images))
    });
}

#[test]
fn dimensions_that_cannot_be_counted_are_refused() {
    fn check(dims: [usize; 4], expected: &str) {
        common::refuse::check(BlockedShape::new(dims), &format!("blocked: {expected}"));
    }
    check([0, 1, 1, 1], "[0, 1, 1, 1] has a dimension of 0");
    check([1, 1, 1, 0], "[1, 1, 1, 0] has a dimension of 0");
    let many = usize::MAX / 64;
    check([many, 1, 1, 1], &format!("[{}, 32, 1, 1, 32] has too many elements", many.div_ceil(32)));
    // Nothing of these sizes is allocated.
    let refused = |dims, taps: usize, pixels: usize| {
        let problem = format!("{taps} taps and {pixels} pixels are too many");
        let allowed = "allowed are 65536 taps, and 268435456 pixels · taps";
        let result = conv2d_forward(&conv2d(dims).expect(FITS), &[], &[], &mut []);
        common::refuse::check(result, &format!("bf16::conv2d_forward: {problem}: {allowed}"));
    };
    refused([1, 1 << 17, 1 << 17, 1, 1, 1, 1, 0], 1, 1 << 34);
    refused([1, 1, 1, 1, 1, 257, 1, 128], 257 * 257, 1);
    refused([1, 6000, 6000, 1, 1, 3, 1, 1], 9, 6000 * 6000);
}

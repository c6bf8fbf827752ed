//! Convolutions compared with naive loops in f64, on difficult and random shapes, on every ISA.

use crate::common;

use cifar_kernels::{Activation, max_pool_backward, max_pool_forward, naive};
use common::compare::{Expected, TOLERANCE, check, column_sums, compare, linear, of_the_largest};
use common::kernels::{ActivatedConv, Conv, Heap, Memory, PooledConv};
use common::{ACTIVATIONS, CONVS, WINOGRADS, on_every_isa, widen};
use proptest::prelude::*;

/// Allowed error of Winograd's method, relative to the largest value. The transforms add and
/// subtract numbers of a whole tile, so the error depends on the tile's largest numbers; up to 256
/// numbers are summed at each point. The largest error over these shapes and maps of 16×16 with up
/// to 512 channels is 1.4·10⁻⁵ (AVX-512 and AVX2, whose bits are the same) and 1.3·10⁻⁵ (portable).
/// With up to 65 channels it is 0.9·10⁻⁵. A missing or wrong product causes at least a hundred
/// times the tolerance.
const WINOGRAD: f64 = 2e-5;

const FITS: &str = "the shape is a valid one";

/// Returns whether a convolution is computed by Winograd's method.
fn by_winograd([_, h, w, c, o, kernel, stride, padding]: [usize; 8]) -> bool {
    let two_rows = (h + 2 * padding).min(w + 2 * padding) >= 3 + stride;
    kernel == 3 && stride <= 2 && padding <= 2 && c.min(o) >= 8 && two_rows
}

/// Checks a function that is linear in each argument, computed directly or by Winograd's method.
fn convolved<const N: usize>(
    dims: [usize; 8],
    arguments: [&[f32]; N],
    f: impl Fn([&[f64]; N]) -> Vec<f64>,
) -> Expected {
    if by_winograd(dims) {
        let arguments = arguments.map(widen);
        of_the_largest(WINOGRAD, f(std::array::from_fn(|i| &*arguments[i])))
    } else {
        linear(arguments, f)
    }
}

fn check_conv(dims: [usize; 8], seed: u64) {
    let conv = Conv::new(dims, seed).expect(FITS);
    let Conv { shape: s, out_channels, input, weight, bias, output_grad } = &conv;
    let input_grad = || convolved(dims, [output_grad, weight], |[dy, w]| naive::conv2d_input_gradient(s, dy, w));
    let weight_grad = || convolved(dims, [input, output_grad], |[x, dy]| naive::conv2d_weight_gradient(s, x, dy));
    let expected = [
        convolved(dims, [input, weight, bias], |[x, w, b]| naive::conv2d_forward(s, x, w, Some(b))),
        convolved(dims, [input, weight], |[x, w]| naive::conv2d_forward(s, x, w, None)),
        input_grad(),
        weight_grad(),
        linear([output_grad], |[dy]| column_sums(*out_channels, dy)),
    ];
    check(&dims, &expected, || {
        let mut outputs = conv.run(&Heap);
        // Gradients have the same bits together or alone: the sums are the same, in the same order.
        let together = outputs.split_off(expected.len());
        for (name, values) in together {
            let alone = &outputs[if name.contains("input") { 2 } else { 3 }];
            assert_eq!(values, alone.1, "{name} {dims:?}");
        }
        outputs
    });
}

/// Two values may differ only by rounding, so the true maximum may be at another position.
/// Gradients are therefore compared with those of the kernel's positions, after checking that each
/// of these holds a maximum.
fn check_pooled(dims: [usize; 8], seed: u64) {
    let Some(pooled) = PooledConv::new(dims, seed) else { return };
    let PooledConv { conv, pool, output_grad } = &pooled;
    let Conv { shape: s, out_channels, input, weight, .. } = conv;
    let full = convolved(dims, [input, weight], |[x, w]| naive::conv2d_forward(s, x, w, None));
    // Returns the element of the full map at `place` in the window at `at`.
    let element = |at: usize, place: usize| {
        let (pixel, channel) = (at / out_channels, at % out_channels);
        let (row, column) = (pixel / pool.out_width(), pixel % pool.out_width());
        let (image, row) = (row / pool.out_height(), row % pool.out_height());
        let (row, column) = (2 * row + place / 2, 2 * column + place % 2);
        ((image * s.out_height() + row) * s.out_width() + column) * out_channels + channel
    };
    let mut known: Option<(Vec<u8>, [Expected; 2])> = None;
    on_every_isa(|_| {
        let (maxima, places) = pooled.forward(&Heap, input, weight);
        for (at, (maximum, place)) in maxima.iter().zip(&places).enumerate() {
            let chosen = element(at, usize::from(*place));
            for other in (0..4).map(|place| element(at, place)) {
                let least = full.values[other] - full.allowed[other] - full.allowed[chosen];
                assert!(full.values[chosen] >= least, "{dims:?}: place {place} holds no maximum at {at}");
            }
            let error = (f64::from(*maximum) - full.values[chosen]).abs();
            assert!(error <= full.allowed[chosen], "{dims:?}: {maximum} instead of {} at {at}", full.values[chosen]);
        }
        let (_, expected) = match known.take() {
            Some(known) if known.0 == places => known,
            _ => {
                let unpooled = |dy: &[f64]| naive::max_pool_backward(pool, &places, dy);
                let input_grad =
                    convolved(dims, [output_grad, weight], |[dy, w]| naive::conv2d_input_gradient(s, &unpooled(dy), w));
                let weight_grad =
                    convolved(dims, [input, output_grad], |[x, dy]| naive::conv2d_weight_gradient(s, x, &unpooled(dy)));
                (places.clone(), [input_grad, weight_grad])
            }
        };
        let mut gradients = pooled.run(&Heap).split_off(2);
        let alone = gradients.split_off(2);
        for ((name, alone), (_, together)) in alone.iter().zip(&gradients) {
            assert_eq!(alone, together, "{name} {dims:?}");
        }
        compare(&dims, &expected, gradients);
        known = Some((places, expected));
    });
}

/// A direct convolution fused with max pooling has the same bits as the two in sequence.
fn check_pooled_directly(dims: [usize; 8], seed: u64) {
    let Some(pooled) = PooledConv::new(dims, seed) else { return };
    let PooledConv { conv, pool, output_grad } = &pooled;
    let len = pool.output_len();
    on_every_isa(|_| {
        let full = conv.run(&Heap).swap_remove(1).1;
        let mut expected = (vec![f32::NAN; len], vec![u8::MAX; len]);
        max_pool_forward(pool, &full, &mut expected.0, &mut expected.1).expect(FITS);
        assert_eq!(pooled.forward(&Heap, &conv.input, &conv.weight), expected, "{dims:?}");

        let dy = Heap.made(full.len(), |dy| max_pool_backward(pool, &expected.1, output_grad, dy));
        let [dx, dw, ..] = conv.backward(&Heap, &conv.input, &conv.weight, &dy, None);
        let gradients = pooled.run(&Heap).split_off(2);
        assert_eq!((&gradients[0].1, &gradients[1].1), (&dx, &dw), "{dims:?}");
    });
}

fn check_activated(dims: [usize; 8], activation: Activation, seed: u64) {
    let activated = ActivatedConv::new(dims, activation, seed);
    check(&dims, &activated.expected([TOLERANCE; 2]), || activated.run(&Heap));
}

#[test]
fn direct() {
    for dims in CONVS {
        check_conv(*dims, 1);
        check_pooled(*dims, 1);
        if !by_winograd(*dims) {
            check_pooled_directly(*dims, 1);
        }
    }
}

#[test]
fn with_an_activation() {
    for dims in CONVS {
        for activation in ACTIVATIONS {
            check_activated(*dims, activation, 2);
        }
    }
}

#[test]
fn by_winograds_method() {
    for dims in WINOGRADS {
        assert!(by_winograd(*dims), "{dims:?} is not computed by Winograd's method");
        check_conv(*dims, 3);
        check_pooled(*dims, 3);
    }
}

/// As many channels as in the last layers of networks.
#[test]
fn by_winograds_method_with_many_channels() {
    for dims in [[2, 8, 8, 256, 256, 3, 1, 1], [1, 7, 7, 128, 256, 3, 1, 1], [3, 3, 3, 256, 128, 3, 1, 1]] {
        check_conv(dims, 4);
        check_pooled(dims, 4);
    }
}

/// The maps of images of 64×64 and 96×96 pixels, in the first layers of networks.
#[test]
fn large_maps() {
    let winograd = [
        [2, 64, 64, 8, 9, 3, 1, 1],
        [1, 96, 96, 9, 16, 3, 1, 1],
        [1, 95, 95, 8, 8, 3, 1, 1],
        [1, 96, 96, 8, 8, 3, 2, 1],
    ];
    for dims in winograd {
        assert!(by_winograd(dims), "{dims:?}");
        check_conv(dims, 6);
        check_pooled(dims, 6);
    }
    for dims in [[2, 64, 64, 3, 8, 3, 1, 1], [1, 96, 96, 3, 24, 2, 1, 0], [1, 96, 96, 8, 9, 1, 2, 0]] {
        check_conv(dims, 6);
        check_pooled(dims, 6);
        check_activated(dims, Activation::Gelu, 6);
    }
}

#[test]
fn the_first_of_equal_maxima_counts() {
    for dims in [[2, 7, 8, 3, 5, 3, 1, 1], [2, 7, 8, 9, 17, 3, 1, 1]] {
        let pooled = PooledConv::new(dims, 5).expect(FITS);
        on_every_isa(|_| {
            let (maxima, places) = pooled.forward(&Heap, &pooled.conv.input, &vec![0.0; pooled.conv.weight.len()]);
            assert_eq!((maxima, places), (vec![0.0; pooled.pool.output_len()], vec![0; pooled.pool.output_len()]));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_convolutions(
        [n, h, w] in [1..12_usize, 1..10, 1..10],
        [c, o] in [1..20_usize, 1..20],
        [kernel, stride, padding] in [1..5_usize, 1..4, 0..4],
        which in 0..4_usize,
        seed: u32,
    ) {
        let (dims, seed) = ([n, h, w, c, o, kernel, stride, padding], u64::from(seed));
        prop_assume!(kernel <= h.min(w) + 2 * padding);
        check_conv(dims, seed);
        check_pooled(dims, seed);
        check_activated(dims, ACTIVATIONS[which], seed);
    }

    #[test]
    fn random_convolutions_by_winograds_method(
        [n, h, w] in [1..5_usize, 1..34, 1..34],
        [c, o] in [8..66_usize, 8..66],
        [stride, padding] in [1..3_usize, 0..3],
        seed: u32,
    ) {
        let dims = [n, h, w, c, o, 3, stride, padding];
        prop_assume!(by_winograd(dims));
        prop_assume!(n * h * w * c * o <= 500_000);
        check_conv(dims, u64::from(seed));
        check_pooled(dims, u64::from(seed));
    }
}

//! NaN and infinities reach every result that depends on them, but no other image, row or channel.
//! On every ISA.

use crate::common;

use cifar_kernels::{
    Activation, BatchNorm, activation_forward, adamw_update, average_pool_forward, batch_norm_evaluate,
    batch_norm_forward, conv2d_activation_forward, conv2d_backward, conv2d_forward, linear_forward, max_pool_forward,
    naive, release_buffers, sgd_update, softmax, softmax_cross_entropy,
};
use common::kernels::{Conv, Heap, Linear, Memory, PooledConv, every_kernel};
use common::{ACTIVATIONS, bits, on_every_isa, pool_shape, values, widen};

const FITS: &str = "the shape is a valid one";

const ODD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// Computed directly, and by Winograd's method with full and partial vectors.
const SHAPES: [[usize; 8]; 4] =
    [[3, 7, 6, 3, 5, 3, 1, 1], [3, 7, 6, 8, 5, 2, 2, 0], [3, 7, 9, 9, 17, 3, 1, 1], [3, 6, 11, 16, 16, 3, 1, 0]];

/// Checks that `got` is not finite where `expected` is not, and has the bits of `usual` where
/// `untouched` is true.
fn check(name: &str, got: &[f32], expected: &[f64], usual: &[f32], untouched: impl Fn(usize) -> bool) {
    assert_eq!(got.len(), expected.len(), "{name}");
    assert!(expected.iter().any(|v| !v.is_finite()), "{name}: no expected value is NaN or infinite");
    for (at, ((got, expected), usual)) in got.iter().zip(expected).zip(usual).enumerate() {
        let shows = if expected.is_nan() { got.is_nan() } else { expected.is_finite() || !got.is_finite() };
        assert!(shows, "{name}: {got} instead of {expected} at {at}");
        assert!(!untouched(at) || got.to_bits() == usual.to_bits(), "{name}: {got} instead of {usual} at {at}");
    }
}

/// Winograd's method may spread a NaN over a tile, but not to another image.
#[test]
fn in_an_image() {
    for dims in SHAPES {
        let usual = Conv::new(dims, 1).expect(FITS);
        let (s, image) = (&usual.shape, usual.shape.output_len() / dims[0]);
        for odd in ODD {
            let mut conv = Conv::new(dims, 1).expect(FITS);
            // In the middle of the second image.
            let at = conv.input.len() / 2;
            conv.input[at] = odd;
            let expected = naive::conv2d_forward(s, &widen(&conv.input), &widen(&conv.weight), None);
            let elsewhere = |at: usize| at / image != 1;
            on_every_isa(|isa| {
                let forward = |x: &[f32]| Heap.made(s.output_len(), |y| conv2d_forward(s, x, &usual.weight, None, y));
                let name = format!("{odd} in conv2d_forward {dims:?}, {isa}");
                check(&name, &forward(&conv.input), &expected, &forward(&usual.input), elsewhere);

                let activated = |x: &[f32]| {
                    let (bias, relu) = (vec![0.0; dims[4]], Activation::Relu);
                    Heap.made(s.output_len(), |y| conv2d_activation_forward(s, x, &usual.weight, &bias, relu, y))
                };
                let rectified = naive::activation_forward(Activation::Relu, &expected);
                let name = format!("{odd} in conv2d_activation_forward {dims:?}, {isa}");
                check(&name, &activated(&conv.input), &rectified, &activated(&usual.input), elsewhere);
            });
        }
    }
}

#[test]
fn in_fused_max_pooling() {
    for dims in SHAPES {
        let usual = PooledConv::new(dims, 1).expect(FITS);
        let mut input = usual.conv.input.clone();
        let at = input.len() / 2;
        input[at] = f32::NAN;
        let (s, weight) = (&usual.conv.shape, &usual.conv.weight);
        let full = naive::conv2d_forward(s, &widen(&input), &widen(weight), None);
        // Every window that contains a NaN has it as its maximum. The sum of a window contains it
        // too.
        let expected = naive::average_pool_forward(&usual.pool, &full);
        let image = expected.len() / dims[0];
        on_every_isa(|isa| {
            let (maxima, places) = usual.forward(&Heap, &input, weight);
            let (usual_maxima, usual_places) = usual.forward(&Heap, &usual.conv.input, weight);
            let name = format!("conv2d_max_pool_forward {dims:?}, {isa}");
            check(&name, &maxima, &expected, &usual_maxima, |at| at / image != 1);
            for (at, (place, usual)) in places.iter().zip(&usual_places).enumerate() {
                assert!(*place < 4 && (at / image == 1 || place == usual), "{name}: place {place} at {at}");
            }
        });
    }
}

#[test]
fn in_filters() {
    for dims in SHAPES {
        let Conv { shape: s, out_channels, input, weight, .. } = Conv::new(dims, 1).expect(FITS);
        let mut odd = weight.clone();
        // In the last output channel.
        odd[weight.len() / out_channels / 2 * out_channels + out_channels - 1] = f32::NAN;
        let expected = naive::conv2d_forward(&s, &widen(&input), &widen(&odd), None);
        on_every_isa(|isa| {
            let forward = |w: &[f32]| Heap.made(s.output_len(), |y| conv2d_forward(&s, &input, w, None, y));
            let name = format!("a filter of conv2d_forward {dims:?}, {isa}");
            check(&name, &forward(&odd), &expected, &forward(&weight), |at| at % out_channels != out_channels - 1);
        });
    }
}

#[test]
fn in_gradients() {
    for dims in SHAPES {
        let Conv { shape: s, out_channels, input, weight, output_grad, .. } = Conv::new(dims, 1).expect(FITS);
        let image = input.len() / dims[0];
        for value in ODD {
            let mut odd = output_grad.clone();
            // In the first output channel of the second image.
            odd[(output_grad.len() / 2).next_multiple_of(out_channels)] = value;
            let [x, w, dy] = [&input, &weight, &odd].map(|v| widen(v));
            let (dx, dw) = naive::conv2d_backward(&s, &x, &w, &dy, None);
            on_every_isa(|isa| {
                let backward = |dy: &[f32]| {
                    let mut dw = vec![0.0; weight.len()];
                    let dx = Heap.made(input.len(), |dx| {
                        conv2d_backward(&s, &input, &weight, dy, None, Some(dx), Some(&mut dw))
                    });
                    (dx, dw)
                };
                let (got, usual) = (backward(&odd), backward(&output_grad));
                let name = format!("{value} in conv2d_backward {dims:?}, {isa}");
                check(&name, &got.0, &dx, &usual.0, |at| at / image != 1);
                check(&name, &got.1, &dw, &usual.1, |at| at % out_channels != 0);
            });
        }
    }
}

#[test]
fn in_a_row() {
    let [rows, i, o] = [13, 20, 9];
    let Linear { input, weight, .. } = Linear::new([rows, i, o], 2);
    let mut odd = input.clone();
    odd[7 * i + 3] = f32::NAN;
    let expected = naive::linear_forward(rows, i, o, &widen(&odd), &widen(&weight), None);
    let logits = values(3, rows * o);
    let mut odd_logits = logits.clone();
    odd_logits[7 * o + 3] = f32::NAN;
    on_every_isa(|isa| {
        let forward = |x: &[f32]| Heap.made(rows * o, |y| linear_forward(rows, i, o, x, &weight, None, y));
        check(&format!("linear_forward, {isa}"), &forward(&odd), &expected, &forward(&input), |at| at / o != 7);

        let probabilities = |l: &[f32]| Heap.made(rows * o, |p| softmax(rows, o, l, p));
        let row = |at: usize| if at / o == 7 { f64::NAN } else { 0.0 };
        let expected: Vec<f64> = (0..rows * o).map(row).collect();
        let (got, usual) = (probabilities(&odd_logits), probabilities(&logits));
        check("softmax", &got, &expected, &usual, |at| at / o != 7);

        let loss = |l: &[f32]| {
            let mut losses = vec![0.0; rows];
            let gradient =
                Heap.made(rows * o, |g| softmax_cross_entropy(rows, o, l, &[2; 13], None, 0.1, &mut losses, g));
            (losses, gradient)
        };
        let (got, usual) = (loss(&odd_logits), loss(&logits));
        check("softmax_cross_entropy, gradient", &got.1, &expected, &usual.1, |at| at / o != 7);
        let expected: Vec<f64> = (0..rows).map(|row| if row == 7 { f64::NAN } else { 0.0 }).collect();
        check("softmax_cross_entropy", &got.0, &expected, &usual.0, |row| row != 7);
    });
}

/// In training the whole channel is affected, in evaluation only the value itself.
#[test]
fn in_a_channel() {
    let ([rows, c], odd_at) = ([29, 19], 5 * 19 + 17);
    let (input, scale, shift) = (values(4, rows * c), vec![1.0; c], vec![0.5; c]);
    let mut odd = input.clone();
    odd[odd_at] = f32::NAN;
    for activation in ACTIVATIONS {
        let layer =
            |input| BatchNorm { rows, channels: c, input, scale: &scale, shift: &shift, residual: None, activation };
        on_every_isa(|isa| {
            let train = |x| Heap.made(rows * c, |y| batch_norm_forward(&layer(x), 1e-5, y).map(drop));
            let channel = |at: usize| if at % c == 17 { f64::NAN } else { 0.0 };
            let expected: Vec<f64> = (0..rows * c).map(channel).collect();
            let name = format!("batch_norm_forward with {activation:?}, {isa}");
            check(&name, &train(&odd), &expected, &train(&input), |at| at % c != 17);

            let evaluate = |x| Heap.made(rows * c, |y| batch_norm_evaluate(&layer(x), &shift, &scale, 1e-5, y));
            let value = |at: usize| if at == odd_at { f64::NAN } else { 0.0 };
            let expected: Vec<f64> = (0..rows * c).map(value).collect();
            let name = format!("batch_norm_evaluate with {activation:?}, {isa}");
            check(&name, &evaluate(&odd), &expected, &evaluate(&input), |at| at != odd_at);
        });
    }
}

#[test]
fn in_a_value() {
    on_every_isa(|isa| {
        for f in ACTIVATIONS {
            let y = Heap.made(4, |y| activation_forward(f, &[1.0, f32::NAN, f32::INFINITY, -1.0], y));
            assert!(y[1].is_nan() && y[2] == f32::INFINITY && y[3].is_finite(), "{f:?} returns {y:?}, {isa}");
        }
        let gradient = [1.0, f32::NAN, 1.0];
        let ([mut w, mut v], [mut m1, mut m2]) = ([[1.0; 3]; 2], [[0.0; 3]; 2]);
        sgd_update(&mut w, &gradient, &mut v, 0.1, 0.9, true, 0.0).expect(FITS);
        assert_eq!(w.map(f32::is_nan), [false, true, false]);
        let mut w = [1.0; 3];
        adamw_update(&mut w, &gradient, &mut m1, &mut m2, 0.1, [0.9, 0.99], 1e-8, 0.0, 1).expect(FITS);
        assert_eq!(w.map(f32::is_nan), [false, true, false]);
    });
}

#[test]
fn the_first_of_equal_maxima_counts_and_nan_is_largest() {
    fn check(window: [f32; 4], expected: (f32, u8)) {
        let shape = pool_shape([1, 2, 2, 1, 2, 1]).expect(FITS);
        on_every_isa(|_| {
            let (mut output, mut argmax) = ([0.0], [u8::MAX]);
            max_pool_forward(&shape, &window, &mut output, &mut argmax).expect(FITS);
            assert_eq!((output[0].to_bits(), argmax[0]), (expected.0.to_bits(), expected.1), "{window:?}");
            average_pool_forward(&shape, &window, &mut output).expect(FITS);
            let is_finite = window.iter().all(|v| v.is_finite());
            assert_eq!(output[0].is_finite(), is_finite, "{window:?}");
        });
    }
    check([1.0, 3.0, 3.0, 2.0], (3.0, 1));
    check([-2.0, -2.0, -2.0, -2.0], (-2.0, 0));
    check([f32::NEG_INFINITY; 4], (f32::NEG_INFINITY, 0));
    check([1.0, f32::NAN, f32::INFINITY, f32::NAN], (f32::NAN, 1));
    check([f32::NAN, 1.0, 2.0, 3.0], (f32::NAN, 0));
}

/// Kernels reuse memory, which must not be read before it is written.
#[test]
fn results_do_not_depend_on_earlier_calls() {
    on_every_isa(|isa| {
        release_buffers();
        let expected = every_kernel(&Heap);
        for dims in common::CONVS.iter().chain(common::WINOGRADS) {
            let mut conv = Conv::new(*dims, 1).expect(FITS);
            for values in [&mut conv.input, &mut conv.weight, &mut conv.output_grad] {
                values.fill(f32::NAN);
            }
            let outputs = conv.run(&Heap);
            assert!(outputs.iter().flat_map(|(_, values)| values).any(|v| v.is_nan()), "{dims:?} {isa}");
        }
        for ((name, got), (_, expected)) in every_kernel(&Heap).iter().zip(&expected) {
            assert!(bits(got) == bits(expected), "{name}: different bits after a NaN, {isa}");
        }
    });
}

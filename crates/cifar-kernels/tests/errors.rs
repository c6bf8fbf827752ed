//! What does not fit is refused with a message that names it, and nothing panics.

use std::fmt::Debug;

use cifar_kernels::{
    Activation, BatchStatistics, Conv2dShape, PixelView, PoolShape, Result, activation_backward, activation_forward,
    adamw_update, average_pool_backward, average_pool_forward, batch_norm_backward, batch_norm_evaluate,
    batch_norm_forward, bias_gradient, conv2d_activation_bias_gradient, conv2d_activation_forward, conv2d_backward,
    conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient, linear_forward,
    linear_input_gradient, linear_weight_gradient, max_pool_backward, max_pool_forward, normalise_pixels,
    normalise_views, sgd_update, softmax, softmax_cross_entropy,
};

const FITS: &str = "the shape is a valid one";
const RELU: Activation = Activation::Relu;

fn check<T: Debug>(result: Result<T>, expected: &str) {
    assert_eq!(result.expect_err("this does not fit").to_string(), expected);
}

fn zeros(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

/// What `call` returns of a slice that it may write; if it refuses, it must have left the slice as it was.
fn kept<T: Copy + PartialEq + Debug + From<u8>>(len: usize, call: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
    let before = vec![T::from(7_u8); len];
    let mut slice = before.clone();
    let result = call(&mut slice);
    assert!(result.is_ok() || slice == before, "{result:?}, but written");
    result
}

/// `call` takes slices of the given lengths, and refuses each that is one short, one long or empty.
fn check_lengths<const N: usize>(op: &str, arguments: [(&str, usize); N], call: impl Fn([usize; N]) -> Result<()>) {
    let lengths = arguments.map(|(_, len)| len);
    assert_eq!(call(lengths), Ok(()), "{op} takes the right lengths");
    for (i, (name, expected)) in arguments.into_iter().enumerate() {
        for found in [expected - 1, expected + 1, 0] {
            let mut lengths = lengths;
            lengths[i] = found;
            check(call(lengths), &format!("{op}: `{name}` has {found} elements, expected {expected}"));
        }
    }
}

#[test]
fn lengths_of_convolutions() {
    let s = Conv2dShape::new(2, 3, 5, 2, 4, 3, 1, 1).expect(FITS);
    let (input, weight, output) = (("input", 60), ("weight", 72), ("output", 120));
    check_lengths("conv2d_forward", [input, weight, output, ("bias", 4)], |[x, w, y, b]| {
        kept(y, |y| conv2d_forward(&s, &zeros(x), &zeros(w), Some(&zeros(b)), y))
    });
    check_lengths("conv2d_input_gradient", [("output_grad", 120), weight, ("input_grad", 60)], |[dy, w, dx]| {
        kept(dx, |dx| conv2d_input_gradient(&s, &zeros(dy), &zeros(w), dx))
    });
    check_lengths("conv2d_weight_gradient", [input, ("output_grad", 120), ("weight_grad", 72)], |[x, dy, dw]| {
        kept(dw, |dw| conv2d_weight_gradient(&s, &zeros(x), &zeros(dy), dw))
    });
    check_lengths("bias_gradient", [("output_grad", 120), ("bias_grad", 4)], |[dy, db]| {
        kept(db, |db| bias_gradient(30, 4, &zeros(dy), db))
    });
}

/// Computed directly, and by Winograd's method.
#[test]
fn lengths_of_fused_convolutions() {
    for (c, o) in [(2, 4), (8, 9)] {
        let s = Conv2dShape::new(2, 3, 5, c, o, 3, 1, 1).expect(FITS);
        let (input, weight, bias) = (("input", 30 * c), ("weight", 9 * c * o), ("bias", o));
        let pooled = [input, weight, ("output", 4 * o), ("places", 4 * o)];
        check_lengths("conv2d_max_pool_forward", pooled, |[x, w, y, at]| {
            kept(y, |y| kept(at, |at| conv2d_max_pool_forward(&s, &zeros(x), &zeros(w), y, at)))
        });
        let grads = [("input_grad", 30 * c), ("weight_grad", 9 * c * o)];
        let arguments = [input, weight, ("output_grad", 30 * o), grads[0], grads[1]];
        check_lengths("conv2d_backward", arguments, |[x, w, dy, dx, dw]| {
            let [x, w, dy] = [x, w, dy].map(zeros);
            kept(dx, |dx| kept(dw, |dw| conv2d_backward(&s, &x, &w, &dy, None, Some(dx), Some(dw))))
        });
        let arguments = [input, weight, ("output_grad", 4 * o), ("places", 4 * o), grads[0], grads[1]];
        check_lengths("conv2d_backward", arguments, |[x, w, dy, at, dx, dw]| {
            let ([x, w, dy], places) = ([x, w, dy].map(zeros), vec![3; at]);
            kept(dx, |dx| kept(dw, |dw| conv2d_backward(&s, &x, &w, &dy, Some(&places), Some(dx), Some(dw))))
        });
        let arguments = [input, weight, bias, ("output", 30 * o)];
        check_lengths("conv2d_activation_forward", arguments, |[x, w, b, y]| {
            kept(y, |y| conv2d_activation_forward(&s, &zeros(x), &zeros(w), &zeros(b), RELU, y))
        });
        let arguments = [input, weight, bias, ("output_grad", 30 * o), ("bias_grad", o)];
        check_lengths("conv2d_activation_bias_gradient", arguments, |[x, w, b, dy, db]| {
            let [x, w, b, dy] = [x, w, b, dy].map(zeros);
            kept(db, |db| conv2d_activation_bias_gradient(&s, &x, &w, &b, RELU, &dy, db))
        });
    }
}

#[test]
fn maxima_of_squares_need_two_rows_and_columns() {
    for (h, w) in [(1, 5), (5, 1)] {
        let expected = format!("pool: a window of 2 with stride 2 does not fit {h}×{w} pixels (at most 16)");
        for c in [2, 8] {
            let s = Conv2dShape::new(1, h, w, c, c, 3, 1, 1).expect(FITS);
            check(s.pool(), &expected);
            let (x, weight) = (zeros(5 * c), zeros(9 * c * c));
            check(conv2d_max_pool_forward(&s, &x, &weight, &mut [], &mut []), &expected);
            let refused = kept(x.len(), |dx| conv2d_backward(&s, &x, &weight, &[], Some(&[]), Some(dx), None));
            check(refused, &expected);
        }
    }
}

/// Nothing is asked for, and nothing computed; the lengths of what is given still count.
#[test]
fn neither_gradient() {
    let s = Conv2dShape::new(1, 4, 4, 8, 8, 3, 1, 1).expect(FITS);
    let [x, w, dy] = [128, 576, 128].map(zeros);
    assert_eq!(conv2d_backward(&s, &x, &w, &dy, None, None, None), Ok(()));
    check(
        conv2d_backward(&s, &x, &w, &dy[1..], None, None, None),
        "conv2d_backward: `output_grad` has 127 elements, expected 128",
    );
}

#[test]
fn lengths_of_linear_layers() {
    let (input, weight, output) = (("input", 15), ("weight", 35), ("output", 21));
    check_lengths("linear_forward", [input, weight, output, ("bias", 7)], |[x, w, y, b]| {
        kept(y, |y| linear_forward(3, 5, 7, &zeros(x), &zeros(w), Some(&zeros(b)), y))
    });
    check_lengths("linear_input_gradient", [("output_grad", 21), weight, ("input_grad", 15)], |[dy, w, dx]| {
        kept(dx, |dx| linear_input_gradient(3, 5, 7, &zeros(dy), &zeros(w), dx))
    });
    check_lengths("linear_weight_gradient", [input, ("output_grad", 21), ("weight_grad", 35)], |[x, dy, dw]| {
        kept(dw, |dw| linear_weight_gradient(3, 5, 7, &zeros(x), &zeros(dy), dw))
    });
}

#[test]
fn lengths_of_pools() {
    let s = PoolShape::new(2, 5, 7, 3, 2, 2).expect(FITS);
    let (input, output, output_grad, input_grad) =
        (("input", 210), ("output", 36), ("output_grad", 36), ("input_grad", 210));
    check_lengths("max_pool_forward", [input, output, ("argmax", 36)], |[x, y, at]| {
        kept(y, |y| kept(at, |at| max_pool_forward(&s, &zeros(x), y, at)))
    });
    check_lengths("max_pool_backward", [("argmax", 36), output_grad, input_grad], |[at, dy, dx]| {
        kept(dx, |dx| max_pool_backward(&s, &vec![0; at], &zeros(dy), dx))
    });
    check_lengths("average_pool_forward", [input, output], |[x, y]| {
        kept(y, |y| average_pool_forward(&s, &zeros(x), y))
    });
    check_lengths("average_pool_backward", [output_grad, input_grad], |[dy, dx]| {
        kept(dx, |dx| average_pool_backward(&s, &zeros(dy), dx))
    });
}

#[test]
fn lengths_of_batch_norms() {
    let (input, scale, shift, output, residual) =
        (("input", 15), ("scale", 3), ("shift", 3), ("output", 15), ("residual", 15));
    check_lengths("batch_norm_forward", [input, scale, shift, output, residual], |[x, s, b, y, r]| {
        let [x, s, b, r] = [x, s, b, r].map(zeros);
        kept(y, |y| batch_norm_forward(5, 3, &x, &s, &b, 1e-5, RELU, Some(&r), y).map(drop))
    });
    let running = [("running_mean", 3), ("running_variance", 3)];
    let arguments = [input, scale, shift, running[0], running[1], output, residual];
    check_lengths("batch_norm_evaluate", arguments, |[x, s, b, mean, variance, y, r]| {
        let [x, s, b, mean, variance, r] = [x, s, b, mean, variance, r].map(zeros);
        kept(y, |y| batch_norm_evaluate(5, 3, &x, &s, &b, &mean, &variance, 1e-5, RELU, Some(&r), y))
    });
    let arguments = [
        input,
        scale,
        shift,
        ("statistics.mean", 3),
        ("statistics.variance", 3),
        ("statistics.inverse_std", 3),
        residual,
        ("output_grad", 15),
        ("input_grad", 15),
        ("scale_grad", 3),
        ("shift_grad", 3),
        ("residual_grad", 15),
    ];
    check_lengths("batch_norm_backward", arguments, |lengths| {
        let [x, s, b, mean, variance, inverse_std, r, dy, ..] = lengths.map(zeros);
        let statistics = BatchStatistics { mean, variance, inverse_std };
        let [.., dx, ds, db, dr] = lengths;
        let backward = |dx: &mut [f32], ds: &mut [f32], db: &mut [f32], dr: &mut [f32]| {
            batch_norm_backward(5, 3, &x, &s, &b, &statistics, RELU, Some(&r), &dy, dx, ds, db, Some(dr))
        };
        kept(dx, |dx| kept(ds, |ds| kept(db, |db| kept(dr, |dr| backward(dx, ds, db, dr)))))
    });
}

#[test]
fn lengths_of_losses() {
    check_lengths("softmax", [("logits", 21), ("probabilities", 21)], |[l, p]| {
        kept(p, |p| softmax(3, 7, &zeros(l), p))
    });
    let arguments = [("logits", 21), ("labels", 3), ("losses", 3), ("logits_grad", 21)];
    check_lengths("softmax_cross_entropy", arguments, |[l, labels, losses, grad]| {
        kept(losses, |losses| {
            kept(grad, |grad| softmax_cross_entropy(3, 7, &zeros(l), &vec![0; labels], None, 0.1, losses, grad))
        })
    });
}

#[test]
fn lengths_value_by_value() {
    check_lengths("activation_forward", [("output", 5)], |[y]| kept(y, |y| activation_forward(RELU, &zeros(5), y)));
    check_lengths("activation_backward", [("output_grad", 5), ("input_grad", 5)], |[dy, dx]| {
        kept(dx, |dx| activation_backward(RELU, &zeros(5), &zeros(dy), dx))
    });
    check_lengths("sgd_update", [("gradient", 5), ("velocity", 5)], |[g, v]| {
        kept(5, |w| kept(v, |v| sgd_update(w, &zeros(g), v, 0.1, 0.9, true, 0.0)))
    });
    check_lengths("normalise_pixels", [("output", 6), ("mean", 3), ("std", 3)], |[y, mean, std]| {
        kept(y, |y| normalise_pixels(&[0; 6], 3, &zeros(mean), &vec![1.0; std], y))
    });
    let arguments = [("image", 6), ("views", 2), ("output", 12), ("mean", 3), ("std", 3)];
    check_lengths("normalise_views", arguments, |[image, views, y, mean, std]| {
        let (images, views) = ([&[0; 6][..], &vec![0; image]], vec![PixelView::default(); views]);
        kept(y, |y| normalise_views(&images, [1, 2], 3, &views, &zeros(mean), &vec![1.0; std], y))
    });
    let moments = [("gradient", 5), ("first_moment", 5), ("second_moment", 5)];
    check_lengths("adamw_update", moments, |[g, first, second]| {
        let update = |w: &mut [f32], first: &mut [f32], second: &mut [f32]| {
            adamw_update(w, &zeros(g), first, second, 0.1, [0.9, 0.99], 1e-8, 0.0, 1)
        };
        kept(5, |w| kept(first, |first| kept(second, |second| update(w, first, second))))
    });
}

#[test]
fn shapes_of_convolutions() {
    let check = |[n, h, w, c, o, kernel, stride, padding]: [usize; 8], expected: &str| {
        check(Conv2dShape::new(n, h, w, c, o, kernel, stride, padding), &format!("conv2d: {expected}"));
    };
    check([0, 3, 5, 2, 4, 3, 1, 1], "[0, 3, 5, 2] has a dimension of 0");
    check([2, 3, 0, 2, 4, 3, 1, 1], "[2, 3, 0, 2] has a dimension of 0");
    check([2, 3, 5, 2, 0, 3, 1, 1], "[3, 3, 2, 0] has a dimension of 0");
    check([2, 3, 5, 2, 4, 0, 1, 1], "[0, 0, 2, 4] has a dimension of 0");
    check([2, 3, 5, 2, 4, 3, 0, 1], "the stride is 0");
    check([2, 9, 5, 2, 4, 6, 1, 0], "a kernel of 6 does not fit 5 pixels with padding 0");
    check([2, 3, 9, 2, 4, 6, 1, 1], "a kernel of 6 does not fit 3 pixels with padding 1");
    let max = usize::MAX;
    check([max, 2, 1, 1, 1, 1, 1, 0], &format!("[{max}, 2, 1, 1] has too many elements"));
    check([max / 2, 1, 1, 1, 1, 1, 1, 0], &format!("[{}, 1, 1, 1] has too many elements", max / 2));
    check([1, 1, 1, 1, 1, max, 1, 0], &format!("[{max}, {max}, 1, 1] has too many elements"));
    check([1, 1, 1, 1, 1, 1, 1, max], &format!("padding {max} is too large"));
    check([1, 2, 2, 1, 1, 1, 1, max / 2], &format!("padding {} is too large", max / 2));
    check([1, 1, 1, 1, 1, 1, 1, max / 2], &format!("[1, {max}, {max}, 1] has too many elements"));
}

/// Rows are found by 32-bit offsets, which must not wrap. Nothing of these sizes is allocated.
#[test]
fn rows_beyond_the_reach_of_an_offset_are_refused() {
    let too_many = |op: &str, rows: usize, stride: usize| {
        format!(
            "{op}: {rows} rows of {stride} values are too many for one call: the last row may start at most 4294967295 values after the first"
        )
    };
    let side = 1 << 16;
    check(
        linear_weight_gradient(side + 1, side, 1, &[], &[], &mut []),
        &too_many("linear_weight_gradient", side + 1, side),
    );
    // 65,535 · 65,536 fits.
    let expected = format!("linear_weight_gradient: `input` has 0 elements, expected {}", side * side);
    check(linear_weight_gradient(side, side, 1, &[], &[], &mut []), &expected);
    let wide = 1 << 27;
    check(linear_forward(100, wide, 1, &[], &[], None, &mut []), &too_many("linear_forward", 48, wide));
    check(linear_input_gradient(48, 1, wide, &[], &[], &mut []), &too_many("linear_input_gradient", 48, wide));
    let expected = format!("linear_forward: `input` has 0 elements, expected {wide}");
    check(linear_forward(1, wide, 1, &[], &[], None, &mut []), &expected);

    // The windows of a block; its pixels; the rows of a plane.
    let shape = |[n, h, w, c, o, kernel]: [usize; 6]| Conv2dShape::new(n, h, w, c, o, kernel, 1, kernel / 2);
    check(shape([1, 1, 1, wide, 1, 1]), &too_many("conv2d", 48, wide));
    check(shape([1, 1, 1, 1, wide, 1]), &too_many("conv2d", 256, wide));
    let side = 1 << 17;
    check(shape([1, side, side, 8, 8, 3]), &too_many("conv2d", side * side / 16, 32));
    assert!(shape([1, side, side, 7, 8, 3]).is_ok(), "too few channels for planes");
    assert!(shape([1 << 20, 32, 32, 512, 512, 3]).is_ok(), "a large batch is cut into blocks");
}

#[test]
fn operations_are_counted_without_overflow() {
    let flops = |shape: Result<Conv2dShape>| shape.expect(FITS).flops_forward();
    assert_eq!(flops(Conv2dShape::new(2, 5, 7, 3, 4, 3, 1, 1)), 2 * (2 * 5 * 7 * 4) * (3 * 3 * 3));
    assert_eq!(flops(Conv2dShape::new(1 << 28, 1 << 8, 1 << 8, 1 << 10, 1 << 10, 3, 1, 1)), u64::MAX);
}

#[test]
fn a_stride_beyond_the_image_leaves_one_window() {
    let conv = Conv2dShape::new(1, 3, 3, 1, 1, 3, usize::MAX, 1).expect(FITS);
    let mut output = zeros(1);
    assert_eq!(conv2d_forward(&conv, &[1.0; 9], &[1.0; 9], None, &mut output), Ok(()));
    assert_eq!(output, [4.0]);
    let pool = PoolShape::new(1, 3, 3, 1, 2, usize::MAX).expect(FITS);
    assert_eq!(average_pool_forward(&pool, &[1.0; 9], &mut output), Ok(()));
    assert_eq!(output, [1.0]);
}

#[test]
fn shapes_of_pools() {
    let check = |[n, h, w, c, window, stride]: [usize; 6], expected: &str| {
        check(PoolShape::new(n, h, w, c, window, stride), &format!("pool: {expected}"));
    };
    check([0, 5, 7, 3, 2, 2], "[0, 5, 7, 3] has a dimension of 0");
    check([2, 5, 7, 0, 2, 2], "[2, 5, 7, 0] has a dimension of 0");
    check([2, 5, 7, 3, 0, 2], "a window of 0 with stride 2 does not fit 5×7 pixels (at most 16)");
    check([2, 5, 7, 3, 2, 0], "a window of 2 with stride 0 does not fit 5×7 pixels (at most 16)");
    check([2, 5, 7, 3, 6, 2], "a window of 6 with stride 2 does not fit 5×7 pixels (at most 16)");
    check([1, 20, 20, 1, 17, 1], "a window of 17 with stride 1 does not fit 20×20 pixels (at most 16)");
    let max = usize::MAX;
    check([1, max, max, 1, 1, 1], &format!("[1, {max}, {max}, 1] has too many elements"));
}

#[test]
fn dimensions_of_tables() {
    let (max, y) = (usize::MAX, &mut []);
    check(linear_forward(0, 5, 7, &[], &zeros(35), None, y), "linear_forward: [0, 5] has a dimension of 0");
    check(linear_input_gradient(3, 0, 7, &zeros(21), &[], y), "linear_input_gradient: [3, 0] has a dimension of 0");
    check(linear_weight_gradient(3, 5, 0, &zeros(15), &[], y), "linear_weight_gradient: [5, 0] has a dimension of 0");
    check(linear_forward(max, 2, 1, &[], &[], None, y), &format!("linear_forward: [{max}, 2] has too many elements"));
    check(bias_gradient(0, 4, &[], y), "bias_gradient: [0, 4] has a dimension of 0");
    check(bias_gradient(4, 0, &[], y), "bias_gradient: [4, 0] has a dimension of 0");
    check(softmax(0, 10, &[], y), "softmax: [0, 10] has a dimension of 0");
    check(
        softmax_cross_entropy(5, 0, &[], &[0; 5], None, 0.0, &mut zeros(5), y),
        "softmax_cross_entropy: [5, 0] has a dimension of 0",
    );
    check(
        batch_norm_forward(0, 3, &[], &zeros(3), &zeros(3), 1e-5, RELU, None, y),
        "batch_norm_forward: [0, 3] has a dimension of 0",
    );
    check(
        batch_norm_evaluate(3, 0, &[], &[], &[], &[], &[], 1e-5, RELU, None, y),
        "batch_norm_evaluate: [3, 0] has a dimension of 0",
    );
    let statistics = BatchStatistics { mean: zeros(3), variance: zeros(3), inverse_std: zeros(3) };
    let (scale, scale_grad, shift_grad) = (zeros(3), &mut zeros(3), &mut zeros(3));
    check(
        batch_norm_backward(0, 3, &[], &scale, &scale, &statistics, RELU, None, &[], y, scale_grad, shift_grad, None),
        "batch_norm_backward: [0, 3] has a dimension of 0",
    );
    check(activation_forward(RELU, &[], y), "activation_forward: [0] has a dimension of 0");
    check(activation_backward(RELU, &[], &[], y), "activation_backward: [0] has a dimension of 0");
    check(normalise_pixels(&[], 3, &zeros(3), &zeros(3), y), "normalise_pixels: [0, 3] has a dimension of 0");
    check(normalise_pixels(&[0; 3], 0, &[], &[], y), "normalise_pixels: [3, 0] has a dimension of 0");
    check(
        normalise_views(&[], [2, 2], 3, &[], &zeros(3), &[1.0; 3], y),
        "normalise_views: [0, 2, 2, 3] has a dimension of 0",
    );
    check(
        normalise_pixels(&[0; 7], 3, &zeros(3), &[1.0; 3], &mut zeros(7)),
        "normalise_pixels: 7 values are no whole pixels of 3 channels",
    );
}

#[test]
fn numbers_out_of_range() {
    for (epsilon, found) in [(0.0, "0"), (-1e-5, "-0.00001"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let expected = |op: &str| format!("{op}: `epsilon` is {found}, allowed is a finite number above 0");
        let y = &mut zeros(2);
        let forward = batch_norm_forward(2, 1, &[1.0, 2.0], &[1.0], &[0.0], epsilon, RELU, None, y);
        check(forward, &expected("batch_norm_forward"));
        let evaluated = batch_norm_evaluate(2, 1, &[1.0, 2.0], &[1.0], &[0.0], &[0.0], &[1.0], epsilon, RELU, None, y);
        check(evaluated, &expected("batch_norm_evaluate"));
    }
    for (std, found) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let expected = format!("normalise_pixels: `std` is {found}, allowed is a finite number above 0");
        check(normalise_pixels(&[0; 4], 2, &[0.0; 2], &[1.0, std], &mut zeros(4)), &expected);
        let views =
            normalise_views(&[&[0; 4]], [1, 2], 2, &[PixelView::default()], &[0.0; 2], &[1.0, std], &mut zeros(4));
        check(views, &expected.replace("normalise_pixels", "normalise_views"));
    }
    for (down, right, argument, found) in
        [(2, 0, "down", 2), (-2, 0, "down", -2), (0, 3, "right", 3), (0, isize::MIN, "right", isize::MIN)]
    {
        let view = PixelView { down, right, mirrored: false };
        check(
            normalise_views(&[&[0; 6]], [2, 3], 1, &[view], &[0.0], &[1.0], &mut zeros(6)),
            &format!(
                "normalise_views: `{argument}` is {found}, allowed is fewer than the image has, in either direction"
            ),
        );
    }
    for (smoothing, found) in [(1.0, "1"), (-0.1, "-0.1"), (f32::NAN, "NaN")] {
        let expected = format!("softmax_cross_entropy: `smoothing` is {found}, allowed is 0 up to, not including, 1");
        let result = softmax_cross_entropy(1, 2, &zeros(2), &[0], None, smoothing, &mut zeros(1), &mut zeros(2));
        check(result, &expected);
    }
    let pool = PoolShape::new(1, 2, 2, 1, 2, 2).expect(FITS);
    check(
        kept(4, |dx| max_pool_backward(&pool, &[4], &[1.0], dx)),
        "max_pool_backward: `argmax` is 4, allowed is a place in the window",
    );
    for c in [1, 8] {
        let conv = Conv2dShape::new(1, 2, 2, c, c, 3, 1, 1).expect(FITS);
        let ([x, w, dy], mut places) = ([4 * c, 9 * c * c, c].map(zeros), vec![3; c]);
        places[c - 1] = 4;
        check(
            kept(4 * c, |dx| {
                kept(w.len(), |dw| conv2d_backward(&conv, &x, &w, &dy, Some(&places), Some(dx), Some(dw)))
            }),
            "conv2d_backward: `places` is 4, allowed is a place in the window",
        );
    }
    let [w, first, second] = [&mut [1.0], &mut [2.0], &mut [3.0]];
    check(
        adamw_update(w, &[4.0], first, second, 0.1, [0.9, 0.99], 1e-8, 0.0, 0),
        "adamw_update: `step` is 0, allowed is 1 or more",
    );
    assert_eq!([w, first, second], [&[1.0], &[2.0], &[3.0]]);
}

#[test]
fn a_refused_label_leaves_the_outputs_as_they_were() {
    for label in [3, u32::MAX] {
        let (mut losses, mut gradient) = ([7.0; 2], [7.0; 6]);
        check(
            softmax_cross_entropy(2, 3, &zeros(6), &[2, label], None, 0.0, &mut losses, &mut gradient),
            &format!("softmax_cross_entropy: label {label} of row 1 is not below 3"),
        );
        assert_eq!((losses, gradient), ([7.0; 2], [7.0; 6]));
    }
}

#[test]
fn nothing_is_an_update_of_no_weights() {
    assert_eq!(sgd_update(&mut [], &[], &mut [], 0.1, 0.9, true, 0.0), Ok(()));
    assert_eq!(adamw_update(&mut [], &[], &mut [], &mut [], 0.1, [0.9, 0.99], 1e-8, 0.0, 1), Ok(()));
}

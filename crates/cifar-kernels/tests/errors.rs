//! Dimensions and values out of range are refused with a message that names them. Nothing panics.

use crate::common::refuse::{check, kept, norm, zeros};
use crate::common::{conv2d, pool_shape};
use cifar_kernels::{
    Activation, BatchNormGradients, BatchStatistics, Conv2dShape, PixelView, Result, activation_backward,
    activation_forward, adamw_update, average_pool_forward, batch_norm_backward, batch_norm_evaluate,
    batch_norm_forward, bias_gradient, conv2d_backward, conv2d_forward, linear_forward, linear_input_gradient,
    linear_weight_gradient, max_pool_backward, normalise_pixels, normalise_views, sgd_update, softmax,
    softmax_cross_entropy, softmax_cross_entropy_weighted,
};

const FITS: &str = "the shape is valid";
const RELU: Activation = Activation::Relu;

#[test]
fn shapes_of_convolutions() {
    let check = |[n, h, w, c, o, kernel, stride, padding]: [usize; 8], expected: &str| {
        check(conv2d([n, h, w, c, o, kernel, stride, padding]), &format!("conv2d: {expected}"));
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

/// Row offsets have 32 bits and must not wrap. Nothing of these sizes is allocated.
#[test]
fn rows_beyond_the_range_of_an_offset_are_refused() {
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

    // The windows of a block, its pixels, and the rows of a plane.
    let shape = |[n, h, w, c, o, kernel]: [usize; 6]| conv2d([n, h, w, c, o, kernel, 1, kernel / 2]);
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
    assert_eq!(flops(conv2d([2, 5, 7, 3, 4, 3, 1, 1])), 2 * (2 * 5 * 7 * 4) * (3 * 3 * 3));
    assert_eq!(flops(conv2d([1 << 28, 1 << 8, 1 << 8, 1 << 10, 1 << 10, 3, 1, 1])), u64::MAX);
}

#[test]
fn a_stride_beyond_the_image_leaves_one_window() {
    let conv = conv2d([1, 3, 3, 1, 1, 3, usize::MAX, 1]).expect(FITS);
    let mut output = zeros(1);
    assert_eq!(conv2d_forward(&conv, &[1.0; 9], &[1.0; 9], None, &mut output), Ok(()));
    assert_eq!(output, [4.0]);
    let pool = pool_shape([1, 3, 3, 1, 2, usize::MAX]).expect(FITS);
    assert_eq!(average_pool_forward(&pool, &[1.0; 9], &mut output), Ok(()));
    assert_eq!(output, [1.0]);
}

#[test]
fn shapes_of_pools() {
    let check = |[n, h, w, c, window, stride]: [usize; 6], expected: &str| {
        check(pool_shape([n, h, w, c, window, stride]), &format!("pool: {expected}"));
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
        batch_norm_forward(&norm([0, 3], &[], &zeros(3), &zeros(3), None), 1e-5, y),
        "batch_norm_forward: [0, 3] has a dimension of 0",
    );
    check(
        batch_norm_evaluate(&norm([3, 0], &[], &[], &[], None), &[], &[], 1e-5, y),
        "batch_norm_evaluate: [3, 0] has a dimension of 0",
    );
    let statistics = BatchStatistics { mean: zeros(3), variance: zeros(3), inverse_std: zeros(3) };
    let gradients = BatchNormGradients { input: &mut [], scale: &mut zeros(3), shift: &mut zeros(3), residual: None };
    check(
        batch_norm_backward(&norm([0, 3], &[], &zeros(3), &zeros(3), None), &statistics, &[], gradients),
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
        "normalise_pixels: 7 values are not a multiple of 3 channels",
    );
}

#[test]
fn numbers_out_of_range() {
    for (epsilon, found) in [(0.0, "0"), (-1e-5, "-0.00001"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let expected = |op: &str| format!("{op}: `epsilon` is {found}, allowed is a finite number above 0");
        let y = &mut zeros(2);
        let layer = norm([2, 1], &[1.0, 2.0], &[1.0], &[0.0], None);
        let forward = batch_norm_forward(&layer, epsilon, y);
        check(forward, &expected("batch_norm_forward"));
        let evaluated = batch_norm_evaluate(&layer, &[0.0], &[1.0], epsilon, y);
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
    for (weight, found) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let expected = format!("softmax_cross_entropy: `class_weights` is {found}, allowed is a finite number above 0");
        let (loss, grad) = (&mut zeros(1), &mut zeros(2));
        check(softmax_cross_entropy_weighted(1, 2, &zeros(2), &[0], None, 0.0, &[1.0, weight], loss, grad), &expected);
    }
    let pool = pool_shape([1, 2, 2, 1, 2, 2]).expect(FITS);
    check(
        kept(4, |dx| max_pool_backward(&pool, &[4], &[1.0], dx)),
        "max_pool_backward: `argmax` is 4, allowed is a position in the window, counted from 0",
    );
    for c in [1, 8] {
        let conv = conv2d([1, 2, 2, c, c, 3, 1, 1]).expect(FITS);
        let ([x, w, dy], mut places) = ([4 * c, 9 * c * c, c].map(zeros), vec![3; c]);
        places[c - 1] = 4;
        check(
            kept(4 * c, |dx| {
                kept(w.len(), |dw| conv2d_backward(&conv, &x, &w, &dy, Some(&places), Some(dx), Some(dw)))
            }),
            "conv2d_backward: `places` is 4, allowed is a position in the window, counted from 0",
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
fn an_update_of_no_weights_is_allowed() {
    assert_eq!(sgd_update(&mut [], &[], &mut [], 0.1, 0.9, true, 0.0), Ok(()));
    assert_eq!(adamw_update(&mut [], &[], &mut [], &mut [], 0.1, [0.9, 0.99], 1e-8, 0.0, 1), Ok(()));
}

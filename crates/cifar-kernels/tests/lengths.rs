//! Slices of the wrong length are refused with a message that names the slice, and outputs are
//! unchanged.

use crate::common::refuse::{check, check_lengths, kept, norm, zeros};
use crate::common::{conv2d, pool_shape};
use cifar_kernels::{
    Activation, BatchNormGradients, BatchStatistics, PixelView, activation_backward, activation_forward, adamw_update,
    average_pool_backward, average_pool_forward, batch_norm_backward, batch_norm_evaluate, batch_norm_forward,
    batch_norm_max_pool_backward, batch_norm_max_pool_forward, bias_gradient, conv2d_activation_bias_gradient,
    conv2d_activation_forward, conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward,
    conv2d_weight_gradient, linear_forward, linear_input_gradient, linear_weight_gradient, max_pool_backward,
    max_pool_forward, normalise_pixels, normalise_views, sgd_update, softmax, softmax_cross_entropy,
    softmax_cross_entropy_weighted,
};

const FITS: &str = "the shape is valid";
const RELU: Activation = Activation::Relu;

#[test]
fn lengths_of_convolutions() {
    let s = conv2d([2, 3, 5, 2, 4, 3, 1, 1]).expect(FITS);
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

/// Computed directly and by Winograd's method.
#[test]
fn lengths_of_fused_convolutions() {
    for (c, o) in [(2, 4), (8, 9)] {
        let s = conv2d([2, 3, 5, c, o, 3, 1, 1]).expect(FITS);
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
fn fused_pooling_needs_two_rows_and_columns() {
    for (h, w) in [(1, 5), (5, 1)] {
        let expected = format!("pool: a window of 2 with stride 2 does not fit {h}×{w} pixels (at most 16)");
        for c in [2, 8] {
            let s = conv2d([1, h, w, c, c, 3, 1, 1]).expect(FITS);
            check(s.pool(), &expected);
            let (x, weight) = (zeros(5 * c), zeros(9 * c * c));
            check(conv2d_max_pool_forward(&s, &x, &weight, &mut [], &mut []), &expected);
            let refused = kept(x.len(), |dx| conv2d_backward(&s, &x, &weight, &[], Some(&[]), Some(dx), None));
            check(refused, &expected);
        }
    }
}

/// Without requested gradients nothing is computed, but the lengths of arguments are still checked.
#[test]
fn without_requested_gradients() {
    let s = conv2d([1, 4, 4, 8, 8, 3, 1, 1]).expect(FITS);
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
    let s = pool_shape([2, 5, 7, 3, 2, 2]).expect(FITS);
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
        kept(y, |y| batch_norm_forward(&norm([5, 3], &x, &s, &b, Some(&r)), 1e-5, y).map(drop))
    });
    let running = [("running_mean", 3), ("running_variance", 3)];
    let arguments = [input, scale, shift, running[0], running[1], output, residual];
    check_lengths("batch_norm_evaluate", arguments, |[x, s, b, mean, variance, y, r]| {
        let [x, s, b, mean, variance, r] = [x, s, b, mean, variance, r].map(zeros);
        kept(y, |y| batch_norm_evaluate(&norm([5, 3], &x, &s, &b, Some(&r)), &mean, &variance, 1e-5, y))
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
            let gradients = BatchNormGradients { input: dx, scale: ds, shift: db, residual: Some(dr) };
            batch_norm_backward(&norm([5, 3], &x, &s, &b, Some(&r)), &statistics, &dy, gradients)
        };
        kept(dx, |dx| kept(ds, |ds| kept(db, |db| kept(dr, |dr| backward(dx, ds, db, dr)))))
    });
}

#[test]
fn lengths_of_pooled_batch_norms() {
    let shape = pool_shape([2, 2, 3, 3, 2, 2]).expect(FITS);
    let (input, scale, shift, places) = (("input", 36), ("scale", 3), ("shift", 3), ("places", 6));
    let (output, residual) = (("output", 6), ("residual", 36));
    check_lengths("batch_norm_max_pool_forward", [input, scale, shift, output, places, residual], |lengths| {
        let [x, s, b, _, _, r] = lengths.map(zeros);
        let mut places = vec![0; lengths[4]];
        let layer = norm([12, 3], &x, &s, &b, Some(&r));
        kept(lengths[3], |y| batch_norm_max_pool_forward(&layer, &shape, 1e-5, y, &mut places).map(drop))
    });
    let statistics = [("statistics.mean", 3), ("statistics.variance", 3), ("statistics.inverse_std", 3)];
    let [mean, variance, inverse_std] = statistics;
    let given = [input, scale, shift, mean, variance, inverse_std, residual, ("output_grad", 6), places];
    let made = [("input_grad", 36), ("scale_grad", 3), ("shift_grad", 3), ("residual_grad", 36)];
    let arguments: [(&str, usize); 13] = [&given[..], &made].concat().try_into().expect(FITS);
    check_lengths("batch_norm_max_pool_backward", arguments, |lengths| {
        let [x, s, b, mean, variance, inverse_std, r, dy, ..] = lengths.map(zeros);
        let statistics = BatchStatistics { mean, variance, inverse_std };
        let [.., places, dx, ds, db, dr] = lengths;
        let (layer, places) = (norm([12, 3], &x, &s, &b, Some(&r)), vec![0; places]);
        let backward = |dx: &mut [f32], ds: &mut [f32], db: &mut [f32], dr: &mut [f32]| {
            let gradients = BatchNormGradients { input: dx, scale: ds, shift: db, residual: Some(dr) };
            batch_norm_max_pool_backward(&layer, &shape, &statistics, &places, &dy, gradients)
        };
        kept(dx, |dx| kept(ds, |ds| kept(db, |db| kept(dr, |dr| backward(dx, ds, db, dr)))))
    });
}

#[test]
fn poolings_that_do_not_follow_the_batch_norm_are_refused() {
    let (x, one) = (zeros(36), zeros(3));
    let layer = norm([12, 3], &x, &one, &one, None);
    for (dims, problem) in [
        ([2, 2, 3, 3, 2, 1], "a window of 2 and stride 1"), // overlapping windows
        ([2, 3, 3, 2, 2, 2], "36 values of 2 channels"),    // other channels
        ([1, 2, 3, 3, 2, 2], "18 values of 3 channels"),    // another number of values
    ] {
        let shape = pool_shape(dims).expect(FITS);
        let (mut y, mut places) = (zeros(shape.output_len()), vec![0; shape.output_len()]);
        let error = batch_norm_max_pool_forward(&layer, &shape, 1e-5, &mut y, &mut places).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("window and stride must be equal"), "{error}");
    }
    let shape = pool_shape([2, 2, 3, 3, 2, 2]).expect(FITS);
    let statistics = BatchStatistics { mean: zeros(3), variance: zeros(3), inverse_std: zeros(3) };
    let (mut dx, mut ds, mut db) = (zeros(36), zeros(3), zeros(3));
    let gradients = BatchNormGradients { input: &mut dx, scale: &mut ds, shift: &mut db, residual: None };
    let outside = batch_norm_max_pool_backward(&layer, &shape, &statistics, &[0, 1, 2, 3, 4, 0], &zeros(6), gradients);
    assert!(outside.unwrap_err().to_string().contains("places"));
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
fn lengths_of_class_weights() {
    check_lengths("softmax_cross_entropy", [("class_weights", 7)], |[weights]| {
        let (logits, labels, weights) = (zeros(21), vec![0; 3], vec![1.0; weights]);
        kept(21, |grad| {
            softmax_cross_entropy_weighted(3, 7, &logits, &labels, None, 0.1, &weights, &mut zeros(3), grad)
        })
    });
}

#[test]
fn lengths_of_elementwise_kernels() {
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

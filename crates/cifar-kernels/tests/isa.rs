//! The selection of the ISA: by the environment, the process or a closure.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use cifar_kernels::bf16::{self, Bf16, BlockedShape};
use cifar_kernels::{
    Activation, BatchNorm, BatchNormGradients, BatchStatistics, DEPRECATED_ISA_VARIABLE, ISA_VARIABLE, Isa,
    KernelError, PixelView, Result, activation_backward, activation_forward, adamw_update, average_pool_backward,
    average_pool_forward, batch_norm_backward, batch_norm_evaluate, batch_norm_forward, batch_norm_max_pool_backward,
    batch_norm_max_pool_forward, bias_gradient, conv2d_activation_bias_gradient, conv2d_activation_forward,
    conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward, conv2d_weight_gradient, force_isa,
    isa, isa_variable, linear_forward, linear_input_gradient, linear_weight_gradient, max_pool_backward,
    max_pool_forward, normalise_pixels, normalise_views, numeric_target, peak_gflops, sgd_update, softmax,
    softmax_cross_entropy, with_isa,
};
use common::{conv2d, on_every_isa, pool_shape};

/// The variable with the expected result of a test that runs in its own process.
const EXPECTED: &str = "CIFAR_KERNELS_TEST_EXPECTED";

const FITS: &str = "the shape is a valid one";

/// Runs one of the ignored tests below in its own process, since a process selects its ISA once.
fn check(test: &str, variables: &[(&str, &str)], expected: &str) {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env_remove(ISA_VARIABLE)
        .env_remove(DEPRECATED_ISA_VARIABLE)
        .envs(variables.iter().copied())
        .env(EXPECTED, expected);
    let output = command.output().expect("this program can be run again");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test}, {variables:?}: {text}");
}

fn expected() -> String {
    std::env::var(EXPECTED).expect("run by the tests that call `check`")
}

/// Returns the results of all kernels for valid arguments. Convolutions are called twice: computed
/// directly and by Winograd's method.
fn every_result() -> Vec<(&'static str, Result<()>)> {
    const RELU: Activation = Activation::Relu;
    // More values than any argument has.
    let (zeros, ones, places) = (vec![0.0; 1024], vec![1.0; 1024], vec![0; 1024]);
    let ([mut one, mut two, mut three], mut bytes) = ([(); 3].map(|()| vec![0.0; 1024]), vec![0; 1024]);
    let mut results = Vec::new();
    for c in [1, 8] {
        let s = conv2d([1, 2, 2, c, c, 3, 1, 1]).expect(FITS);
        let (map, filters) = (4 * c, 9 * c * c);
        let [x, w, b, dy] = [&zeros[..map], &ones[..filters], &zeros[..c], &ones[..map]];
        results.extend([
            ("conv2d_forward", conv2d_forward(&s, x, w, None, &mut one[..map])),
            ("conv2d_input_gradient", conv2d_input_gradient(&s, dy, w, &mut one[..map])),
            ("conv2d_weight_gradient", conv2d_weight_gradient(&s, x, dy, &mut one[..filters])),
            ("conv2d_max_pool_forward", conv2d_max_pool_forward(&s, x, w, &mut one[..c], &mut bytes[..c])),
            ("conv2d_backward", conv2d_backward(&s, x, w, dy, None, Some(&mut one[..map]), Some(&mut two[..filters]))),
            (
                "conv2d_backward with places",
                conv2d_backward(&s, x, w, &dy[..c], Some(&places[..c]), Some(&mut one[..map]), None),
            ),
            ("conv2d_activation_forward", conv2d_activation_forward(&s, x, w, b, RELU, &mut one[..map])),
            ("conv2d_activation_bias_gradient", conv2d_activation_bias_gradient(&s, x, w, b, RELU, dy, &mut one[..c])),
        ]);
    }
    let pool = pool_shape([1, 2, 2, 1, 2, 2]).expect(FITS);
    let statistics = BatchStatistics { mean: vec![0.0], variance: vec![1.0], inverse_std: vec![1.0] };
    let [x, one_value] = [&zeros[..4], &ones[..1]];
    let (scale, shift) = (one_value, one_value);
    let layer = BatchNorm { rows: 4, channels: 1, input: x, scale, shift, residual: None, activation: RELU };
    results.extend([
        ("bias_gradient", bias_gradient(4, 1, x, &mut one[..1])),
        ("linear_forward", linear_forward(4, 1, 1, x, one_value, None, &mut one[..4])),
        ("linear_input_gradient", linear_input_gradient(4, 1, 1, x, one_value, &mut one[..4])),
        ("linear_weight_gradient", linear_weight_gradient(4, 1, 1, x, x, &mut one[..1])),
        ("max_pool_forward", max_pool_forward(&pool, x, &mut one[..1], &mut bytes[..1])),
        ("max_pool_backward", max_pool_backward(&pool, &places[..1], one_value, &mut one[..4])),
        ("average_pool_forward", average_pool_forward(&pool, x, &mut one[..1])),
        ("average_pool_backward", average_pool_backward(&pool, one_value, &mut one[..4])),
        ("batch_norm_forward", batch_norm_forward(&layer, 1e-5, &mut one[..4]).map(drop)),
        (
            "batch_norm_max_pool_forward",
            batch_norm_max_pool_forward(&layer, &pool, 1e-5, &mut one[..1], &mut bytes[..1]).map(drop),
        ),
        (
            "batch_norm_max_pool_backward",
            batch_norm_max_pool_backward(
                &layer,
                &pool,
                &statistics,
                &places[..1],
                one_value,
                BatchNormGradients {
                    input: &mut one[..4],
                    scale: &mut two[..1],
                    shift: &mut three[..1],
                    residual: None,
                },
            ),
        ),
        ("batch_norm_evaluate", batch_norm_evaluate(&layer, one_value, one_value, 1e-5, &mut one[..4])),
        (
            "batch_norm_backward",
            batch_norm_backward(
                &layer,
                &statistics,
                x,
                BatchNormGradients {
                    input: &mut one[..4],
                    scale: &mut two[..1],
                    shift: &mut three[..1],
                    residual: None,
                },
            ),
        ),
        ("softmax", softmax(2, 2, x, &mut one[..4])),
        ("softmax_cross_entropy", softmax_cross_entropy(2, 2, x, &[0, 1], None, 0.0, &mut one[..2], &mut two[..4])),
        ("activation_forward", activation_forward(RELU, x, &mut one[..4])),
        ("activation_backward", activation_backward(RELU, x, x, &mut one[..4])),
        ("normalise_pixels", normalise_pixels(&places[..4], 1, one_value, one_value, &mut one[..4])),
        (
            "normalise_views",
            normalise_views(&[&places[..4]], [2, 2], 1, &[PixelView::default()], one_value, one_value, &mut one[..4]),
        ),
        ("sgd_update", sgd_update(&mut one[..4], x, &mut two[..4], 0.1, 0.9, true, 0.0)),
        (
            "adamw_update",
            adamw_update(&mut one[..4], x, &mut two[..4], &mut three[..4], 0.1, [0.9, 0.99], 1e-8, 0.0, 1),
        ),
        ("peak_gflops", peak_gflops(1).map(drop)),
        ("bf16::uses_amx", bf16::uses_amx().map(drop)),
        ("ISA", isa().map(drop)),
        ("numeric_target", numeric_target().map(drop)),
    ]);
    results.extend(every_bf16_result());
    results
}

/// As [`every_result`], for the kernels in bf16.
fn every_bf16_result() -> Vec<(&'static str, Result<()>)> {
    const RELU: Activation = Activation::Relu;
    let (conv, pool) = (conv2d([1, 1, 1, 1, 1, 1, 1, 0]).expect(FITS), pool_shape([1, 1, 1, 1, 1, 1]).expect(FITS));
    let of_four = conv2d([1, 2, 2, 1, 1, 1, 1, 0]).expect(FITS);
    let shape = BlockedShape::of_input(&conv).expect(FITS);
    let (x, places, one) = (vec![Bf16::ZERO; shape.len()], vec![0; shape.len()], [1.0]);
    let ([mut y, mut z], mut bytes, [mut scale, mut shift]) = ([x.clone(), x.clone()], places.clone(), [one; 2]);
    let statistics = BatchStatistics { mean: vec![0.0], variance: vec![1.0], inverse_std: vec![1.0] };
    let (input, residual, activation) = (&*x, None, RELU);
    let layer = bf16::BatchNorm { shape, input, scale: &one, shift: &one, residual, activation };
    let (input, residual) = (&mut *z, None);
    let gradients = bf16::BatchNormGradients { input, scale: &mut scale, shift: &mut shift, residual };
    vec![
        ("bf16::to_blocked", bf16::to_blocked(&shape, &one, &mut y)),
        ("bf16::from_blocked", bf16::from_blocked(&shape, &x, &mut [0.0])),
        ("bf16::conv2d_forward", bf16::conv2d_forward(&conv, &x, &one, &mut y)),
        ("bf16::conv2d_input_gradient", bf16::conv2d_input_gradient(&conv, &x, &one, &mut y)),
        (
            "bf16::conv2d_max_pool_forward",
            bf16::conv2d_max_pool_forward(&of_four, &x.repeat(4), &one, &mut y, &mut bytes),
        ),
        ("bf16::conv2d_backward", bf16::conv2d_backward(&conv, &x, &one, &x, None, Some(&mut y), None)),
        ("bf16::conv2d_weight_gradient", bf16::conv2d_weight_gradient(&conv, &x, &x, &mut [0.0])),
        ("bf16::conv2d_activation_forward", bf16::conv2d_activation_forward(&conv, &one, &one, &one, RELU, &mut y)),
        (
            "bf16::conv2d_activation_bias_gradient",
            bf16::conv2d_activation_bias_gradient(&conv, &one, &one, &one, RELU, &x, &mut [0.0]),
        ),
        ("bf16::conv2d_weight_gradient_f32", bf16::conv2d_weight_gradient_f32(&conv, &one, &x, &mut [0.0])),
        ("bf16::batch_norm_forward", bf16::batch_norm_forward(&layer, 1e-5, &mut y).map(drop)),
        ("bf16::batch_norm_evaluate", bf16::batch_norm_evaluate(&layer, &one, &one, 1e-5, &mut y)),
        ("bf16::batch_norm_backward", bf16::batch_norm_backward(&layer, &statistics, &x, gradients)),
        ("bf16::activation_forward", bf16::activation_forward(RELU, &x, &mut y)),
        ("bf16::activation_backward", bf16::activation_backward(RELU, &x, &x, &mut y)),
        ("bf16::max_pool_forward", bf16::max_pool_forward(&pool, &x, &mut y, &mut bytes)),
        ("bf16::max_pool_backward", bf16::max_pool_backward(&pool, &places, &x, &mut y)),
        ("bf16::average_pool_forward", bf16::average_pool_forward(&pool, &x, &mut y)),
        ("bf16::average_pool_backward", bf16::average_pool_backward(&pool, &x, &mut y)),
    ]
}

#[test]
#[ignore = "runs in its own process: the environment's ISA is an error of every kernel"]
fn child_every_kernel_refuses() {
    for (name, result) in every_result() {
        assert_eq!(result, Err(KernelError::Isa { problem: expected() }), "{name}");
    }
    assert_eq!(force_isa(Isa::Portable).map_err(|error| error.to_string()), Err(expected()));
    // A forced ISA does not depend on the environment.
    let inside = with_isa(Isa::Portable, every_result).expect("any processor has this ISA");
    assert!(inside.iter().all(|(_, result)| result.is_ok()), "{inside:?}");
}

#[test]
#[ignore = "runs in its own process: the environment's ISA is used"]
fn child_every_kernel_runs() {
    assert_eq!(isa().map(Isa::name), Ok(&*expected()));
    assert!(numeric_target().expect("there is an ISA").starts_with(&format!("{}, ", expected())));
    for (name, result) in every_result() {
        assert_eq!(result, Ok(()), "{name}");
    }
}

#[test]
#[ignore = "runs in its own process: an ISA is forced, whatever the environment says, and stays"]
fn child_is_forced() {
    let forced: Isa = expected().parse().expect("the name of an ISA");
    assert_eq!(force_isa(forced), Ok(()));
    assert_eq!(force_isa(forced), Ok(()), "forcing it again changes nothing");
    assert_eq!(isa(), Ok(forced));
    assert_eq!(std::thread::spawn(isa).join().expect("no panic"), Ok(forced), "on every thread");
    for other in Isa::available().into_iter().filter(|isa| *isa != forced) {
        let problem = format!("cannot change the ISA to {other}: kernels have already used {forced}");
        assert_eq!(force_isa(other), Err(KernelError::Isa { problem }));
        assert_eq!(isa(), Ok(forced));
    }
}

#[test]
#[ignore = "runs in its own process: an ISA that was used cannot be changed"]
fn child_has_used_an_isa() {
    let used = isa().expect("there is an ISA");
    for other in Isa::available().into_iter().filter(|isa| *isa != used) {
        let problem = format!("cannot change the ISA to {other}: kernels have already used {used}");
        assert_eq!(force_isa(other), Err(KernelError::Isa { problem }));
    }
    assert_eq!(force_isa(used), Ok(()));
}

#[test]
fn the_environment_names_the_isa() {
    check("child_every_kernel_runs", &[], Isa::available()[0].name());
    for isa in Isa::available() {
        check("child_every_kernel_runs", &[(ISA_VARIABLE, isa.name())], isa.name());
    }
}

#[test]
fn every_kernel_refuses_an_isa_that_is_not_available() {
    for name in ["neon", "AVX2", "", "avx2 "] {
        let expected = format!("{ISA_VARIABLE}: found {name:?}, allowed is one of avx512, avx2, portable");
        check("child_every_kernel_refuses", &[(ISA_VARIABLE, name)], &expected);
    }
    for missing in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let expected = format!("{ISA_VARIABLE}: this processor does not support {missing}");
        check("child_every_kernel_refuses", &[(ISA_VARIABLE, missing.name())], &expected);
    }
}

#[test]
#[ignore = "runs in its own process: prints which variable is used"]
fn child_reads_a_variable() {
    let found = match isa_variable() {
        Ok(found) => found.unwrap_or("none").to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected());
}

#[test]
fn the_former_variable_still_works() {
    let (new, old) = (ISA_VARIABLE, DEPRECATED_ISA_VARIABLE);
    check("child_every_kernel_runs", &[(old, "portable")], "portable");
    check("child_every_kernel_runs", &[(old, "portable"), (new, "portable")], "portable");
    check(
        "child_every_kernel_refuses",
        &[(old, "neon")],
        &format!("{old}: found \"neon\", allowed is one of avx512, avx2, portable"),
    );
    check("child_reads_a_variable", &[], "none");
    check("child_reads_a_variable", &[(old, "portable")], old);
    check("child_reads_a_variable", &[(new, "portable")], new);
    check("child_reads_a_variable", &[(old, "portable"), (new, "portable")], new);
}

#[test]
fn two_variables_that_differ_are_an_error_of_every_kernel() {
    let variables = [(ISA_VARIABLE, "portable"), (DEPRECATED_ISA_VARIABLE, "avx2")];
    let expected = "CIFAR_ISA is \"portable\" but its former name CIFAR_KERNELS_ARM is \"avx2\"; set only CIFAR_ISA";
    check("child_every_kernel_refuses", &variables, expected);
    check("child_reads_a_variable", &variables, expected);
}

#[test]
fn an_isa_can_be_forced_only_before_the_first_kernel() {
    for isa in Isa::available() {
        check("child_is_forced", &[], isa.name());
        check("child_is_forced", &[(ISA_VARIABLE, "portable")], isa.name());
        check("child_is_forced", &[(ISA_VARIABLE, "nonsense")], isa.name());
    }
    check("child_has_used_an_isa", &[], "");
}

#[test]
fn forcing_an_unsupported_isa_is_refused() {
    for missing in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let refused = KernelError::Isa { problem: format!("this processor does not support {missing}") };
        assert_eq!(force_isa(missing), Err(refused.clone()));
        assert_eq!(with_isa(missing, || panic!("the closure is not run")), Err::<(), _>(refused));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "the ISAs that tests run on are part of their output")]
fn names_are_parsed_and_printed() {
    let names = |isas: &[Isa]| isas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    eprintln!("ISAs of this processor: {} (of {})", names(&Isa::available()), names(&Isa::ALL));
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
        assert_eq!(isa.to_string(), isa.name());
    }
    assert!(Isa::Portable.is_available());
    assert!(Isa::Avx2.is_available() || !Isa::Avx512.is_available());
}

#[test]
fn with_isa_restores_the_isa_afterwards() {
    let outside = isa();
    on_every_isa(|outer| {
        assert_eq!(isa(), Ok(outer));
        on_every_isa(|inner| assert_eq!(isa(), Ok(inner)));
        assert_eq!(isa(), Ok(outer), "nested closures restore it");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            with_isa(Isa::Portable, || std::panic::resume_unwind(Box::new("on purpose")))
        }));
        assert!(panicked.is_err());
        assert_eq!(isa(), Ok(outer), "even after a panic");
        let elsewhere = std::thread::spawn(isa).join().expect("no panic");
        assert_eq!(elsewhere, outside, "other threads are not affected");
    });
    assert_eq!(isa(), outside);
    assert_eq!(with_isa(Isa::Portable, || 7), Ok(7));
}

#[test]
fn peak_speed_is_measured_on_every_isa() {
    on_every_isa(|isa| {
        let speed = peak_gflops(1).expect("there is an ISA");
        assert!(speed.is_finite() && speed > 0.1, "{isa}: {speed} GFLOP/s");
    });
}

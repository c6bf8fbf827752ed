//! Which arm is used: the environment's, the process's or a closure's.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use cifar_kernels::{
    ARM_VARIABLE, Activation, Arm, BatchStatistics, Conv2dShape, KernelError, PixelView, PoolShape, Result,
    activation_backward, activation_forward, adamw_update, arithmetic, arm, average_pool_backward,
    average_pool_forward, batch_norm_backward, batch_norm_evaluate, batch_norm_forward, bias_gradient,
    conv2d_activation_bias_gradient, conv2d_activation_forward, conv2d_backward, conv2d_forward, conv2d_input_gradient,
    conv2d_max_pool_forward, conv2d_weight_gradient, force_arm, linear_forward, linear_input_gradient,
    linear_weight_gradient, max_pool_backward, max_pool_forward, normalise_pixels, normalise_views, peak_gflops,
    sgd_update, softmax, softmax_cross_entropy, with_arm,
};
use common::on_every_arm;

/// Where a test in a process of its own finds what it should see.
const EXPECTED: &str = "CIFAR_KERNELS_TEST_EXPECTED";

const FITS: &str = "the shape is a valid one";

/// Runs one of the ignored tests below in a process of its own, since a process chooses its arm once.
fn check(test: &str, variable: Option<&str>, expected: &str) {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env_remove(ARM_VARIABLE)
        .env(EXPECTED, expected);
    if let Some(value) = variable {
        command.env(ARM_VARIABLE, value);
    }
    let output = command.output().expect("this program can be run again");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test}, {ARM_VARIABLE} = {variable:?}: {text}");
}

fn expected() -> String {
    std::env::var(EXPECTED).expect("run by the tests that call `check`")
}

/// What every kernel returns of arguments that fit. Convolutions come twice: computed directly, and by Winograd's method.
fn every_result() -> Vec<(&'static str, Result<()>)> {
    const RELU: Activation = Activation::Relu;
    // More values than any argument has.
    let (zeros, ones, places) = (vec![0.0; 1024], vec![1.0; 1024], vec![0; 1024]);
    let ([mut one, mut two, mut three], mut bytes) = ([(); 3].map(|()| vec![0.0; 1024]), vec![0; 1024]);
    let mut results = Vec::new();
    for c in [1, 8] {
        let s = Conv2dShape::new(1, 2, 2, c, c, 3, 1, 1).expect(FITS);
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
    let pool = PoolShape::new(1, 2, 2, 1, 2, 2).expect(FITS);
    let statistics = BatchStatistics { mean: vec![0.0], variance: vec![1.0], inverse_std: vec![1.0] };
    let [x, one_value] = [&zeros[..4], &ones[..1]];
    results.extend([
        ("bias_gradient", bias_gradient(4, 1, x, &mut one[..1])),
        ("linear_forward", linear_forward(4, 1, 1, x, one_value, None, &mut one[..4])),
        ("linear_input_gradient", linear_input_gradient(4, 1, 1, x, one_value, &mut one[..4])),
        ("linear_weight_gradient", linear_weight_gradient(4, 1, 1, x, x, &mut one[..1])),
        ("max_pool_forward", max_pool_forward(&pool, x, &mut one[..1], &mut bytes[..1])),
        ("max_pool_backward", max_pool_backward(&pool, &places[..1], one_value, &mut one[..4])),
        ("average_pool_forward", average_pool_forward(&pool, x, &mut one[..1])),
        ("average_pool_backward", average_pool_backward(&pool, one_value, &mut one[..4])),
        (
            "batch_norm_forward",
            batch_norm_forward(4, 1, x, one_value, one_value, 1e-5, RELU, None, &mut one[..4]).map(drop),
        ),
        (
            "batch_norm_evaluate",
            batch_norm_evaluate(4, 1, x, one_value, one_value, one_value, one_value, 1e-5, RELU, None, &mut one[..4]),
        ),
        (
            "batch_norm_backward",
            batch_norm_backward(
                4,
                1,
                x,
                one_value,
                one_value,
                &statistics,
                RELU,
                None,
                x,
                &mut one[..4],
                &mut two[..1],
                &mut three[..1],
                None,
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
        ("arm", arm().map(drop)),
        ("arithmetic", arithmetic().map(drop)),
    ]);
    results
}

#[test]
#[ignore = "in a process of its own: the environment's arm is an error of every kernel"]
fn child_every_kernel_refuses() {
    for (name, result) in every_result() {
        assert_eq!(result, Err(KernelError::Arm { problem: expected() }), "{name}");
    }
    assert_eq!(force_arm(Arm::Portable).map_err(|error| error.to_string()), Err(expected()));
    // Whoever names an arm does not need the environment.
    let inside = with_arm(Arm::Portable, every_result).expect("any processor has this arm");
    assert!(inside.iter().all(|(_, result)| result.is_ok()), "{inside:?}");
}

#[test]
#[ignore = "in a process of its own: the environment's arm is used"]
fn child_every_kernel_runs() {
    assert_eq!(arm().map(Arm::name), Ok(&*expected()));
    assert!(arithmetic().expect("there is an arm").starts_with(&format!("{}, ", expected())));
    for (name, result) in every_result() {
        assert_eq!(result, Ok(()), "{name}");
    }
}

#[test]
#[ignore = "in a process of its own: an arm is forced, whatever the environment says, and stays"]
fn child_is_forced() {
    let forced: Arm = expected().parse().expect("the name of an arm");
    assert_eq!(force_arm(forced), Ok(()));
    assert_eq!(force_arm(forced), Ok(()), "once more changes nothing");
    assert_eq!(arm(), Ok(forced));
    assert_eq!(std::thread::spawn(arm).join().expect("no panic"), Ok(forced), "on every thread");
    for other in Arm::available().into_iter().filter(|arm| *arm != forced) {
        let problem = format!("cannot change to {other}: kernels have used {forced} already");
        assert_eq!(force_arm(other), Err(KernelError::Arm { problem }));
        assert_eq!(arm(), Ok(forced));
    }
}

#[test]
#[ignore = "in a process of its own: an arm that was used cannot be changed"]
fn child_has_used_an_arm() {
    let used = arm().expect("there is an arm");
    for other in Arm::available().into_iter().filter(|arm| *arm != used) {
        let problem = format!("cannot change to {other}: kernels have used {used} already");
        assert_eq!(force_arm(other), Err(KernelError::Arm { problem }));
    }
    assert_eq!(force_arm(used), Ok(()));
}

#[test]
fn the_environment_names_the_arm() {
    check("child_every_kernel_runs", None, Arm::available()[0].name());
    for arm in Arm::available() {
        check("child_every_kernel_runs", Some(arm.name()), arm.name());
    }
}

#[test]
fn an_arm_that_cannot_be_had_is_an_error_of_every_kernel() {
    for name in ["neon", "AVX2", "", "avx2 "] {
        let expected = format!("{ARM_VARIABLE}: found {name:?}, allowed is one of avx512, avx2, portable");
        check("child_every_kernel_refuses", Some(name), &expected);
    }
    for missing in Arm::ALL.into_iter().filter(|arm| !arm.is_available()) {
        let expected = format!("{ARM_VARIABLE}: this processor has no {missing}");
        check("child_every_kernel_refuses", Some(missing.name()), &expected);
    }
}

#[test]
fn an_arm_is_forced_before_the_first_kernel_only() {
    for arm in Arm::available() {
        check("child_is_forced", None, arm.name());
        check("child_is_forced", Some("portable"), arm.name());
        check("child_is_forced", Some("nonsense"), arm.name());
    }
    check("child_has_used_an_arm", None, "");
}

#[test]
fn an_arm_that_the_processor_lacks_is_refused() {
    for missing in Arm::ALL.into_iter().filter(|arm| !arm.is_available()) {
        let refused = KernelError::Arm { problem: format!("this processor has no {missing}") };
        assert_eq!(force_arm(missing), Err(refused.clone()));
        assert_eq!(with_arm(missing, || panic!("the closure is not run")), Err::<(), _>(refused));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "the arms that tests run on are part of their output")]
fn names_lead_to_arms() {
    let names = |arms: &[Arm]| arms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    eprintln!("arms of this processor: {} (of {})", names(&Arm::available()), names(&Arm::ALL));
    for arm in Arm::ALL {
        assert_eq!(arm.name().parse(), Ok(arm));
        assert_eq!(arm.to_string(), arm.name());
    }
    assert!(Arm::Portable.is_available());
    assert!(Arm::Avx2.is_available() || !Arm::Avx512.is_available());
}

#[test]
fn a_closures_arm_ends_with_it() {
    let outside = arm();
    on_every_arm(|outer| {
        assert_eq!(arm(), Ok(outer));
        on_every_arm(|inner| assert_eq!(arm(), Ok(inner)));
        assert_eq!(arm(), Ok(outer), "nested closures give it back");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            with_arm(Arm::Portable, || std::panic::resume_unwind(Box::new("on purpose")))
        }));
        assert!(panicked.is_err());
        assert_eq!(arm(), Ok(outer), "also by way of a panic");
        let elsewhere = std::thread::spawn(arm).join().expect("no panic");
        assert_eq!(elsewhere, outside, "other threads see nothing of it");
    });
    assert_eq!(arm(), outside);
    assert_eq!(with_arm(Arm::Portable, || 7), Ok(7));
}

#[test]
fn every_arm_has_a_speed() {
    on_every_arm(|arm| {
        let speed = peak_gflops(1).expect("there is an arm");
        assert!(speed.is_finite() && speed > 0.1, "{arm}: {speed} GFLOP/s");
    });
}

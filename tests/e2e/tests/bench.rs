//! `bench`: its figures are present and plausible, and unsupported cases are refused.

use cifar_e2e::{Answer, Project};
use serde_json::Value;

/// Exit status of invalid parameters or usage.
const USAGE: i32 = 2;

/// Parses standard output, which must be one JSON object.
#[track_caller]
fn object(answer: Answer) -> Value {
    let answer = answer.success();
    assert_eq!(answer.stdout.lines().count(), 1, "{answer:?}");
    serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

#[track_caller]
fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[track_caller]
fn positive(object: &Value, names: &[&str]) {
    for name in names {
        assert!(object[*name].as_f64().is_some_and(|value| value > 0.0 && value.is_finite()), "{name}: {object}");
    }
}

#[test]
fn a_training_step_is_measured() {
    let project = Project::new();
    let arguments = ["bench", "train-step", "--architecture", "simple_cnn", "--batch", "4", "--steps", "3"];
    let json = object(project.run(&[&arguments[..], &["--threads", "1", "--isa", "portable", "--json"]].concat()));
    assert_eq!(
        keys(&json),
        [
            "architecture",
            "batch",
            "threads",
            "isa",
            "precision",
            "ms_per_step",
            "ms_min",
            "images_per_s",
            "gflops_direct_equivalent",
            "peak_gflops",
            "peak_rss_mb",
            "loss",
            "page_faults_per_step",
            "warm_up_steps",
        ]
    );
    assert_eq!(json["architecture"], "simple_cnn");
    assert_eq!((&json["batch"], &json["threads"], &json["isa"]), (&4.into(), &1.into(), &"portable".into()));
    positive(
        &json,
        &["ms_per_step", "ms_min", "images_per_s", "gflops_direct_equivalent", "peak_gflops", "warm_up_steps"],
    );
    let number = |name: &str| json[name].as_f64().unwrap();
    assert!(number("ms_min") <= number("ms_per_step"));
    assert!((number("images_per_s") * number("ms_per_step") / 4000.0 - 1.0).abs() < 1e-9);
    // Ten classes: about ln 10 before training.
    assert!((0.1..10.0).contains(&number("loss")), "{json}");
    if cfg!(target_os = "linux") {
        assert!(number("peak_rss_mb") > 1.0 && number("page_faults_per_step") >= 0.0);
    }
    assert_eq!(json["precision"], "f32");
    let in_bf16 = object(project.run(&[&arguments[..], &["--precision", "bf16", "--json"]].concat()));
    assert_eq!(in_bf16["precision"], "bf16");
    assert!((in_bf16["loss"].as_f64().unwrap() / number("loss") - 1.0).abs() < 0.05, "{in_bf16}");
    let words = project.run(&arguments).success();
    for part in ["simple_cnn, batches of 4", "images/s", "s for 50000 images", "% of the peak", "MB at most"] {
        assert!(words.stdout.contains(part) || cfg!(not(target_os = "linux")), "{part:?}: {words:?}");
    }
}

#[test]
fn the_loss_is_the_same_at_any_number_of_threads() {
    let project = Project::new();
    let loss = |threads: &str| {
        object(project.run(&["bench", "train-step", "--batch", "6", "--steps", "2", "--json", "--threads", threads]))
            ["loss"]
            .clone()
    };
    assert_eq!(loss("1"), loss("3"));
}

#[test]
fn inference_kernels_and_decoding_are_measured() {
    let project = Project::new();
    let json = object(project.run(&["bench", "inference", "--batch", "4", "--steps", "2", "--json"]));
    positive(&json, &["ms_per_batch", "ms_min", "images_per_s", "gflops_direct_equivalent", "peak_gflops"]);

    let json = object(project.run(&["bench", "kernels", "--batch", "2", "--json"]));
    let layers = json["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 6, "{json}");
    for (index, layer) in layers.iter().enumerate() {
        for kernel in ["forward", "weight_gradient", "backward"] {
            positive(&layer[kernel], &["ms", "gflops"]);
        }
        assert_eq!(layer["input_gradient"].is_null(), index == 0, "the first layer reads the images");
    }

    let json = object(project.run(&["bench", "decode", "--images", "60", "--rounds", "1", "--json", "--quiet"]));
    assert_eq!(json["images"], 60);
    positive(&json, &["megabytes", "seconds", "images_per_s", "mb_per_s"]);
    assert!(
        project.path(".").read_dir().unwrap().all(|entry| entry.unwrap().file_name() != ".cifar"),
        "no files are left"
    );
}

#[test]
fn unsupported_measurements_are_refused() {
    let project = Project::new();
    for (arguments, parts) in [
        (&["train-step", "--architecture", "alexnet"][..], &["alexnet", "simple_cnn"][..]),
        (&["train-step", "--isa", "neon"], &["neon", "avx512, avx2, portable"]),
        (&["train-step", "--batch", "0"], &["--batch", "0"]),
        (&["inference", "--steps", "0"], &["--steps", "0"]),
        (&["decode", "--images", "60", "--source", "x"], &["--source"]),
    ] {
        project.run(&[&["bench"], arguments].concat()).failure(USAGE, parts);
    }
    project.run(&["bench", "decode", "--source", "nowhere"]).failure(1, &["nowhere"]);
    if cfg!(target_os = "linux") {
        for subject in ["train-step", "inference", "kernels"] {
            let answer = project.run(&["bench", subject, "--batch", "4000000000"]);
            answer.failure(USAGE, &["--batch 4000000000 with simple_cnn needs about", "GB are free"]);
        }
    }
    let mut command = project.command(&cifar_e2e::binary(), &["bench", "inference"]);
    let output = command.env("CIFAR_ISA", "mmx").output().unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: CIFAR_ISA: found \"mmx\", allowed is one of avx512, avx2, portable\n"
    );
}

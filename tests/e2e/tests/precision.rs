//! Mixed precision: a run resumes exactly, and results name the precision.

use std::time::Duration;

use cifar_e2e::tree;

use crate::resume::{kill_after_a_checkpoint, prepared, steps_behind};

/// Exit status of invalid parameters or usage.
const USAGE: i32 = 2;

/// On a processor without AMX its arithmetic is emulated, with the same bits.
#[test]
fn mixed_precision_resumes_exactly_and_results_name_it() {
    let project = prepared();
    for (from, to) in [
        ("architecture: simple_cnn", "architecture: airbench94"),
        ("widths: [16, 16, 32]", "widths: [16, 16, 16]"),
        ("dropout: 0.3", "dropout: 0.0"),
        ("precision: f32", "precision: bf16"),
        ("epochs: 12", "epochs: 4"),
    ] {
        project.edit("params.yaml", from, to);
    }
    let told = project.run(&["train"]).success().stderr;
    assert_eq!(told.matches("precision bf16: ").count(), 1, "{told}");
    let (expected, accuracy) = (tree(&project.path("models/final")), project.json("models/final/metrics.json"));
    std::fs::remove_dir_all(project.path(".cifar/checkpoints")).unwrap();
    for threads in ["1", "2"] {
        kill_after_a_checkpoint(&project, &["--threads", threads, "train", "--checkpoint-every", "0"], Duration::ZERO);
    }
    let last = project.run(&["--threads", "3", "train"]).success();
    assert!(steps_behind(&last.stderr) > 0, "{last:#?}");
    assert!(tree(&project.path("models/final")) == expected, "{accuracy}");
    let model = String::from_utf8_lossy(&project.read("models/final/model.safetensors")).into_owned();
    assert!(model.contains("-linux, bf16") || !cfg!(target_os = "linux"), "the numeric target names the precision");

    // The same parameters in f32 are another run.
    let other = project.run(&["train", "--set", "train.precision=f32"]).success();
    assert_eq!(steps_behind(&other.stderr), 0, "{other:#?}");
    project.run(&["train"]).success();
    project.run(&["evaluate"]).success();
    let of_f32 = project.json("evaluation/test/metrics.json");
    assert!(of_f32.get("precision").is_none(), "{of_f32}");
    project.run(&["evaluate", "--precision", "bf16"]).success();
    let of_bf16 = project.json("evaluation/test/metrics.json");
    assert_eq!(of_bf16["precision"], "bf16");
    let loss = |metrics: &serde_json::Value| metrics["test"]["cross_entropy"].as_f64().unwrap();
    let (a, b) = (loss(&of_f32), loss(&of_bf16));
    assert!(a.to_bits() != b.to_bits() && (a - b).abs() < 0.05 * a, "{a} and {b}");
    let picture = project.path("evaluation/test/plots/reliability.png");
    project.run(&["predict", "--precision", "bf16", picture.to_str().unwrap()]).success();
    project.run(&["evaluate", "--precision", "fp8"]).failure(USAGE, &["allowed is f32, bf16 or auto"]);
    project.run(&["train", "--set", "train.precision=fp8"]).failure(USAGE, &["train.precision", "fp8"]);
}

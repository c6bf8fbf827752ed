//! Exported models in other programs, and the code of docs/python.md.

use std::path::Path;

use cifar_data::prepare::split;
use cifar_data::sources::synthetic::{SyntheticParams, generate};
use cifar_data::splits::SplitParams;
use cifar_data::{Dataset, Silent};
use cifar_e2e::{Project, python, repository};
use cifar_model::{Architecture, ModelParams, TestTimeAugmentation, Views, predict_augmented};
use cifar_train::{TrainParams, fit};
use serde_json::json;

const USAGE: i32 = 2;
const FAILURE: i32 = 1;

const NETWORKS: [(Architecture, &[usize]); 4] = [
    (Architecture::SimpleCnn, &[4, 6, 8]),
    (Architecture::Airbench94, &[6, 8, 12]),
    (Architecture::Airbench96, &[6, 8, 12]),
    (Architecture::ResNet18, &[4, 6, 6, 8]),
];

/// Trains narrow networks for an epoch, so that every tensor differs from its initial value, and
/// writes images and logits for Python.
fn train(project: &Project) {
    let images = generate(&SyntheticParams { count: 150, ..Default::default() }).expect("images").dataset;
    let data = split(&images, &SplitParams::default(), &Silent).expect("three splits").data;
    let test: Dataset = images.filter(|sample| sample.id.0 < 40);
    for (architecture, widths) in NETWORKS {
        let params = ModelParams { widths: widths.to_vec(), ..ModelParams::of(architecture) };
        let recipe = TrainParams { epochs: 1, batch_size: 16, learning_rate: 0.05, ..Default::default() };
        let model = fit(&recipe, &params, &data, 42, &Silent).expect("a trained network").model;
        let name = architecture.name();
        model.save(&project.path(&format!("{name}.safetensors"))).expect("a model file");
        let augmentation = TestTimeAugmentation { views: Views::MirrorShift, fraction: 1.0 };
        let logits = predict_augmented(&model, &test, augmentation, "testing", &Silent).expect("logits");
        for (kind, logits) in [("plain", &logits.plain), ("mirror_shift", &logits.averaged)] {
            let bytes: Vec<u8> = logits.values().iter().flat_map(|v| v.to_le_bytes()).collect();
            project.write(&format!("{name}.{kind}.logits"), &bytes);
        }
    }
    project.write("images.bytes", test.pixels());
    let expected = json!({
        "networks": NETWORKS.map(|(architecture, _)| architecture.name()),
        "classes": test.classes(),
        "shape": [test.len(), test.size().height, test.size().width, 3],
    });
    project.write("expected.json", expected.to_string().as_bytes());
}

/// Runs a script of tests/e2e/python in the project.
#[track_caller]
fn check(project: &Project, python: &Path, script: &str) {
    let script = repository().join("tests/e2e/python").join(script);
    project.call(python, &[script.to_str().expect("a path in UTF-8"), "."]).success();
}

#[test]
fn exported_networks_have_the_same_logits() {
    let project = Project::new();
    train(&project);
    for (architecture, _) in NETWORKS {
        let name = architecture.name();
        let model = format!("{name}.safetensors");
        let export = |arguments: &[&str]| project.run(&[&["export", "--model", &model], arguments].concat()).success();
        let output = format!("{name}.uint8.onnx");
        let said = export(&["--output", &output]);
        assert_eq!(
            said.stdout,
            format!(
                "{output}: ONNX, opset 17, input images uint8 [batch, 32, 32, 3], output logits float32 [batch, 10]\n"
            )
        );
        export(&["--input", "float", "-o", &format!("{name}.float.onnx")]);
        export(&["--tta", "mirror_shift", "-o", &format!("{name}.mirror_shift.onnx")]);
        export(&["--format", "pytorch", "-o", &format!("{name}.pytorch")]);
    }
    if let Some(python) = python() {
        check(&project, &python, "exports.py");
    }
    // The packages for this one are large: a Python with torch, safetensors and NumPy.
    if let Some(python) = std::env::var_os("CIFAR_TORCH") {
        check(&project, Path::new(&python), "torch_exports.py");
    }
}

#[test]
fn exports_know_the_recipe_of_the_project_and_make_a_card() {
    let project = Project::finished();
    let before = cifar_e2e::tree(&project.path("models"));
    let said = project.run(&["--json", "export"]).success();
    let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&said["path"], &said["opset"]), (&json!("export/model.onnx"), &json!(17)));
    let onnx = String::from_utf8_lossy(&project.read("export/model.onnx")).into_owned();
    assert!(onnx.contains("\"batch_size\":32") && onnx.contains("SYNTHETIC"));
    // Only its own files are replaced.
    project.run(&["export", "--format", "pytorch"]).success();
    project.run(&["export", "--format", "pytorch"]).success();
    let config = project.json("export/pytorch/config.json");
    assert_eq!((&config["recipe"], &config["train"]["epochs"]), (&json!("custom"), &json!(2)));

    project.run(&["export", "--format", "card"]).success();
    let card = String::from_utf8(project.read("export/README.md")).unwrap();
    let metrics = project.json("evaluation/test/metrics.json");
    let accuracy = metrics["test"]["accuracy"].as_f64().unwrap();
    let fingerprint = project.json("data/prepared/report.json")["fingerprints"]["test"].clone();
    for part in [
        format!("      value: {accuracy:.4}\n"),
        format!("| test accuracy | {:.2} % (95 % interval ", accuracy * 100.0),
        format!("`{}`", fingerprint.as_str().unwrap()),
        "\"batch_size\": 32".into(),
        "**SYNTHETIC".into(),
        "## Most confused classes".into(),
    ] {
        assert!(card.contains(&part), "{part:?} is not in {card}");
    }
    assert_eq!(card.lines().filter(|line| *line == "---").count(), 2);
    let classes: usize =
        card.split("## Classes").nth(1).unwrap().lines().skip(4).take_while(|l| l.starts_with('|')).count();
    assert_eq!(classes, 10);

    // Other parameters than those of the training are not claimed.
    project.edit("params.yaml", "batch_size: 32", "batch_size: 16");
    let said = project.run(&["export"]).success();
    assert!(said.stderr.contains("the training parameters are left out: "), "{said:?}");
    assert!(!String::from_utf8_lossy(&project.read("export/model.onnx")).contains("batch_size"));
    project
        .run(&["export", "--format", "card"])
        .failure(FAILURE, &["was not trained with `train.batch_size` of ", "params.yaml"]);
    project.edit("params.yaml", "batch_size: 16", "batch_size: 32");
    std::fs::remove_dir_all(project.path("evaluation/test")).unwrap();
    project
        .run(&["export", "--format", "card"])
        .failure(FAILURE, &["evaluation/test", "run `cifar-cli evaluate` first"]);
    assert!(cifar_e2e::tree(&project.path("models")) == before);
}

#[test]
fn bad_exports_are_refused() {
    let project = Project::finished();
    let unknown = project.run(&["export", "--format", "tflite"]);
    assert!(
        unknown.code == Some(USAGE) && unknown.stderr.contains("[possible values: onnx, pytorch, card]"),
        "{unknown:?}"
    );
    project.run(&["export", "--format", "pytorch", "--tta", "mirror"]).failure(USAGE, &["--tta", "onnx"]);
    project.write("notes.txt", b"not a model");
    project
        .run(&["export", "--model", "notes.txt"])
        .failure(FAILURE, &["notes.txt", "is not a valid safetensors file"]);
    project.run(&["export", "--model", "none"]).failure(FAILURE, &["none: cannot read the model"]);
    project.run(&["export", "-o", "labels"]).failure(USAGE, &["labels: is a folder; name a file"]);
    project.run(&["export", "-o", "a/b.onnx"]).failure(USAGE, &["a/b.onnx: its folder does not exist"]);
    project.run(&["export", "-o", "models/final/m.onnx"]).failure(USAGE, &["models/final/m.onnx", "stages replace"]);
    project.run(&["export", "--format", "pytorch", "-o", "notes.txt"]).failure(USAGE, &["notes.txt: is a file"]);
    project
        .run(&["export", "--format", "pytorch", "-o", "labels"])
        .failure(USAGE, &["labels: has ", "which `export` did not write"]);
    assert!(!project.path("export").exists() && project.path("labels/review.csv").is_file());
    let mut model = project.read("models/final/model.safetensors");
    *model.last_mut().unwrap() ^= 1;
    project.write("damaged.safetensors", &model);
    project.run(&["export", "--model", "damaged.safetensors"]).failure(FAILURE, &["damaged.safetensors", "is damaged"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("labels", project.path("export")).unwrap();
        project.run(&["export"]).failure(FAILURE, &["export: is a link to labels"]);
    }
}

#[test]
fn the_code_of_the_page_on_python_runs() {
    let page = std::fs::read_to_string(repository().join("docs/python.md")).unwrap();
    let blocks: Vec<&str> = page.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 4, "{blocks:?}");
    let Some(python) = python() else { return };
    let project = Project::finished();
    project.run(&["export"]).success();
    project.write("page.py", blocks.concat().as_bytes());
    project.call(&python, &["page.py"]).success();
}

//! User mistakes: one clear error line, the right exit status, and existing files left unchanged.

use std::time::{Duration, Instant};

use cifar_e2e::{Project, binary, tree};

/// Exit status of invalid parameters or usage.
const USAGE: i32 = 2;
/// Exit status of any other error.
const FAILURE: i32 = 1;

#[test]
fn errors_in_params_yaml_are_named() {
    let cases = [
        (
            "dataset_version: v1",
            "dataset_version: v4",
            "dataset_version: \"v4\" is not allowed; there is no v4; the partitions are v1, v2, v3",
        ),
        ("dataset_version: v1", "dataset_version: v1+v1", "dataset_version: \"v1+v1\" is not allowed"),
        ("learning_rate:", "lerning_rate:", "unknown key `train.lerning_rate`; did you mean `train.learning_rate`?"),
        ("test_fraction: 0.2", "test_fraction: 1.2", "split.test_fraction: 1.2 is not allowed; allowed is 0 to 0.9"),
        ("epochs: 2", "epochs: two", "train.epochs: \"two\" is not allowed; expected a whole number, 0 or more"),
        ("learning_rate: 0.1", "learning_rate: -0.1", "train.learning_rate: -0.1 is not allowed"),
        ("batch_size: 32", "batch_size: 0", "train.batch_size: 0 is not allowed; allowed is 1 to 10000000"),
        ("epochs: 2", "epochs: 0", "train.epochs: 0 is not allowed; allowed is 1 to 100000"),
        ("warmup_epochs: 1.0", "warmup_epochs: 2.5", "train.warmup_epochs: 2.5 is not allowed; allowed is 0 to 2"),
        ("mixup: 0.0", "mixup: -3.0", "train.mixup: -3 is not allowed; allowed is 0 to 10"),
        (
            "learning_rate: 0.1",
            "learning_rate: .nan",
            "not valid YAML: `.nan` is not a finite number, in `learning_rate: .nan`",
        ),
        (
            "calibration_bins: 15",
            "calibration_bins: 0",
            "evaluate.calibration_bins: 0 is not allowed; allowed is 1 to 100",
        ),
        ("split:", "split", "column 1: not valid YAML: a colon is missing"),
    ];
    let project = Project::finished();
    let before = tree(&project.path("data"));
    let good = project.read("params.yaml");
    for (from, to, message) in cases {
        project.edit("params.yaml", from, to);
        for command in ["pull", "train", "run"] {
            project.run(&[command]).failure(USAGE, &["params.yaml: ", message]);
        }
        project.write("params.yaml", &good);
    }
    std::fs::remove_file(project.path("params.yaml")).unwrap();
    project.run(&["pull"]).failure(USAGE, &["params.yaml: cannot read the parameters"]);
    assert!(tree(&project.path("data")) == before);
}

#[test]
fn usage_errors_are_named() {
    let project = Project::new();
    for arguments in [
        &["trian"][..],
        &["train", "--treads", "2"],
        &["--threads", "0", "train"],
        &["--device", "cuda", "train"],
        &["predict"],
        &["predict", "--set", "train.epochs=1", "x.png"],
        &["train", "--set", "train.epochs=0"],
        &["train", "--preview", "--find-lr"],
        &["embed"],
        &["embed", "x.png", "--split", "test"],
        &["hard-images", "study", "--flip", "1.5"],
        &["hard-images", "study", "--flip", "0.2", "--arms", "dropt"],
        &["hard-images", "study", "--to", "confused"],
    ] {
        let answer = project.run(arguments);
        assert_eq!(answer.code, Some(USAGE), "{answer:?}");
    }
    let answer = project.run(&["-C", "nowhere", "train"]);
    answer.failure(FAILURE, &["nowhere: there is no such folder"]);
}

#[test]
fn a_stage_names_the_missing_stage_before_it() {
    let project = Project::new();
    project.run(&["pull"]).failure(FAILURE, &["dataset_partitions/v1", "run `cifar-cli partition` first"]);
    project.run(&["prepare"]).failure(FAILURE, &["data/raw: there is no such folder; run `cifar-cli pull` first"]);
    project
        .run(&["train"])
        .failure(FAILURE, &["data/prepared: there is no such folder; run `cifar-cli prepare` first"]);
    project.run(&["evaluate"]).failure(FAILURE, &["data/prepared: there is no such folder"]);
    project.run(&["predict", "x.png"]).failure(FAILURE, &["models/final/model.safetensors: cannot read the model"]);
}

#[test]
fn an_empty_or_missing_data_set_is_refused() {
    let project = Project::new();
    project.run(&["partition", "--source", "nowhere"]).failure(FAILURE, &["nowhere"]);
    std::fs::create_dir(project.path("empty")).unwrap();
    project.run(&["partition", "--source", "empty"]).failure(FAILURE, &["empty"]);
    assert!(!project.path("dataset_partitions/v1").exists());
}

#[test]
fn offline_falls_back_to_synthetic_images_unless_a_source_is_named() {
    let project = Project::new();
    // No server listens at the first address, and the second one is never contacted.
    for arguments in [&["--mirror", "http://127.0.0.1:9/x"][..], &["--offline"]] {
        let started = Instant::now();
        let auto = [&["partition", "--synthetic-images", "60"], arguments].concat();
        let answer = project.run(&auto).success();
        assert!(answer.stderr.contains("warning: there is no cifar10_dataset, and "), "{answer:?}");
        assert!(answer.stderr.contains("cannot be fetched: ") && answer.stderr.contains("SYNTHETIC"), "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        let named = [&["partition", "--source", "download"], arguments].concat();
        project.run(&named).failure(FAILURE, &["cannot be fetched: "]);
        assert!(!project.path("cifar10_dataset").exists());
    }
}

#[test]
fn synthetic_images_never_replace_real_ones_unasked() {
    let project = Project::with_partitions();
    // A folder of real images: the plots that the program drew serve as images.
    project.run(&["run"]).success();
    let picture = project.read("evaluation/test/plots/reliability.png");
    for class in ["a", "b"] {
        for index in 0..3 {
            project.write(&format!("pictures/{class}/{index}.png"), &picture);
        }
    }
    project.run(&["partition", "--source", "pictures"]).success();
    let before = tree(&project.path("dataset_partitions"));
    project
        .run(&["partition"])
        .failure(FAILURE, &["dataset_partitions/v1: contains real images", "--source synthetic"]);
    assert!(tree(&project.path("dataset_partitions")) == before);
    project.run(&["partition", "--source", "synthetic", "--synthetic-images", "60"]).success();
}

#[test]
fn data_of_other_parameters_are_refused() {
    let project = Project::finished();
    let before = tree(&project.path("models"));
    project.edit("params.yaml", "dataset_version: v1", "dataset_version: v1+v2");
    project
        .run(&["prepare"])
        .failure(FAILURE, &["data/raw/pull.json: was pulled for dataset_version v1, expected v1+v2"]);
    project.run(&["train"]).failure(FAILURE, &["data/prepared/report.json: was prepared for dataset_version v1"]);
    project.run(&["evaluate"]).failure(FAILURE, &["data/prepared/report.json: was prepared for dataset_version v1"]);
    project.edit("params.yaml", "dataset_version: v1+v2", "dataset_version: v1");
    project.edit("params.yaml", "split_seed: 0", "split_seed: 1");
    project.run(&["train"]).failure(FAILURE, &["was prepared with other `split` parameters"]);
    assert!(tree(&project.path("models")) == before);
}

#[test]
fn parameters_that_do_not_fit_the_images_are_refused_before_training() {
    let project = Project::with_partitions();
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    let good = project.read("params.yaml");
    let images = project.json("data/prepared/report.json")["images"]["train"].clone();
    let too_large = format!("train.batch_size: 500 is not allowed; there are {images} training images");
    for (from, to, message) in [
        ("batch_size: 32", "batch_size: 500", too_large.as_str()),
        (
            "crop_padding: 4",
            "crop_padding: 32",
            "crop_padding: 32 is not allowed; images of 32×32 pixels allow 0 to 31",
        ),
    ] {
        project.edit("params.yaml", from, to);
        project.run(&["train"]).failure(USAGE, &[message]);
        project.write("params.yaml", &good);
    }
    project.edit("params.yaml", "val_fraction: 0.125", "val_fraction: 0");
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    project.run(&["train"]).failure(USAGE, &["train.select: best is not allowed; there are no validation images"]);
}

#[test]
fn a_diverging_loss_stops_the_run_and_keeps_the_old_model() {
    let project = Project::finished();
    let before = tree(&project.path("models"));
    project.edit("params.yaml", "learning_rate: 0.1", "learning_rate: 1.0e+38");
    project.edit("params.yaml", "weight_decay: 0.0005", "weight_decay: 0.0");
    project.run(&["train"]).failure(FAILURE, &["the loss is", "at step", "with learning rate"]);
    assert!(tree(&project.path("models")) == before);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let project = Project::finished();
    let damage = |file: &str, change: &dyn Fn(&mut Vec<u8>), command: &str, message: &str| {
        let good = project.read(file);
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(good, bad);
        project.write(file, &bad);
        project.run(&[command]).failure(FAILURE, &[file, message]);
        project.write(file, &good);
    };
    let halve = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let empty = |bytes: &mut Vec<u8>| bytes.clear();
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            bytes.splice(at..at + from.len(), to.bytes());
        }
    };
    let flip_pixel = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    damage("dataset_partitions/v2/images.safetensors", &flip_pixel, "pull", "does not match its hash in manifest.csv");
    damage("dataset_partitions/v2/images.safetensors", &halve, "pull", "is not a readable safetensors file");
    damage("dataset_partitions/v2/images.safetensors", &empty, "pull", "is not a readable safetensors file");
    damage(
        "dataset_partitions/v2/images.safetensors",
        &replace("\\\"schema\\\":2", "\\\"schema\\\":0"),
        "pull",
        "has schema 0, this program reads schema 2",
    );
    damage("dataset_partitions/v3/manifest.csv", &halve, "pull", "");
    damage("dataset_partitions/v3/manifest.csv", &replace("id,file", "id,fill"), "pull", "has the columns \"id,fill,");
    let changed = "was changed or damaged after";
    damage("data/raw/membership.csv", &replace("train", "trial"), "prepare", changed);
    damage("data/raw/images.safetensors", &flip_pixel, "prepare", "does not match its hash");
    damage("data/prepared/train/images.safetensors", &flip_pixel, "train", "does not match its hash");
    damage("data/prepared/report.json", &halve, "train", changed);
    damage("models/final/model.safetensors", &halve, "evaluate", "is not a valid safetensors file");
    damage(
        "models/final/model.safetensors",
        &replace("\\\"simple_cnn\\\"", "\\\"sample_cnn\\\""),
        "evaluate",
        "does not match the hash that it carries",
    );
    damage(
        "models/final/model.safetensors",
        &replace("\\\"schema\\\":3", "\\\"schema\\\":9"),
        "evaluate",
        "has schema 9",
    );
    damage("models/final/history.jsonl", &halve, "evaluate", changed);
    damage("evaluation/test/predictions.csv", &halve, "hard-images", changed);
    damage("labels/overrides.csv", &replace("file,label", "file,lable"), "prepare", "file,lable");
    project.run(&["pull"]).success();
}

#[test]
fn a_concurrent_run_in_the_same_folder_is_refused_at_once() {
    let project = Project::with_partitions();
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    project.edit("params.yaml", "epochs: 2", "epochs: 500");
    let mut first = project.command(&binary(), &["train", "--quiet"]).spawn().unwrap();
    let started = Instant::now();
    while !String::from_utf8_lossy(&std::fs::read(project.path(".cifar/lock")).unwrap_or_default()).contains("train") {
        assert!(started.elapsed() < Duration::from_mins(1), "the first run did not take the lock");
        std::thread::sleep(Duration::from_millis(20));
    }
    project.run(&["prepare"]).failure(FAILURE, &["`cifar-cli train (process", "is running in this folder"]);
    first.kill().unwrap();
    first.wait().unwrap();
    project.run(&["prepare"]).success();
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_stage_and_keeps_existing_results() {
    let project = Project::finished();
    let before = tree(&project.path("models"));
    project.edit("params.yaml", "epochs: 2", "epochs: 500");
    let mut child = project
        .command(&binary(), &["train", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The first epoch is finished, so the run is in progress.
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert!(line.starts_with("{\"epoch\":1,"), "{line}");
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        stderr.lines().last().unwrap().starts_with("error: ") && stderr.contains("models/final is unchanged"),
        "{stderr}"
    );
    assert!(tree(&project.path("models")) == before);
    let names = project.path("models").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["final", "tuning"], "no partial files are left");
}

/// Root ignores a folder's mode, but not a full or read-only file system.
#[cfg(target_os = "linux")]
#[test]
fn an_unwritable_folder_is_named() {
    let project = Project::with_partitions();
    project.write("data/raw", b"a file where a folder should be");
    project.run(&["pull"]).success();
    std::fs::remove_dir_all(project.path("data")).unwrap();
    project.write("data", b"a file where a folder should be");
    project.run(&["pull"]).failure(FAILURE, &["data", "cannot create the folder"]);
    std::fs::remove_file(project.path("data")).unwrap();
    project.write("evaluation", b"a file where a folder should be");
    project.run(&["run"]).failure(FAILURE, &["evaluation", "cannot create the folder"]);
}

/// With mixup, training sees only mixed images, so its logits do not show which image is hard.
#[test]
fn mixup_without_plain_logits_is_refused_where_images_are_analysed() {
    let project = Project::with_partitions();
    project.edit("params.yaml", "mixup: 0.0", "mixup: 0.4");
    let problem = "train.mixup: 0.4 is not allowed; with train.dynamics_fraction: 0 training records no logits";
    project.run(&["run"]).failure(USAGE, &[problem]);
    assert!(!project.path("data/raw").exists(), "refused before any work");
    let answer = project.run(&["check"]);
    assert!(answer.code == Some(FAILURE) && answer.stdout.contains(problem), "{answer:#?}");
    // Training a model alone is allowed.
    for stage in ["pull", "prepare", "train", "evaluate"] {
        let answer = project.run(&[stage]).success();
        let warning = format!("warning: `hard-images` will refuse the model: {problem}");
        assert_eq!(answer.stderr.contains(&warning), stage == "train", "{answer:#?}");
    }
    let problem = "train.dynamics_fraction: 0 is not allowed; the model was trained with train.mixup above 0";
    project.run(&["hard-images"]).failure(USAGE, &[problem]);
    project.edit("params.yaml", "dynamics_fraction: 0.0", "dynamics_fraction: 1.0");
    for stage in ["train", "evaluate", "hard-images"] {
        project.run(&[stage]).success();
    }
}

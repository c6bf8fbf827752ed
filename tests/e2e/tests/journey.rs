//! The whole pipeline with the real binary on a small synthetic dataset.

use cifar_e2e::{Project, tree};

const RESULTS: [&str; 4] = ["data", "models", "evaluation", "dataset_partitions"];

/// Each process orders its hash maps differently, as every Rust process does.
#[test]
fn files_do_not_depend_on_thread_count_or_on_run_versus_stages() {
    let by_stages = Project::with_partitions();
    for stage in ["pull", "prepare", "inspect", "tune", "train", "evaluate", "hard-images"] {
        by_stages.run(&["--threads", "1", stage]).success();
    }
    for threads in ["2", "3"] {
        let by_run = Project::with_partitions();
        by_run.run(&["--threads", threads, "run"]).success();
        for folder in RESULTS {
            let (expected, found) = (tree(&by_stages.path(folder)), tree(&by_run.path(folder)));
            assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
            for (file, bytes) in &expected {
                assert!(found[file] == *bytes, "{folder}/{} differs with {threads} threads", file.display());
            }
        }
    }

    let other_seed = Project::with_partitions();
    other_seed.edit("params.yaml", "random_seed: 42", "random_seed: 43");
    other_seed.run(&["run"]).success();
    assert!(other_seed.read("models/final/model.safetensors") != by_stages.read("models/final/model.safetensors"));
    assert_eq!(other_seed.read("data/prepared/split.csv"), by_stages.read("data/prepared/split.csv"));
}

#[test]
fn run_uses_the_partitions_that_exist() {
    let project = Project::with_partitions();
    let manifest = project.read("dataset_partitions/v1/manifest.csv");
    project.run(&["run", "--offline"]).success();
    assert!(project.read("dataset_partitions/v1/manifest.csv") == manifest, "no source is named, so none is read");
}

#[test]
fn every_result_exists_and_is_marked_synthetic() {
    let project = Project::finished();
    for file in [
        "data/prepared/split.csv",
        "models/final/history.jsonl",
        "models/final/first_epoch.safetensors",
        "models/final/dynamics.safetensors",
        "models/final/plots/metrics/val/accuracy.tsv",
        "evaluation/test/per_class.csv",
        "evaluation/test/confusion_matrix.csv",
        "evaluation/test/reliability.csv",
        "evaluation/test/predictions.csv",
        "evaluation/test/pool_predictions.csv",
        "evaluation/test/plots/confusion_matrix.png",
        "evaluation/test/plots/reliability.png",
        "evaluation/test/plots/training.png",
        "evaluation/hard_images/hard_images.csv",
        "evaluation/hard_images/confusion_pairs.csv",
        "evaluation/data/issues.csv",
        "evaluation/data/label_conflicts.csv",
        "evaluation/hard_images/neighbours.csv",
        "evaluation/hard_images/map.csv",
        "evaluation/hard_images/patterns.csv",
        "evaluation/hard_images/review_candidates.csv",
    ] {
        assert!(!project.read(file).is_empty(), "{file}");
    }
    for file in [
        "data/prepared/report.json",
        "models/final/metrics.json",
        "evaluation/test/metrics.json",
        "evaluation/hard_images/index.html",
        "evaluation/hard_images/summary.json",
        "evaluation/data/report.json",
        "evaluation/data/index.html",
        "dataset_partitions/v1/manifest.csv",
    ] {
        let text = String::from_utf8(project.read(file)).unwrap();
        assert!(text.contains("SYNTHETIC"), "{file}");
    }
}

#[test]
fn predictions_cover_every_test_image_once_and_agree_with_the_metrics() {
    let project = Project::finished();
    let report = project.json("data/prepared/report.json");
    let metrics = project.json("evaluation/test/metrics.json");
    let split = String::from_utf8(project.read("data/prepared/split.csv")).unwrap();
    let expected: Vec<&str> =
        split.lines().skip(1).filter(|l| l.contains(",test,")).map(|l| l.split(',').next().unwrap()).collect();
    let predictions = project.read("evaluation/test/predictions.csv");
    let mut csv = csv::Reader::from_reader(predictions.as_slice());
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|r| &r[0]).collect::<Vec<_>>(), expected);
    assert_eq!(rows.len() as u64, report["images"]["test"].as_u64().unwrap());
    let source = metrics["source"].as_str().unwrap();
    assert!(source.contains("SYNTHETIC") && rows.iter().all(|row| row.iter().next_back() == Some(source)), "{source}");
    let correct = rows.iter().filter(|r| r[2] == r[3]).count();
    let accuracy = metrics["test"]["accuracy"].as_f64().unwrap();
    assert!((accuracy - correct as f64 / rows.len() as f64).abs() < 1e-12);
    assert!(metrics["test"]["accuracy_low"].as_f64().unwrap() < accuracy);
    assert!(metrics["test"]["accuracy_high"].as_f64().unwrap() > accuracy);
    // Each class of each partition contributes a fifth of its images, rounded: about 90 of 450, 30
    // of v1's 150.
    let pool = String::from_utf8(project.read("data/raw/pool/manifest.csv")).unwrap();
    assert_eq!(metrics["pool"]["images"].as_u64().unwrap() as usize, pool.lines().count() - 1);
    assert!((80..=100).contains(&metrics["pool"]["images"].as_u64().unwrap()), "{metrics}");
    assert_eq!(metrics["test"]["images"].as_u64().unwrap() as usize, rows.len());
}

#[test]
fn hard_images_ranks_by_the_predictions_of_any_model() {
    let project = Project::finished();
    let given = project.read("evaluation/test/predictions.csv");
    std::fs::remove_dir_all(project.path("models")).unwrap();
    let before = tree(&project.path("evaluation/hard_images"));
    let answer = project.run(&["hard-images", "--predictions", "evaluation/test/predictions.csv"]).success();
    assert!(answer.stdout.contains("evaluation/given_predictions"), "{answer:?}");
    assert!(tree(&project.path("evaluation/hard_images")) == before);
    // The same predictions lead to the same scores, whoever made them. Only hardness also follows
    // from the network after its first epoch, which given predictions lack.
    let scores = |folder: &str| -> Vec<Vec<String>> {
        let table = project.read(&format!("evaluation/{folder}/hard_images.csv"));
        let mut csv = csv::Reader::from_reader(table.as_slice());
        let columns = csv.headers().unwrap().clone();
        let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
        let wanted = ["id", "p_label", "entropy", "label_issue_score", "suggested_label"].map(at);
        let rows = csv.records().map(Result::unwrap).filter(|row| &row[at("split")] == "test");
        rows.map(|row| wanted.map(|column| row[column].to_string()).to_vec()).collect()
    };
    let (found, expected) = (scores("given_predictions"), scores("hard_images"));
    assert!(!found.is_empty() && found == expected, "{found:?}\n{expected:?}");
    assert!(project.path("evaluation/given_predictions/index.html").exists());

    let text = String::from_utf8(given).unwrap();
    let cut = text.lines().take(3).collect::<Vec<_>>().join("\n");
    project.write("cut.csv", cut.as_bytes());
    project
        .run(&["hard-images", "--predictions", "cut.csv"])
        .failure(1, &["cut.csv: has rows for 2 of ", " test images; a split is covered wholly or not at all"]);
}

#[test]
fn a_study_makes_errors_like_those_of_people() {
    let project = Project::finished();
    let study = |flip: &str| {
        let options = ["--to", "human-like", "--arms", "base", "--seeds", "7", "--flip", flip];
        project.run(&[&["hard-images", "study"], &options[..]].concat())
    };
    let guessing = ["flip: 0.95 is not allowed; allowed is less than 0.900", "pure guessing"];
    study("0.95").failure(2, &guessing);
    study("0.2").success();
    let summary = project.json("evaluation/study/summary.json");
    let described = summary["noise"].as_str().unwrap();
    assert_eq!(described, "20 % of the labels changed as people would, hard images most often");
    let table = project.read("evaluation/study/study.csv");
    let base = csv::Reader::from_reader(table.as_slice()).records().next().unwrap().unwrap();
    let (images, wrong): (f64, f64) = (base[2].parse().unwrap(), base[3].parse().unwrap());
    assert!((wrong - (images * 0.2).round()).abs() < 1e-9, "{base:?}");
    // The same command gives the same files.
    let before = tree(&project.path("evaluation/study"));
    study("0.2").success();
    assert!(tree(&project.path("evaluation/study")) == before);
}

#[test]
fn adding_partitions_keeps_every_image_in_its_split() {
    let split_of = |version: &str| {
        let project = Project::with_partitions();
        project.edit("params.yaml", "dataset_version: v1", &format!("dataset_version: {version}"));
        project.run(&["pull"]).success();
        project.run(&["prepare"]).success();
        let text = String::from_utf8(project.read("data/prepared/split.csv")).unwrap();
        (text.lines().skip(1).map(str::to_string).collect::<Vec<_>>(), project.read("data/raw/pool/manifest.csv"))
    };
    let (one, pool) = split_of("v1");
    let (all, same_pool) = split_of("v1+v2+v3");
    assert_eq!((one.len(), all.len()), (150, 450));
    assert_eq!(one, all[..150]);
    assert_eq!(pool, same_pool);
}

#[test]
fn the_official_protocol_tests_on_the_published_images() {
    let project = Project::with_partitions();
    project.edit("params.yaml", "protocol: pooled", "protocol: official");
    project.edit("params.yaml", "val_fraction: 0.125", "val_fraction: 0");
    project.edit("params.yaml", "select: best", "select: last");
    project.run(&["run"]).success();
    let report = project.json("data/prepared/report.json");
    assert_eq!(report["images"], serde_json::json!({ "train": 150, "val": 0, "test": 75 }));
    let metrics = project.json("evaluation/test/metrics.json");
    assert_eq!(metrics["test"]["accuracy"], metrics["pool"]["accuracy"]);
}

#[test]
fn overrides_change_training_labels_and_never_test_labels() {
    let project = Project::with_partitions();
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    let split = String::from_utf8(project.read("data/prepared/split.csv")).unwrap();
    let rows: Vec<Vec<&str>> = split.lines().skip(1).map(|l| l.split(',').collect()).collect();
    let other = |label: &str| rows.iter().map(|r| r[3]).find(|l| *l != label).unwrap().to_string();
    let of = |wanted: &str| rows.iter().find(|r| r[1] == wanted).unwrap().clone();
    let (train, test) = (of("train"), of("test"));
    let overrides = format!("id,label\n{},{}\n{},{}\n", train[0], other(train[3]), test[0], other(test[3]));
    project.write("labels/overrides.csv", overrides.as_bytes());
    let answer = project.run(&["prepare"]).success();
    assert!(answer.stderr.contains("1 of its images are test images"), "{answer:?}");
    let after = String::from_utf8(project.read("data/prepared/split.csv")).unwrap();
    let changed: Vec<&str> = after.lines().filter(|l| !split.contains(l)).collect();
    assert_eq!(changed, [format!("{},train,{},{},{}", train[0], train[2], other(train[3]), train[3])]);
    assert_eq!(project.json("data/prepared/report.json")["overrides"]["changed"], 1);
}

#[test]
fn predict_accepts_images_of_any_size_and_prints_text_or_json() {
    let project = Project::finished();
    let picture = project.path("evaluation/test/plots/reliability.png");
    let picture = picture.to_str().unwrap();
    let words = project.run(&["predict", picture]).success();
    assert!(words.stderr.contains("resized from") && words.stderr.contains("SYNTHETIC"), "{words:?}");
    let json = project.run(&["--json", "predict", "--top", "10", picture]).success();
    let answer: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let sum: f64 = answer["predictions"].as_array().unwrap().iter().map(|p| p["probability"].as_f64().unwrap()).sum();
    // Ten f32 probabilities.
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn folders_are_classified_embedded_and_previewed() {
    let project = Project::finished();
    let picture = project.read("evaluation/test/plots/reliability.png");
    for name in ["b.png", "a.png", "s/c.png", "Thumbs.db"] {
        project.write(&format!("photos/{name}"), &picture);
    }
    project.write("photos/note.txt", b"no image");
    let answer = project.run(&["predict", "photos"]);
    let files: Vec<&str> = answer.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((answer.code, files), (Some(1), vec!["photos/a.png", "photos/b.png", "photos/s/c.png"]), "{answer:#?}");
    for words in [
        "error: photos/note.txt: is not an image (JPEG, PNG, WebP, BMP, GIF or TIFF)\n",
        "error: 1 of 4 images could not be read\n",
        "\n1 hidden or system file skipped\n",
        "probability  next",
    ] {
        assert!(answer.stderr.contains(words), "{answer:#?}");
    }
    let table = project.run(&["--json", "predict", "photos/**/*.png", "--tta", "--csv", "photos.csv"]).success();
    let done: serde_json::Value = serde_json::from_str(&table.stdout).unwrap();
    assert_eq!((&done["images"], &done["csv"]), (&3.into(), &"photos.csv".into()));
    assert_eq!(String::from_utf8(project.read("photos.csv")).unwrap().lines().count(), 4);

    project.run(&["embed", "--split", "test"]).success();
    let test = String::from_utf8(project.read("evaluation/embeddings/test.csv")).unwrap();
    let predictions = String::from_utf8(project.read("evaluation/test/predictions.csv")).unwrap();
    let first = |text: &str| text.lines().map(|line| line.split(',').take(4).collect::<Vec<_>>().join(",")).collect();
    let [test, predictions]: [Vec<String>; 2] = [&test, &predictions].map(|text| first(text));
    assert_eq!(test, predictions, "id, file, label and predicted class of each test image");
    let bytes = project.read("evaluation/embeddings/test.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("features").unwrap().shape(), [test.len() - 1, 128]);
    let ids = tensors.tensor("ids").unwrap();
    assert_eq!(i64::from_le_bytes(ids.data()[..8].try_into().unwrap()).to_string(), test[1].split(',').next().unwrap());
    project.run(&["embed", "photos/a.png", "--out", "features"]).success();
    assert!(project.path("features.safetensors").is_file() && project.path("features.csv").is_file());

    let before = tree(&project.path("models/final"));
    project.run(&["train", "--preview", "first.png", "--set", "train.cutout=8", "--set", "train.mixup=0.5"]).success();
    assert!(project.read("first.png").starts_with(b"\x89PNG"));
    assert!(tree(&project.path("models/final")) == before);
}

#[test]
fn check_reports_present_and_missing_results() {
    let project = Project::new();
    let before = project.run(&["check"]).success();
    assert!(before.stdout.contains("missing"), "{before:?}");
    let project = Project::finished();
    let after = project.run(&["check"]).success();
    assert!(after.stdout.contains("SYNTHETIC") && !after.stdout.contains("missing"), "{after:?}");
    project.edit("params.yaml", "momentum: 0.9", "momentum: 1.9");
    project.run(&["check"]).failure(2, &["train.momentum: 1.9 is not allowed"]);
}

#[test]
fn an_official_archive_becomes_partitions_in_either_version() {
    let fixtures = cifar_e2e::repository().join("crates/cifar-data/tests/fixtures");
    let manifests = ["binary", "python"].map(|version| {
        let project = Project::new();
        let name = format!("cifar-10-{version}.tar.gz");
        let bytes = std::fs::read(fixtures.join(&name)).unwrap();
        project.write(&format!("cifar10_dataset/{name}"), &bytes);
        project.run(&["partition"]).success();
        let found = tree(&project.path("dataset_partitions"));
        project.run(&["partition", "--source", &format!("cifar10_dataset/{name}")]).success();
        assert!(tree(&project.path("dataset_partitions")) == found);
        let manifest = String::from_utf8(project.read("dataset_partitions/v3/manifest.csv")).unwrap();
        assert!(manifest.contains(&format!("{version} version of CIFAR-10, 7 images")), "{manifest}");
        manifest.replace(version, "either")
    });
    assert_eq!(manifests[0], manifests[1]);
}

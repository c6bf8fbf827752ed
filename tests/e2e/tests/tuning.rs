//! Hyperparameter search: it finds better values, survives kills, can be extended and never reads
//! test images.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cifar_data::provenance;
use cifar_e2e::{Project, binary, tree};

/// Exit status of invalid parameters or usage.
const USAGE: i32 = 2;
/// Exit status of any other error.
const FAILURE: i32 = 1;

/// Prepares a project that searches among four settings on these partitions. The baseline learns
/// almost nothing.
fn prepared(version: &str) -> Project {
    let project = Project::with_partitions();
    for (from, to) in [
        ("dataset_version: v1", format!("dataset_version: {version}").as_str()),
        ("trials: 0", "trials: 4"),
        ("rescore_seeds: 3", "rescore_seeds: 2"),
        ("epochs: 2", "epochs: 3"),
        (" learning_rate: 0.1 ", " learning_rate: 0.00001 "),
        ("widths: [32, 64, 128]", "widths: [16, 32, 32]"),
    ] {
        project.edit("params.yaml", from, to);
    }
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    project
}

/// Returns the path of the only journal.
fn journal(project: &Project) -> PathBuf {
    let searches = std::fs::read_dir(project.path(".cifar/tune")).expect("a folder of searches");
    let found: Vec<PathBuf> = searches.map(|entry| entry.expect("an entry").path().join("journal.jsonl")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn lines(path: &std::path::Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Waits until the only journal has `wanted` lines.
#[track_caller]
fn wait_for_lines(project: &Project, wanted: usize) {
    let started = Instant::now();
    let count = || {
        let searches = std::fs::read_dir(project.path(".cifar/tune")).into_iter().flatten().flatten();
        searches.map(|entry| lines(&entry.path().join("journal.jsonl"))).sum::<usize>()
    };
    while count() < wanted {
        assert!(started.elapsed() < Duration::from_mins(2), "no {wanted} lines in two minutes");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn search_finds_better_values_and_train_uses_them() {
    let project = prepared("v1+v2+v3");
    project.edit("params.yaml", "rescore_seeds: 2", "rescore_seeds: 5");
    // If the search opened the test images, it would fail here.
    std::fs::rename(project.path("data/prepared/test"), project.path("hidden")).unwrap();
    project.run(&["tune"]).success();
    let tuned = project.json("models/tuning/tuned.json");
    let best = &tuned["best"];
    assert_eq!((&best["comparison"]["verdict"], &best["setting"]), (&"better".into(), &tuned["setting"]), "{tuned}");
    assert!(
        best["trial"].as_u64().unwrap() > 0 && best["comparison"]["interval"][0].as_f64().unwrap() > 0.0,
        "{tuned}"
    );
    assert_eq!(best["comparison"]["seeds"], serde_json::json!([43, 44, 45, 46, 47]), "42 is the search's own seed");
    for picture in ["history", "importance", "parallel_coordinates"] {
        assert!(project.read(&format!("models/tuning/plots/{picture}.png")).starts_with(b"\x89PNG"));
    }
    // 1 + 4 trials with one epoch, 1 + 2 with three, and the baseline and the best trial with five
    // more seeds.
    assert_eq!(String::from_utf8(project.read("models/tuning/trials.csv")).unwrap().lines().count(), 1 + 5 + 3 + 10);

    project.run(&["train"]).success();
    let as_it_stands = project.json("models/final/metrics.json")["selected"]["val"]["accuracy"].as_f64().unwrap();
    project.edit("params.yaml", "use_tuned: false", "use_tuned: true");
    project.run(&["train"]).success();
    let with_tuned = project.json("models/final/metrics.json")["selected"]["val"]["accuracy"].as_f64().unwrap();
    assert!(with_tuned > as_it_stands, "{with_tuned} vs. {as_it_stands}");

    // A setting found for other data or parameters is used with a warning or refused.
    project.edit("params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.05");
    let answer = project.run(&["train"]).success();
    let warning = "was found under other conditions: train.label_smoothing was 0.1 and is 0.05";
    assert!(answer.stderr.contains(warning), "{answer:#?}");
    let good = project.read("models/tuning/tuned.json");
    // If the hash matches because the file was listed again, the content is still checked.
    let changed = |text: &str, code: i32, message: &str| {
        project.write("models/tuning/tuned.json", text.as_bytes());
        let damaged = "tuned.json: was changed or damaged after the stage tune wrote it";
        project.run(&["train"]).failure(FAILURE, &[damaged, "`cifar-cli tune` again"]);
        provenance::write(&project.path("models/tuning"), "tune", &[], &["tuned.json"]).expect("the folder is there");
        project.run(&["train"]).failure(code, &[message]);
    };
    let text = String::from_utf8(good).unwrap();
    let (before, after) = text.split_once("\"set\": \"").unwrap();
    let of_others = format!("{before}\"set\": \"0000{}", &after[4..]);
    changed(&of_others, FAILURE, "tuned.json: was found on another set of images");
    let older = text.replace("\"schema\": 3", "\"schema\": 2");
    changed(&older, FAILURE, "tuned.json: has schema 2, this program reads schema 3; run `cifar-cli tune` again");
    // The best trial has a setting too; the last one in the file is applied.
    let (before, after) = text.rsplit_once("\"setting\": {").unwrap();
    let spoilt = format!("{before}\"setting\": {{ \"train.momentum\": 2,{after}");
    changed(&spoilt, USAGE, "tuned.json: does not suit this recipe: momentum: 2 is not allowed");
}

#[test]
fn a_killed_search_resumes_and_more_trials_extend_it() {
    let project = prepared("v1");
    project.run(&["--threads", "2", "tune"]).success();
    let expected = tree(&project.path("models/tuning"));
    let scores = lines(&journal(&project));
    project.run(&["clean"]).success();
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();

    for wanted in [3, 6, 9] {
        if wanted == 9 {
            // Damaged files are trained again.
            let files: Vec<PathBuf> = tree(&project.path(".cifar/tune")).into_keys().collect();
            let checkpoints = files.iter().filter(|path| path.ends_with("checkpoint.safetensors"));
            let spoilt = checkpoints.map(|path| project.write(&format!(".cifar/tune/{}", path.display()), b"spoilt"));
            assert!(spoilt.count() >= 1, "{files:?}");
        }
        let mut command = project.command(&binary(), &["--threads", "1", "tune"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        wait_for_lines(&project, wanted);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A kill during a write cuts off the last line.
    let path = journal(&project);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    let answer = project.run(&["--threads", "3", "tune"]).success();
    assert!(answer.stderr.contains("warning: ") && answer.stderr.contains("the last line was cut off"), "{answer:#?}");
    assert!(tree(&project.path("models/tuning")) == expected);
    assert_eq!(lines(&path), scores);
    let left: Vec<PathBuf> = tree(&project.path(".cifar/tune")).into_keys().collect();
    assert!(!left.iter().any(|path| path.ends_with("finished")), "{left:?}");
    assert!(left.iter().any(|path| path.ends_with("checkpoint.safetensors")), "for more trials: {left:?}");

    project.edit("params.yaml", "trials: 4", "trials: 5");
    project.run(&["tune"]).success();
    assert!(lines(&path) > scores, "the same journal is extended");
    let first = project.json("models/tuning/tuned.json");
    assert_eq!(first["trials"].as_u64(), Some(5), "{first}");
}

#[test]
fn identical_settings_are_not_reported_as_better() {
    let project = prepared("v1");
    for (from, to) in [
        ("{log_uniform: [0.02, 0.5]}", "{choice: [0.00001, 0.00001]}"),
        ("{log_uniform: [0.0001, 0.02]}", "{choice: [0.0005, 0.0005]}"),
        ("{uniform: [0.0, 0.2]}", "{choice: [0.1, 0.1]}"),
        ("{uniform: [0.0, 0.5]}", "{choice: [0.3, 0.3]}"),
    ] {
        project.edit("params.yaml", from, to);
    }
    let answer = project.run(&["tune"]).success();
    assert!(
        answer.stdout.contains("no setting is better than params.yaml: none of 4 trials scored above it"),
        "{answer:#?}"
    );
    let tuned = project.json("models/tuning/tuned.json");
    assert_eq!((&tuned["best"], &tuned["setting"]), (&serde_json::Value::Null, &serde_json::json!({})), "{tuned}");
    project.edit("params.yaml", "use_tuned: false", "use_tuned: true");
    let answer = project.run(&["train"]).success();
    assert!(answer.stderr.contains("train.use_tuned changes nothing"), "{answer:#?}");
}

/// Each bound is valid with the recipe's learning rate, but most pairs of values are not.
#[test]
fn invalid_combinations_fail_as_single_trials() {
    let project = prepared("v1");
    project.edit("params.yaml", "{log_uniform: [0.0001, 0.02]}", "{uniform: [0.0, 400.0]}");
    project.run(&["tune"]).success();
    let trials = String::from_utf8(project.read("models/tuning/trials.csv")).unwrap();
    assert!(trials.contains("learning_rate × weight_decay is"), "{trials}");
    let answer = project.run(&["tune"]).success();
    assert!(!answer.stderr.contains("warning"), "{answer:#?}");
}

/// Mimics two queued experiments that differ only after the search. Both find the same search
/// running.
#[test]
fn concurrent_processes_share_a_search_and_clean_keeps_it() {
    let (one, other) = (prepared("v1"), Project::new());
    for (path, bytes) in tree(&one.path("data")) {
        other.write(&format!("data/{}", path.display()), &bytes);
    }
    other.write("params.yaml", &one.read("params.yaml"));
    other.edit("params.yaml", "calibration_bins: 15", "calibration_bins: 10");
    let mut first = one.command(&binary(), &["tune"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = |what: &str, is_there: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !is_there() {
            assert!(started.elapsed() < Duration::from_mins(2), "no {what} in two minutes");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for_lines(&one, 2);
    first.kill().unwrap();
    first.wait().unwrap();

    // This process holds the lock.
    let path = journal(&one);
    let at_work = std::fs::File::open(&path).unwrap();
    at_work.lock().unwrap();
    let answer = one.run(&["clean"]).success();
    assert!(answer.stderr.contains(": kept, since another process uses it") && path.is_file(), "{answer:#?}");
    one.run(&["pull"]).success();
    one.run(&["prepare"]).success();
    let log = |project: &Project| project.path("told");
    let started = [&one, &other].map(|project| {
        let mut command = project.command(&binary(), &["tune"]);
        let told = std::fs::File::create(log(project)).unwrap();
        command.env("DVC_ROOT", one.path("")).stdout(Stdio::null()).stderr(told).spawn().expect("the program starts")
    });
    let waiting = "another process is working on the same parameters";
    for project in [&one, &other] {
        waits("word", &|| std::fs::read_to_string(log(project)).unwrap().contains(waiting));
    }
    drop(at_work);
    for mut child in started {
        assert!(child.wait().unwrap().success());
    }
    assert!(tree(&one.path("models/tuning")) == tree(&other.path("models/tuning")));
    assert_eq!(lines(&path), 1 + 5 + 3 + 4, "each score is recorded once");
}

#[test]
fn zero_trials_disable_the_search() {
    let project = Project::new();
    project.run(&["tune"]).success();
    let tuned = project.json("models/tuning/tuned.json");
    assert_eq!((tuned["trials"].as_u64(), tuned["setting"].as_object().map(serde_json::Map::len)), (Some(0), Some(0)));
}

#[test]
fn invalid_searches_are_refused() {
    let project = prepared("v1");
    let good = project.read("params.yaml");
    let refused = |from: &str, to: &str, message: &str| {
        project.edit("params.yaml", from, to);
        project.run(&["tune"]).failure(USAGE, &[message]);
        project.write("params.yaml", &good);
    };
    refused("[0.02, 0.5]", "[0.5, 0.02]", "tune.space.train.learning_rate: [0.5, 0.02] is not allowed");
    refused("    train.learning_rate: {", "    train.learning_rat: {", "did you mean `train.learning_rate`?");
    refused("{log_uniform: [0.02, 0.5]}", "{log_uniform: [0.02, 5000000]}", "tune.space.train.learning_rate: ");
    refused("log_uniform: [0.02", "normal: [0.02", "\"normal\" is not allowed; allowed are ");

    refused(
        "train.label_smoothing: {uniform: [0.0, 0.2]}",
        "train.batch_size: {choice: [32, 100000]}",
        "tune.space.train.batch_size: train.batch_size: 100000 is not allowed; there are ",
    );
    refused("train.label_smoothing:", "train.early_stopping:", "cannot be tuned; it has no effect on trials");
    refused("train.label_smoothing:", "random_seed:", "there is no parameter `random_seed`; parameters of the blocks");

    project.edit("params.yaml", "val_fraction: 0.125", "val_fraction: 0.0");
    project.edit("params.yaml", "select: best", "select: last");
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    project.run(&["tune"]).failure(USAGE, &["tune.trials: there are no validation images"]);
    assert!(!project.path("models/tuning").exists());

    project.edit("params.yaml", "use_tuned: false", "use_tuned: true");
    project.run(&["train"]).failure(FAILURE, &["models/tuning", "run `cifar-cli tune` first"]);
}

#[test]
fn a_recipe_for_some_minutes_has_the_epochs_that_fit() {
    let project = Project::with_partitions();
    let before = String::from_utf8(project.read("params.yaml")).unwrap();
    for minutes in ["0", "-1", "0.05", "1441", "525600", "nan", "ten"] {
        let argument = format!("--minutes={minutes}");
        project.run(&["recipe", &argument]).failure(USAGE, &["allowed is 0.1 to 1440 (minutes)"]);
    }
    project.run(&["recipe", "quick", "--minutes", "3"]).failure(USAGE, &["cannot be used with"]);
    assert_eq!(String::from_utf8(project.read("params.yaml")).unwrap(), before, "nothing is written");

    project.edit("params.yaml", "precision: f32", "precision: bf16");
    let after = |project: &Project| String::from_utf8(project.read("params.yaml")).unwrap();
    for minutes in ["0.1", "1"] {
        let answer = project.run(&["--json", "recipe", "--minutes", minutes]).success();
        let written: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        let number = |key: &str| written[key].as_f64().unwrap();
        assert!(number("minutes") <= minutes.parse::<f64>().unwrap() && number("images_per_second") > 0.0, "{written}");
        assert!(after(&project).contains(&format!("\n  epochs: {}", number("epochs"))), "{written}");
        assert!(after(&project).contains("precision: bf16"), "it belongs to the machine");
    }
    let after = after(&project);
    assert_eq!(after.matches('#').count(), before.matches('#').count(), "comments stay");
    assert!(after.contains("architecture: airbench9"), "{after}");
    let check = project.run(&["check"]);
    assert!(check.stdout.contains("training images/s") && check.stdout.contains("bf16: "), "{check:#?}");
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    // How many epochs the recipe has, and so how many of them warm up, depends on the machine.
    project.run(&["train", "--set", "train.epochs=1", "--set", "train.warmup_epochs=0"]).success();
}

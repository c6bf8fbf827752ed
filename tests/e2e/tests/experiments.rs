//! A grid of runs, in one process and as DVC experiments: identical files, interruptions, failures
//! and refusals.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cifar_e2e::{Project, binary, dvc, repository, tree};

/// Exit status of invalid parameters or usage.
const USAGE: i32 = 2;
/// Exit status of any other error.
const FAILURE: i32 = 1;
const GRID: &str = "[grid]\ndataset_version = ['v1', 'v1+v2']\nrandom_seed = [1, 2]\n";

/// A small dataset, a small network and two epochs.
fn project(grid: &str) -> Project {
    let project = Project::with_partitions();
    project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [4, 8, 8]");
    project.write("experiments.toml", grid.as_bytes());
    project
}

fn local<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["experiments", "run", "--engine", "local"].into_iter().chain(more.iter().copied()).collect()
}

fn lines(project: &Project, file: &str) -> Vec<String> {
    String::from_utf8(project.read(file)).expect("a text file").lines().map(String::from).collect()
}

/// Returns the files that the stages wrote, without logs.
fn results(project: &Project) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = tree(&project.path("experiments/runs"));
    files.retain(|path, _| ["models", "evaluation"].iter().any(|part| path.iter().any(|p| p == *part)));
    // Only `run` and DVC write the tuning results, which are empty here.
    files.retain(|path, _| !path.iter().any(|p| p == "tuning"));
    assert!(!files.is_empty());
    files
}

#[test]
fn a_grid_does_each_run_once_and_writes_its_figures() {
    let grid = format!("{GRID}[[include]]\ndataset_version = 'v1+v2+v3'\nsplit.train_images = [100]\n");
    let project = project(&grid);
    let answer = project.run(&["experiments", "run", "--dry-run", "--json"]).success();
    let plan: serde_json::Value = serde_json::from_str(&answer.stdout).expect("JSON");
    assert_eq!(plan.as_array().map(Vec::len), Some(6));
    assert_eq!((&plan[0]["name"], &plan[0]["state"]), (&"v1-seed1".into(), &"waiting".into()));
    assert!(!project.path("experiments/runs").exists(), "a dry run does nothing");

    let answer = project.run(&local(&[])).success();
    assert!(answer.stderr.contains("[6/6] "), "{answer:#?}");
    assert!(answer.stdout.contains("misclassified by all 6 runs"), "{answer:#?}");
    assert_eq!(lines(&project, "experiments/runs.csv").len(), 7);
    let summary = project.json("experiments/summary.json");
    assert_eq!(summary["combinations"].as_array().map(Vec::len), Some(3));
    assert_eq!(summary["combinations"][2]["train_images"], 100);
    // Two epochs of 100 images in batches of 32: four steps each. The other combinations have as
    // many images or more.
    assert_eq!(summary["combinations"][2]["steps"], 8.0);
    let report = lines(&project, "experiments/report.md");
    assert!(report.iter().any(|line| line.contains("trained for 8 to 14 optimiser steps")), "{report:#?}");
    assert!(summary["source"].as_str().is_some_and(|s| s.contains("SYNTHETIC")));
    let page = String::from_utf8(project.read("experiments/report.html")).expect("a page is UTF-8");
    assert!(page.contains("SYNTHETIC") && page.contains("<svg") && page.contains("runs/v1%2Bv2-seed2/"));
    assert!(!page.contains("http://") && !page.contains("https://"), "the page loads no remote content");
    assert_eq!(
        std::fs::read_dir(project.path(".cifar/experiments/data")).map_or(0, Iterator::count),
        0,
        "data are gone"
    );

    let answer = project.run(&["report"]).success();
    assert!(answer.stdout.contains("experiments/report.html: 6 runs of 3 combinations"), "{answer:#?}");
    let (before, figures) = (results(&project), project.read("experiments/summary.json"));
    let again = project.run(&local(&[])).success();
    assert!(again.stderr.contains("6 finished, 0 to do"), "{again:#?}");
    // Two workers give the same results as `run` and the single commands.
    std::fs::remove_dir_all(project.path("experiments")).expect("results");
    std::fs::remove_dir_all(project.path(".cifar/checkpoints")).expect("checkpoints");
    project.run(&local(&["-j", "2", "--threads", "2"])).success();
    assert!(results(&project) == before && project.read("experiments/summary.json") == figures);
    project.edit("params.yaml", "dataset_version: v1", "dataset_version: v1+v2");
    project.edit("params.yaml", "random_seed: 42", "random_seed: 2");
    project.run(&["run"]).success();
    for folder in ["models/final", "evaluation/test"] {
        let one = project.path(&format!("experiments/runs/v1+v2-seed2/{folder}"));
        assert!(tree(&one) == tree(&project.path(folder)), "{folder}");
    }
}

#[test]
fn killed_runs_resume_and_failed_runs_are_named() {
    let grid = "[grid]\nrandom_seed = [1, 2, 3]\n[[include]]\nsplit.train_images = 5000\nrandom_seed = 1\n";
    let project = project(grid);
    let mut child = project.command(&binary(), &local(&["--quiet"])).spawn().expect("the program starts");
    let start = Instant::now();
    while !project.path("experiments/runs/v1-seed1/run.json").exists() && start.elapsed() < Duration::from_mins(2) {
        std::thread::sleep(Duration::from_millis(20));
    }
    project.run(&local(&[])).failure(FAILURE, &["`cifar-cli experiments", "is running in this folder"]);
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    let first = std::fs::metadata(project.path("experiments/runs/v1-seed1/run.json")).expect("one run is finished");

    let parts = ["1 of 4 runs failed", "v1-train_images5000-seed1", "split.train_images: 5000", "0 to 104", "--retry"];
    let answer = project.run(&local(&[])).failure(FAILURE, &parts);
    assert!(
        answer.stderr.contains("    error: split.train_images: 5000"),
        "the end of the run's log is shown: {answer:#?}"
    );
    let same = std::fs::metadata(project.path("experiments/runs/v1-seed1/run.json")).expect("still there");
    assert_eq!(first.modified().expect("a time"), same.modified().expect("a time"), "the run was not repeated");
    assert!(lines(&project, "experiments/report.md").iter().any(|l| l.contains("Not finished")));

    let answer = project.run(&local(&[])).failure(FAILURE, &parts);
    assert!(answer.stderr.contains("0 to do, 1 failed earlier"), "{answer:#?}");
    project.run(&local(&["--retry"])).failure(FAILURE, &parts);
    project.write("experiments.toml", b"[grid]\nrandom_seed = [1, 2, 3]\n");
    let answer = project.run(&local(&[])).success();
    assert!(answer.stderr.contains("other folders are not of this grid"), "{answer:#?}");

    // A limit on file size mimics a full disk.
    project.write("experiments.toml", b"[grid]\nrandom_seed = [4]\n");
    let arguments = local(&[]).join(" ");
    let script = format!("trap '' XFSZ; ulimit -f 64; exec '{}' {arguments}", binary().display());
    project
        .call("sh".as_ref(), &["-c", &script])
        .failure(FAILURE, &["1 of 1 runs failed, first v1-seed4", "cannot write"]);
    project.run(&local(&["--retry"])).success();
    // Here the disk is too full even for the reason.
    project.write("experiments.toml", b"[grid]\nrandom_seed = [5]\n");
    let script = script.replace("ulimit -f 64", "ulimit -f 0");
    let script = script.replace("exec ", "exec 2>/dev/null; exec ");
    let answer = project.call("sh".as_ref(), &["-c", &script]);
    assert_eq!(answer.code, Some(FAILURE), "{answer:#?}");
    assert!(!project.path("experiments/runs/v1-seed5/failed.txt").exists());
    project.run(&local(&[])).success();
    project.write("experiments.toml", b"[grid]\nrandom_seed = [1, 2, 3]\n");

    // The same names for different runs.
    project.edit("params.yaml", "momentum: 0.9 ", "momentum: 0.8 ");
    let parts = ["experiments/runs/v1-seed1", "train.momentum was 0.9 and is 0.8 now", "move the folder away"];
    project.run(&local(&[])).failure(FAILURE, &parts);
    project.run(&["experiments", "summary"]).failure(FAILURE, &parts);
}

/// Starts a grid of one run, kills it during training and returns its checkpoint's path.
fn killed(project: &Project) -> PathBuf {
    let mut child = project.command(&binary(), &local(&["--quiet"])).spawn().expect("the program starts");
    let start = Instant::now();
    let found = loop {
        // The folder exists from the start of training, the checkpoint some seconds later.
        let mut folders = std::fs::read_dir(project.path(".cifar/checkpoints")).into_iter().flatten().flatten();
        if let Some(folder) = folders.find(|entry| entry.path().is_dir()) {
            break folder.path().join("checkpoint.safetensors");
        }
        assert!(start.elapsed() < Duration::from_mins(3), "no training in three minutes");
        std::thread::sleep(Duration::from_millis(20));
    };
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    found
}

#[test]
fn a_grid_completes_despite_damaged_files() {
    let project = project("[grid]\nrandom_seed = [1]\n");
    project.edit("params.yaml", "epochs: 2", "epochs: 30");
    let log = "experiments/runs/v1-seed1/log.txt";
    let checkpoint = killed(&project);
    let shared = std::fs::read_dir(project.path(".cifar/experiments/data")).expect("shared data").flatten();
    let shared: Vec<PathBuf> = shared.map(|entry| entry.path()).collect();
    assert_eq!(shared.len(), 2, "{shared:?}");
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("a file");
        let at = bytes.len() - 7;
        bytes[at] ^= 1;
        std::fs::write(path, bytes).expect("the file can be written");
    };
    for folder in &shared {
        let is_prepared = folder.join("train").is_dir();
        flip(&folder.join(if is_prepared { "train/images.safetensors" } else { "images.safetensors" }));
    }
    let cut = [&5000_u64.to_le_bytes()[..], b"{\"__metadata__\":{\"format\":"].concat();
    std::fs::write(&checkpoint, cut).expect("the file can be written");
    project.run(&local(&[])).success();
    let log = String::from_utf8(project.read(log)).expect("text");
    assert_eq!(log.matches(" is made again").count(), 2, "{log}");
    assert!(log.contains("it is renamed to checkpoint.damaged.safetensors, and the run starts over"), "{log}");
    let found = results(&project);
    // The results are the same as without the damage.
    std::fs::remove_dir_all(project.path("experiments")).expect("results");
    std::fs::remove_dir_all(project.path(".cifar")).expect("state");
    project.run(&local(&[])).success();
    assert!(results(&project) == found);
}

#[test]
fn constant_steps_set_the_epochs_of_each_run() {
    let grid = "constant_steps = 12\n[grid]\ndataset_version = ['v1', 'v1+v2+v3']\nrandom_seed = [1]\n";
    let project = project(grid);
    let answer = project.run(&["experiments", "run", "--dry-run", "--json"]).success();
    let plan: serde_json::Value = serde_json::from_str(&answer.stdout).expect("JSON");
    for run in plan.as_array().expect("a list") {
        let steps = run["steps"].as_u64().expect("a number");
        assert!((9..=15).contains(&steps), "{run}");
        assert_eq!(run["setting"].get("train.epochs"), None, "the grid does not vary it");
    }
    assert!(plan[0]["epochs"].as_u64() > plan[1]["epochs"].as_u64(), "{plan}");
    project.run(&local(&[])).success();
    let summary = project.json("experiments/summary.json");
    for combination in summary["combinations"].as_array().expect("a list") {
        let steps = combination["steps"].as_f64().expect("a number");
        assert!((9.0..=15.0).contains(&steps), "{combination}");
    }
    project.write("experiments.toml", grid.replace("random_seed", "train.epochs = [3]\nrandom_seed").as_bytes());
    let parts = ["experiments.toml: [grid]: train.epochs is not allowed with constant_steps"];
    project.run(&local(&["--dry-run"])).failure(USAGE, &parts);
}

#[test]
fn errors_are_one_line() {
    let project = project("[grid]\nrandom_seed = [1]\n");
    let check = |grid: &str, parts: &[&str]| {
        project.write("experiments.toml", grid.as_bytes());
        project.run(&local(&["--dry-run"])).failure(USAGE, &[&["experiments.toml: "], parts].concat());
    };
    check("[grid\n", &["line 1"]);
    check("[grid]\ntrain.epoch = [1]\n", &["there is no parameter `train.epoch`; did you mean `train.epochs`?"]);
    check("[grid]\ntrain.epochs = [0]\n", &["train.epochs: 0 is not allowed"]);
    check("[grid]\nsplit.test_fraction = [0.1]\n", &["split.test_fraction is not allowed"]);
    project.run(&["experiments", "run", "--grid", "none.toml"]).failure(FAILURE, &["none.toml: there is no such file"]);
    project.write("experiments.toml", b"[grid]\nrandom_seed = [1]\n");
    project.run(&["experiments", "summary"]).failure(FAILURE, &["no run of this grid is finished"]);
    std::fs::remove_file(project.path("dataset_partitions/v2/manifest.csv")).expect("a file");
    project.run(&local(&[])).failure(FAILURE, &["dataset_partitions/v2/manifest.csv", "cifar-cli partition"]);
}

#[test]
fn dvc_must_be_installed_recent_and_in_a_repository() {
    let project = project("[grid]\nrandom_seed = [1]\n");
    let engine = ["experiments", "run", "--engine", "dvc"];
    let mut nowhere = project.command(&binary(), &engine);
    let output = nowhere.env("PATH", "/nowhere").output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(FAILURE), "{text}");
    assert!(text.contains("error: DVC is not installed; run scripts/dvc.sh, or use `--engine local`"), "{text}");

    project.write(".venv/bin/dvc", b"#!/bin/sh\necho 2.58.2\n");
    project.call("chmod".as_ref(), &["755", ".venv/bin/dvc"]).success();
    project.run(&engine).failure(FAILURE, &["is DVC 2.58.2; 3.67 or newer is needed"]);
    project.write(".venv/bin/dvc", b"#!/bin/sh\necho 3.67.1\n");
    project.run(&engine).failure(FAILURE, &["is not a git repository with a commit", "--engine local"]);
}

/// A git repository with DVC's stages, whose `build` copies the program under test.
fn with_dvc(project: &Project, dvc: &Path) {
    let pipeline = String::from_utf8(std::fs::read(repository().join("dvc.yaml")).expect("a file")).expect("UTF-8");
    let (build, rest) = pipeline.split_once("  pull_data:").expect("the first stage behind `build`");
    let outs = build.split_once("    outs:").expect("outs of `build`").1;
    let head = "stages:\n  build:\n    cmd: sh build.sh\n    deps:\n      - build.sh\n    outs:";
    project.write("dvc.yaml", format!("{head}{outs}  pull_data:{rest}").as_bytes());
    let names: Vec<&str> =
        outs.lines().filter_map(|l| l.trim().strip_prefix("- bin/")?.strip_suffix(".fingerprint")).collect();
    assert!(names.contains(&"train_model") && names.len() > 4, "{names:?}");
    // `clean` takes the project's lock, as the real build does.
    let script = format!(
        "mkdir -p bin\ncp '{}' bin/cifar-cli\nbin/cifar-cli clean --quiet\nfor name in {}; do echo tested > bin/$name.fingerprint; done\n",
        binary().display(),
        names.join(" ")
    );
    project.write("build.sh", script.as_bytes());
    for file in [".gitignore", ".dvcignore", "dataset_partitions/.gitignore"] {
        project.write(file, &std::fs::read(repository().join(file)).expect("a file"));
    }
    std::fs::create_dir_all(project.path(".venv/bin")).expect("a folder");
    std::os::unix::fs::symlink(dvc, project.path(".venv/bin/dvc")).expect("a link");
    git(project, &["init", "-q"]);
    project.call(dvc, &["init", "-q"]).success();
    project.call(dvc, &["config", "core.analytics", "false"]).success();
    project.call(dvc, &["config", "core.check_update", "false"]).success();
    let partitions = ["v1", "v2", "v3"].map(|name| format!("dataset_partitions/{name}"));
    let [v1, v2, v3] = partitions.each_ref().map(String::as_str);
    project.call(dvc, &["add", "-q", v1, v2, v3]).success();
    git(project, &["config", "user.name", "test"]);
    git(project, &["config", "user.email", "test@localhost"]);
    git(project, &["add", "-A"]);
    git(project, &["commit", "-q", "-m", "a project"]);
}

fn git(project: &Project, arguments: &[&str]) -> String {
    project.call(Path::new("git"), arguments).success().stdout
}

#[test]
fn dvc_experiments_give_the_same_files() {
    let Some(dvc) = dvc() else { return };
    let project = project("[grid]\nrandom_seed = [1, 2]\n");
    with_dvc(&project, &dvc);
    let engine = ["experiments", "run", "--engine", "dvc", "-j", "2"];

    project.edit("params.yaml", "momentum: 0.9 ", "momentum: 0.8 ");
    project.run(&engine).failure(FAILURE, &["params.yaml", "commit or stash"]);
    git(&project, &["checkout", "-q", "."]);
    git(&project, &["checkout", "-q", "--detach"]);
    project.run(&engine).failure(FAILURE, &["HEAD is detached", "git switch"]);
    git(&project, &["switch", "-q", "-"]);

    project.run(&engine).success();
    let refs = git(&project, &["for-each-ref", "--format=%(refname)", "refs/exps"]);
    for name in ["v1-seed1", "v1-seed2"] {
        assert_eq!(refs.lines().filter(|l| l.ends_with(&format!("/{name}"))).count(), 1, "{refs}");
    }
    let status = git(&project, &["status", "--porcelain", "--untracked-files=no"]);
    assert!(status.lines().all(|l| l.ends_with("dvc.lock")), "the working tree is unchanged: {status}");
    assert!(!git(&project, &["symbolic-ref", "HEAD"]).is_empty(), "HEAD is a branch");
    let with_dvc = results(&project);

    // Existing experiments are only fetched.
    std::fs::remove_dir_all(project.path("experiments/runs")).expect("results");
    project.run(&engine).success();
    assert!(results(&project) == with_dvc);
    assert_eq!(git(&project, &["for-each-ref", "--format=%(refname)", "refs/exps"]), refs);
    std::fs::remove_dir_all(project.path("experiments/runs")).expect("results");
    std::fs::remove_dir_all(project.path(".cifar/checkpoints")).expect("checkpoints");
    project.run(&local(&[])).success();
    assert!(results(&project) == with_dvc, "local runs have the same bytes");

    // A name that already belongs to another run.
    std::fs::remove_dir_all(project.path("experiments/runs")).expect("results");
    project.edit("params.yaml", "momentum: 0.9 ", "momentum: 0.8 ");
    git(&project, &["commit", "-q", "-a", "-m", "another momentum"]);
    let parts = ["an experiment called v1-seed1 exists with other parameters", "dvc exp remove v1-seed1"];
    project.run(&engine).failure(FAILURE, &parts);
}

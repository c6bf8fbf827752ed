//! An interrupted training run resumes and produces identical files. It never resumes from a
//! checkpoint of another run.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use cifar_e2e::{Answer, Project, binary, tree};

/// Exit status of invalid parameters or usage.
const USAGE: i32 = 2;
/// Exit status of any other error.
const FAILURE: i32 = 1;

/// A prepared project that trains for 12 epochs of 7 steps, which takes some seconds. Its
/// checkpoint has everything that one can have: an optimiser with momentum, averaged weights, best
/// weights, running statistics, dropout and every augmentation.
pub(crate) fn prepared() -> Project {
    let project = Project::new();
    project.run(&["partition", "--source", "synthetic", "--synthetic-images", "300"]).success();
    for (from, to) in [
        ("dataset_version: v1", "dataset_version: v1+v2+v3"),
        ("widths: [32, 64, 128]", "widths: [16, 16, 32]"),
        ("epochs: 2", "epochs: 12"),
        ("averaging: none", "averaging: ema"),
        ("cutout: 0", "cutout: 6"),
        ("mixup: 0.0", "mixup: 0.4"),
        ("dynamics_fraction: 0.0", "dynamics_fraction: 1.0"),
        ("brightness: 0.0", "brightness: 0.1"),
        ("contrast: 0.0", "contrast: 0.1"),
        ("clip_norm: 0.0", "clip_norm: 5.0"),
    ] {
        project.edit("params.yaml", from, to);
    }
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    project
}

/// Creates the same project trained for two epochs, and returns the resulting files.
fn trained() -> (Project, BTreeMap<PathBuf, Vec<u8>>) {
    let project = prepared();
    project.edit("params.yaml", "epochs: 12", "epochs: 2");
    project.run(&["train"]).success();
    let expected = tree(&project.path("models/final"));
    (project, expected)
}

/// Returns the path of the only checkpoint.
fn checkpoint(project: &Project) -> PathBuf {
    let folder = project.path(".cifar/checkpoints");
    let found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of checkpoints")
        .map(|entry| entry.expect("an entry").path().join("checkpoint.safetensors"))
        .filter(|path| path.is_file())
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// Returns the names of incomplete files under `.cifar`.
fn unfinished(project: &Project) -> Vec<PathBuf> {
    let is_partial = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".partial-"));
    tree(&project.path(".cifar")).into_keys().filter(is_partial).collect()
}

/// Starts a run and kills it `delay` after it has written a checkpoint. Returns its standard error.
pub(crate) fn kill_after_a_checkpoint(project: &Project, arguments: &[&str], delay: Duration) -> String {
    // Each checkpoint is a new file that replaces the old one.
    let checkpoints = || -> Vec<(u64, i64, i64)> {
        let folders = std::fs::read_dir(project.path(".cifar/checkpoints")).into_iter().flatten().flatten();
        let files = folders.filter_map(|folder| folder.path().join("checkpoint.safetensors").metadata().ok());
        files.map(|file| (file.ino(), file.mtime(), file.mtime_nsec())).collect()
    };
    let before = checkpoints();
    let mut child = start(project, arguments);
    let started = Instant::now();
    while checkpoints() == before {
        assert!(child.try_wait().expect("a state").is_none(), "the run ended before its first checkpoint");
        assert!(started.elapsed() < Duration::from_mins(2), "no checkpoint in two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(delay);
    child.kill().expect("a process to kill");
    String::from_utf8_lossy(&child.wait_with_output().expect("an end").stderr).into_owned()
}

fn start(project: &Project, arguments: &[&str]) -> Child {
    let mut command = project.command(&binary(), arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Returns the steps after which the program reports that it resumes.
pub(crate) fn steps_behind(answer: &str) -> usize {
    let line = answer.lines().find_map(|line| line.strip_prefix("resuming after step "));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Interrupts a run in progress, as Ctrl-C does, with the kernels of ISA `arm` if given.
fn interrupt(project: &Project, arm: Option<&str>) {
    let mut command = project.command(&binary(), &["train", "--json"]);
    if let Some(arm) = arm {
        command.env("CIFAR_ISA", arm);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("the first epoch");
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill starts").success());
    assert_eq!(child.wait().expect("an end").code(), Some(130));
}

#[test]
fn ten_kills_give_the_files_of_an_uninterrupted_run() {
    let project = prepared();
    project.run(&["train"]).success();
    let (model, metrics) = (tree(&project.path("models/final")), project.json("models/final/metrics.json"));
    project.run(&["clean"]).success();
    assert!(!project.path(".cifar/checkpoints").exists());
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();

    // Different delays, from a small generator of random numbers (Marsaglia's xorshift).
    let mut state = 0x9e37_79b9_u32;
    let mut behind = Vec::new();
    let threads = ["1", "2", "3"];
    for round in 0..10 {
        let arguments = ["--threads", threads[round % 3], "train", "--checkpoint-every", "0"];
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // During a step, or while a checkpoint is written.
        let delay = Duration::from_micros(u64::from(state % 30_000));
        behind.push(steps_behind(&kill_after_a_checkpoint(&project, &arguments, delay)));
    }
    assert!(behind[0] == 0 && behind.is_sorted_by(|a, b| a < b), "a process resumed from an earlier step: {behind:?}");
    // Mimics a kill during a write.
    let begun = checkpoint(&project).with_file_name(".partial-Ab12Cd");
    std::fs::write(&begun, b"half").unwrap();
    let last = project.run(&["--threads", "2", "train"]).success();
    assert!(steps_behind(&last.stderr) > 0, "{last:#?}");
    assert!(unfinished(&project).is_empty(), "{:?}", unfinished(&project));
    assert!(
        tree(&project.path("models/final")) == model,
        "{behind:?}: {metrics} against {}",
        project.json("models/final/metrics.json")
    );
}

/// A file can be where a folder is expected, by mistake or because of another program.
#[test]
fn files_in_place_of_folders_are_replaced_and_removed() {
    let project = Project::with_partitions();
    project.write("data/.partial-raw-x", b"1");
    project.write("data/prepared", b"1");
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    assert!(!project.path("data/.partial-raw-x").exists());
    assert!(project.path("data/prepared/report.json").is_file());
    for place in ["models", "evaluation", ".cifar/checkpoints", ".cifar/tune", ".cifar/study"] {
        project.write(place, b"1");
    }
    project.run(&["clean"]).success();
    for place in ["data", "models", "evaluation", ".cifar/checkpoints", ".cifar/tune", ".cifar/study"] {
        assert!(!project.path(place).exists(), "{place}");
    }
}

#[test]
fn muon_and_lookahead_resume_exactly() {
    let project = prepared();
    for (from, to) in
        [("architecture: simple_cnn", "architecture: airbench94"), ("widths: [16, 16, 32]", "widths: [16, 16, 16]")]
    {
        project.edit("params.yaml", from, to);
    }
    for (from, to) in [
        ("dropout: 0.3", "dropout: 0.0"),
        ("optimiser: sgd", "optimiser: muon"),
        ("averaging: ema", "averaging: lookahead"),
        ("flip: random", "flip: alternating"),
        ("epochs: 12", "epochs: 6"),
    ] {
        project.edit("params.yaml", from, to);
    }
    project.run(&["train"]).success();
    let expected = tree(&project.path("models/final"));
    project.run(&["train", "--fresh"]).success();
    assert!(tree(&project.path("models/final")) == expected);
    std::fs::remove_dir_all(project.path(".cifar/checkpoints")).unwrap();
    for (threads, begins) in [("1", true), ("2", false), ("3", false)] {
        let arguments = ["--threads", threads, "train", "--checkpoint-every", "0"];
        let told = kill_after_a_checkpoint(&project, &arguments, Duration::ZERO);
        assert_eq!(steps_behind(&told) == 0, begins, "{threads} threads: {told}");
    }
    let last = project.run(&["--threads", "1", "train"]).success();
    assert!(steps_behind(&last.stderr) > 2, "{last:#?}");
    assert!(tree(&project.path("models/final")) == expected);
}

#[test]
fn a_finished_run_is_retrained_only_on_request() {
    let (project, expected) = trained();
    std::fs::remove_dir_all(project.path("models")).unwrap();
    let again = project.run(&["train"]).success();
    assert!(again.stderr.contains("this run is already finished"), "{again:#?}");
    assert!(tree(&project.path("models/final")) == expected, "every file is rewritten");
    let fresh = project.run(&["train", "--fresh"]).success();
    assert!(!fresh.stderr.contains("this run is already finished"), "{fresh:#?}");
    assert!(tree(&project.path("models/final")) == expected);
}

#[test]
fn a_checkpoint_of_another_run_is_never_used() {
    let project = prepared();
    interrupt(&project, None);
    let path = checkpoint(&project);
    let good = std::fs::read(&path).unwrap();
    let started_over = |contents: &[u8], message: &str| {
        std::fs::write(&path, contents).unwrap();
        let answer = project.run(&["train"]).success();
        let warning = answer.stderr.lines().find(|line| line.starts_with("warning: ")).unwrap_or_default();
        for part in ["checkpoint.safetensors: ", message, "it is renamed to checkpoint.damaged.safetensors"] {
            assert!(warning.contains(part), "{part}: {answer:#?}");
        }
        assert_eq!(steps_behind(&answer.stderr), 0, "{answer:#?}");
        assert!(std::fs::read(path.with_file_name("checkpoint.damaged.safetensors")).unwrap() == contents);
    };
    started_over(&good[..good.len() / 2], "is damaged or cut short");
    let expected = tree(&project.path("models/final"));
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    started_over(&flipped, "does not match the hash that it carries");
    let text = b"\\\"schema\\\":4";
    let at = good.windows(text.len()).position(|w| w == text).expect("the schema");
    let mut newer = good.clone();
    newer[at + text.len() - 1] = b'9';
    started_over(&newer, "has schema 9, this program reads schema 4");
    assert!(tree(&project.path("models/final")) == expected, "the outcome does not depend on the checkpoint");
    std::fs::write(&path, &good).unwrap();
    let answer = project.run(&["train"]).success();
    assert!(steps_behind(&answer.stderr) > 0 && tree(&project.path("models/final")) == expected, "{answer:#?}");
}

/// Other instructions give different bits.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_checkpoint_of_another_numeric_target_is_refused_by_default() {
    if !std::is_x86_feature_detected!("avx2") || !std::is_x86_feature_detected!("fma") {
        cifar_e2e::note("skipped: this machine supports only the portable kernels");
        return;
    }
    let project = prepared();
    interrupt(&project, Some("portable"));
    let refused = || {
        let advice = ["`cifar-cli train --allow-mixed-isa`", "`cifar-cli train --fresh`"];
        let answer = project.run(&["train"]).failure(FAILURE, &["checkpoint.safetensors: was written with"]);
        assert!(advice.iter().all(|part| answer.stderr.contains(part)), "{answer:#?}");
        answer.stderr
    };
    assert!(refused().contains("set CIFAR_ISA to resume"));
    let answer = project.run(&["train", "--allow-mixed-isa"]).success();
    assert!(steps_behind(&answer.stderr) > 0, "{answer:#?}");
    // A run that mixed kernels stays marked as mixed.
    let answer = refused();
    assert!(answer.contains("portable") && answer.contains(" and ") && !answer.contains("CIFAR_ISA"), "{answer}");
    project.run(&["train", "--allow-mixed-isa"]).success();
    project.run(&["train", "--fresh"]).success();
    project.run(&["train"]).success();
    // Opening a finished run adds nothing to its record.
    let mut other = project.command(&binary(), &["train", "--allow-mixed-isa"]);
    other.env("CIFAR_ISA", "portable");
    Answer::of(other.output().expect("the program starts")).success();
    project.run(&["train"]).success();
}

#[test]
fn other_parameters_data_or_seeds_restart_training() {
    let project = prepared();
    interrupt(&project, None);
    let first = checkpoint(&project);
    let bytes = std::fs::read(&first).unwrap();
    for (from, to) in [
        ("learning_rate: 0.1 ", "learning_rate: 0.05 "),
        ("random_seed: 42", "random_seed: 43"),
        ("widths: [16, 16, 32]", "widths: [16, 16, 24]"),
    ] {
        let good = project.read("params.yaml");
        project.edit("params.yaml", from, to);
        project.edit("params.yaml", "epochs: 12", "epochs: 1");
        let answer = project.run(&["train"]).success();
        assert_eq!(steps_behind(&answer.stderr), 0, "{to}");
        project.write("params.yaml", &good);
    }
    // A training image gets another label.
    let split = String::from_utf8(project.read("data/prepared/split.csv")).unwrap();
    let row = split.lines().find(|line| line.split(',').nth(1) == Some("train")).expect("a training image");
    let fields: Vec<&str> = row.split(',').collect();
    let other = if fields[3] == "ring" { "star" } else { "ring" };
    let overrides = project.read("labels/overrides.csv");
    project.write("labels/overrides.csv", format!("id,label\n{},{other}\n", fields[0]).as_bytes());
    project.run(&["prepare"]).success();
    let good = project.read("params.yaml");
    project.edit("params.yaml", "epochs: 12", "epochs: 1");
    let one_epoch = |program: &Path| {
        let answer = project.call(program, &["train", "--checkpoint-every", "0"]).success();
        assert_eq!(steps_behind(&answer.stderr), 0, "{answer:#?}");
        assert!(!answer.stderr.contains("this run is already finished"), "{answer:#?}");
    };
    one_epoch(&binary());
    // With the label restored, it is the first run's data again, but for another program.
    project.write("labels/overrides.csv", &overrides);
    project.run(&["prepare"]).success();
    one_epoch(&binary());
    let program = project.path("bin/cifar-cli");
    std::fs::create_dir(project.path("bin")).unwrap();
    std::fs::copy(binary(), &program).unwrap();
    project.write("bin/train_model.fingerprint", b"another program");
    one_epoch(&program);
    let answer = project.call(&program, &["train"]).success();
    assert!(answer.stderr.contains("this run is already finished"), "the run finds its own checkpoint: {answer:#?}");
    project.write("params.yaml", &good);
    assert!(std::fs::read(&first).unwrap() == bytes, "the interrupted run keeps its checkpoint");

    // A checkpoint in another run's place is detected.
    project.edit("params.yaml", "learning_rate: 0.1 ", "learning_rate: 0.05 ");
    interrupt(&project, None);
    let folders = std::fs::read_dir(project.path(".cifar/checkpoints")).unwrap().map(|e| e.unwrap().path());
    for folder in folders.filter(|folder| !first.starts_with(folder)) {
        std::fs::write(folder.join("checkpoint.safetensors"), &bytes).unwrap();
    }
    let answer = project.run(&["train"]).success();
    let words = "checkpoint.safetensors: belongs to a run with other parameters, data or program; it is renamed to";
    assert!(answer.stderr.contains(words) && steps_behind(&answer.stderr) == 0, "{answer:#?}");
}

/// A limit on file size mimics a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_gives_a_warning_and_no_checkpoint() {
    let project = prepared();
    project.run(&["train"]).success();
    let expected = tree(&project.path("models/final"));
    std::fs::remove_dir_all(project.path(".cifar/checkpoints")).unwrap();
    interrupt(&project, None);
    let path = checkpoint(&project);
    let before = std::fs::read(&path).unwrap();
    let script = format!("trap '' XFSZ; ulimit -f 64; exec '{}' train --checkpoint-every 0", binary().display());
    let answer = project.call("sh".as_ref(), &["-c", &script]);
    let answer = answer.failure(FAILURE, &["models/final/model.safetensors"]);
    let warnings: Vec<&str> = answer.stderr.lines().filter(|l| l.starts_with("warning: ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("the earlier checkpoint stays"), "{answer:#?}");
    assert!(std::fs::read(&path).unwrap() == before);
    assert!(tree(&project.path("models/final")) == expected, "the old model is unchanged");
    project.run(&["train"]).success();
    assert!(tree(&project.path("models/final")) == expected);
}

#[test]
fn a_diverging_loss_keeps_the_last_good_checkpoint() {
    let project = prepared();
    project.edit("params.yaml", "learning_rate: 0.1 ", "learning_rate: 50000.0 ");
    project.edit("params.yaml", "weight_decay: 0.0005", "weight_decay: 0.0");
    project.edit("params.yaml", "warmup_epochs: 1.0", "warmup_epochs: 12.0");
    project.edit("params.yaml", "clip_norm: 5.0", "clip_norm: 0.0");
    let answer = project.run(&["train", "--checkpoint-every", "0"]);
    let answer = answer.failure(FAILURE, &["the last good checkpoint, after step ", "at step", "learning rate"]);
    let path = checkpoint(&project);
    assert!(answer.stderr.contains(&path.file_name().unwrap().to_string_lossy().into_owned()));
    assert!(!project.path("models/final/model.safetensors").exists());
    // The run can be resumed, with the same outcome.
    let (_, told) = answer.stderr.split_once("after step ").unwrap();
    let step: usize = told.split(',').next().unwrap().parse().unwrap();
    let again = project.run(&["train", "--checkpoint-every", "0"]).failure(FAILURE, &["at step"]);
    assert_eq!(steps_behind(&again.stderr), step, "{again:#?}");
}

#[test]
fn early_stopping_ends_a_run_and_needs_validation_images() {
    let project = prepared();
    project.edit("params.yaml", "early_stopping: 0", "early_stopping: 1");
    project.run(&["train"]).success();
    let metrics = project.json("models/final/metrics.json");
    let (epochs, best) = (metrics["step"].as_u64().unwrap(), metrics["selected"]["epoch"].as_u64().unwrap());
    assert!(epochs < 12 && epochs == best + 1, "{metrics}");
    let answer = project.run(&["train"]).success();
    assert!(answer.stderr.contains("this run is already finished"), "{answer:#?}");
    assert_eq!(project.json("models/final/metrics.json"), metrics);

    project.edit("params.yaml", "val_fraction: 0.125", "val_fraction: 0.0");
    project.edit("params.yaml", "select: best", "select: last");
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    let message = "train.early_stopping: 1 is not allowed; there are no validation images";
    project.run(&["train"]).failure(USAGE, &[message]);
    // `check` reports this before a run does.
    let answer = project.run(&["check"]);
    assert!(answer.code == Some(FAILURE) && answer.stdout.contains(message), "{answer:#?}");
}

/// Mimics cargo, which deletes a program when it recompiles it while training still runs.
#[cfg(target_os = "linux")]
#[test]
fn training_continues_if_the_program_is_deleted() {
    let (project, expected) = trained();

    let copy = project.path("program");
    std::fs::copy(binary(), &copy).expect("a copy");
    let script = r#"exec 9< "$1"; rm "$1"; exec /proc/self/fd/9 train --fresh"#;
    let program = copy.to_str().expect("a path in UTF-8");
    project.call(&PathBuf::from("sh"), &["-c", script, "sh", program]).success();
    assert!(!copy.exists());
    assert_eq!(expected, tree(&project.path("models/final")));
}

//! Work that does not fit into memory is refused with an estimate, and the estimate is accurate.

use cifar_e2e::{Answer, Project, binary};

const FAILURE: i32 = 1;

/// Returns the number before ` GB` in the first line of `check` that starts with `memory`.
fn estimated_gb(project: &Project) -> f64 {
    let answer = project.run(&["check"]).success();
    let line = answer.stdout.lines().find(|line| line.starts_with("memory")).expect("a line about memory");
    let (_, rest) = line.split_once("takes up to ").expect("an estimate");
    rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// The estimate is above the actual peak, but not far above.
#[cfg(target_os = "linux")]
#[test]
fn the_estimate_bounds_the_memory_of_training() {
    // The peak is reached within two steps, and small batches need few images for these. Each
    // partition has a third of the images; seven tenths of those are for training.
    let few = Project::with_partitions();
    let many = Project::new();
    many.run(&["partition", "--source", "synthetic", "--synthetic-images", "900"]).success();
    many.edit("params.yaml", "dataset_version: v1", "dataset_version: v1+v2+v3");
    let shipped = [&few, &many].map(|project| {
        for command in ["pull", "prepare"] {
            project.run(&[command]).success();
        }
        String::from_utf8(project.read("params.yaml")).expect("text")
    });
    for (recipe, batch) in [
        ("simple_cnn", 32),
        ("simple_cnn", 500),
        ("quick", 32),
        ("quick", 500),
        ("airbench94", 32),
        ("airbench94", 500),
        ("resnet18", 16),
    ] {
        let (project, shipped) = if batch < 100 { (&few, &shipped[0]) } else { (&many, &shipped[1]) };
        project.write("params.yaml", shipped.as_bytes());
        project.run(&["recipe", recipe]).success();
        let text = String::from_utf8(project.read("params.yaml")).expect("text");
        let set = |line: &str| match line.trim_start().split(':').next() {
            Some("epochs") => "  epochs: 1".to_string(),
            Some("warmup_epochs") => "  warmup_epochs: 0".to_string(),
            Some("use_tuned") => "  use_tuned: false".to_string(),
            Some("batch_size") => format!("  batch_size: {batch}"),
            _ => line.to_string(),
        };
        let lines: Vec<String> = text.lines().map(set).collect();
        project.write("params.yaml", (lines.join("\n") + "\n").as_bytes());
        let estimate = estimated_gb(project);
        project.run(&["--threads", "2", "train", "--checkpoint-every", "0"]).success();
        let peak = project.json(".cifar/runs/train.json")["peak_memory_mb"].as_f64().expect("a number") / 1e3;
        // The program itself and the images take about 40 MB, which the estimate does not cover.
        assert!(
            (0.95 * peak..3.0 * peak).contains(&(estimate + 0.04)),
            "{recipe}, {batch}: {estimate} GB estimated, {peak} GB taken"
        );
    }
}

/// Prepares the program with a limit on its address space, in KiB.
fn within(project: &Project, kib: u32, arguments: &[&str]) -> Answer {
    let script = format!("ulimit -v {kib}; exec '{}' --threads 2 {}", binary().display(), arguments.join(" "));
    project.call("sh".as_ref(), &["-c", &script])
}

#[cfg(target_os = "linux")]
#[test]
fn networks_that_do_not_fit_are_refused_before_they_are_built() {
    let project = Project::with_partitions();
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    let good = project.read("params.yaml");
    project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [4096, 4096, 4096]");
    let words = ["of memory; ", " GB are left (limit on the address space (ulimit -v))", "lower train.batch_size"];
    for command in [&["train"][..], &["run"]] {
        within(&project, 4_000_000, command)
            .failure(FAILURE, &[&["training simple_cnn for 2 epochs"], &words[..]].concat());
    }
    let answer = within(&project, 4_000_000, &["check"]);
    assert!(answer.code == Some(FAILURE) && answer.stdout.contains("takes up to "), "{answer:#?}");
    project.write("params.yaml", &good);
    within(&project, 4_000_000, &["train"]).success();
    // With the maximum number of epochs, the recorded logits alone exceed the limit.
    project.edit("params.yaml", "epochs: 2", "epochs: 100000");
    within(&project, 1_000_000, &["train", "--fresh"]).failure(FAILURE, &words);
}

/// Each run of a grid fits alone; concurrent runs have to fit together.
#[cfg(target_os = "linux")]
#[test]
fn concurrent_runs_that_do_not_fit_together_are_refused() {
    let project = Project::with_partitions();
    project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [256, 256, 256]");
    project.edit("params.yaml", "epochs: 2", "epochs: 1");
    let seeds = |seeds: &str| {
        let rest = "dataset_version = ['v1']\ntune.trials = [0]\ntrain.use_tuned = [false]\nhard_images.folds = [0]\n";
        project.write("experiments.toml", format!("[grid]\nrandom_seed = {seeds}\n{rest}").as_bytes());
    };
    let grid = |jobs| within(&project, 1_400_000, &["experiments", "run", "--engine", "local", "--jobs", jobs]);
    seeds("[1, 2, 3]");
    for (jobs, runs) in [("2", 2), ("3", 3), ("200", 3)] {
        let words = format!("training {runs} runs at a time takes about ");
        grid(jobs).failure(FAILURE, &[&words, " GB are left (limit on the address space (ulimit -v)); use --jobs 1"]);
        assert!(!project.path("experiments/runs").exists(), "no run was started");
    }
    // One run at a time fits, although training leaves buffers for reuse.
    seeds("[1]");
    grid("2").success();
}

/// A small file that declares a large network: its actual content is checked first.
#[test]
fn declared_sizes_in_a_model_file_are_not_trusted() {
    let project = Project::with_partitions();
    project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [4, 8, 8]");
    project.run(&["run"]).success();
    let model = project.read("models/final/model.safetensors");
    let length = u64::from_le_bytes(model[..8].try_into().expect("eight bytes")) as usize;
    let header = String::from_utf8(model[8..8 + length].to_vec()).expect("text");
    let with = |from: &str, to: &str| {
        assert!(header.contains(from), "{from}: {header}");
        let header = header.replace(from, to);
        // The author of a crafted file can also write its hash.
        let at = header.find("blake3:").expect("a hash") + "blake3:".len();
        let header = [&header[..at], &"0".repeat(64), &header[at + 64..]].concat();
        let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let mut file = [&(padded.len() as u64).to_le_bytes()[..], padded.as_bytes(), &model[8 + length..]].concat();
        cifar_data::seal::seal(&mut file).expect("a place for the hash");
        file
    };
    for (from, to, words) in [
        (
            "\\\"widths\\\":[4,8,8]",
            "\\\"widths\\\":[4096,4096,4096]",
            "tensor `block1.conv1.weight` is F32 [3, 3, 3, 4], expected F32 [3, 3, 3, 4096]",
        ),
        ("\\\"widths\\\":[4,8,8]", "\\\"widths\\\":[100000,8,8]", "widths: [100000, 8, 8] is not allowed"),
        ("\\\"height\\\":32", "\\\"height\\\":9007199254740992", "at most 65536 pixels per side"),
        ("\\\"height\\\":32", "\\\"height\\\":4096", "tensor `dense.weight` is F32"),
    ] {
        project.write("models/final/model.safetensors", &with(from, to));
        project.run(&["evaluate"]).failure(FAILURE, &["models/final/model.safetensors: ", words]);
    }
}

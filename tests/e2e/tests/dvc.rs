//! The pipeline under the real DVC, in a clone of the repository.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cifar_e2e::{Project, binary, dvc, note, repository, simple_cnn, target};

/// Compiles the clone's crates quickly; they are partly rebuilt several times and train only small
/// networks. No profile of the repository is used, since that would replace its compiled crates.
fn cargo_config() -> String {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let crates = ["cli", "data", "eval", "experiments", "model", "pipeline", "train"];
    let crates = crates.map(|name| format!("cifar-{name} = {{ opt-level = 1 }}\n")).concat();
    let kernels = "cifar-kernels = { opt-level = 2 }";
    format!("[build]\nincremental = true\n[profile.{profile}.package]\n{kernels}\n{crates}")
}

/// Returns the start of the build stage's command, which compiles in the profile of the tests.
fn cargo_run() -> String {
    let option = if cfg!(debug_assertions) { "" } else { " --release" };
    format!("cargo run --locked{option} --quiet -p cifar-cli --")
}

/// Creates a git repository with the working tree's files and partitions of the committed synthetic
/// dataset, with DVC on the path.
struct Clone {
    project: Project,
    dvc: PathBuf,
}

impl Clone {
    fn new(dvc: PathBuf) -> Self {
        let project = Project::new();
        let root = repository();
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).current_dir(&root).output().expect("git starts");
            output.status.success().then_some(output.stdout)
        };
        let listed =
            git(&["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).expect("git lists the files");
        for file in String::from_utf8(listed).expect("names are UTF-8").split_terminator('\0') {
            // In the working tree these files describe the user's own data. The test uses the
            // committed ones.
            let bytes = if file.starts_with("dataset_partitions/") || file == "dvc.lock" {
                git(&["show", &format!("HEAD:{file}")])
            } else {
                std::fs::read(root.join(file)).ok()
            };
            if let Some(bytes) = bytes {
                project.write(file, &bytes);
            }
        }
        project.write("params.yaml", simple_cnn().as_bytes());
        project.edit("params.yaml", "epochs: 15", "epochs: 2");
        project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [8, 16, 16]");
        project.write(".cargo/config.toml", cargo_config().as_bytes());
        project.edit("dvc.yaml", "cargo run --locked --release --quiet -p cifar-cli --", &cargo_run());
        let clone = Self { project, dvc };
        for arguments in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "a clone"]] {
            clone.git(arguments);
        }
        clone
    }

    fn git(&self, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
        let arguments: Vec<&str> = identity.iter().chain(arguments).copied().collect();
        self.project.call(Path::new("git"), &arguments).success().stdout
    }

    /// Prepares a DVC command. The build stage shares the tests' compiled dependencies. The program
    /// that it builds from edited sources stays in the clone.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(&self.dvc, arguments);
        command.env_remove("CARGO_TARGET_DIR").env("CARGO_BUILD_BUILD_DIR", target());
        // `cargo test` sets it, and dependencies that read it would be rebuilt.
        command.env_remove("CARGO_MANIFEST_DIR").env("DVC_NO_ANALYTICS", "1");
        // A queue worker starts `dvc` by name.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let bin = self.dvc.parent().expect("DVC lies in a folder").to_path_buf();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)));
        command.env("PATH", path.expect("folders without colons"));
        for (key, value) in [
            ("GIT_AUTHOR_NAME", "test"),
            ("GIT_AUTHOR_EMAIL", "test@localhost"),
            ("GIT_COMMITTER_NAME", "test"),
            ("GIT_COMMITTER_EMAIL", "test@localhost"),
        ] {
            command.env(key, value);
        }
        command
    }

    /// Runs DVC and returns its standard output.
    fn dvc(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("DVC starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "dvc {arguments:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn rows(&self, file: &str) -> usize {
        String::from_utf8(self.project.read(file)).expect("a table is UTF-8").lines().count() - 1
    }
}

#[test]
fn the_pipeline_and_experiments_run_under_dvc() {
    let Some(dvc) = dvc() else { return };
    let clone = Clone::new(dvc);

    // The synthetic dataset's partitions match the committed .dvc files on every machine.
    clone.project.run(&["partition", "--source", "synthetic"]).success();
    clone.dvc(&["add", "--quiet", "dataset_partitions/v1", "dataset_partitions/v2", "dataset_partitions/v3"]);
    assert_eq!(clone.git(&["status", "--porcelain"]), "", "dvc add changes no committed file");

    clone.dvc(&["repro"]);
    let again = clone.dvc(&["repro"]);
    assert!(again.contains("Data and pipelines are up to date"), "{again}");
    assert_eq!(clone.rows("data/raw/manifest.csv"), 2000);
    assert!(clone.git(&["status", "--porcelain"]).lines().all(|l| l.ends_with("dvc.lock")), "only dvc.lock changes");
    clone.git(&["add", "-A"]);
    clone.git(&["commit", "-q", "-m", "results of v1"]);

    let show = clone.dvc(&["metrics", "show", "--json"]);
    assert!(show.contains("\"accuracy\""), "{show}");
    clone.dvc(&["plots", "show"]);
    let plots = String::from_utf8(clone.project.read("dvc_plots/index.html")).unwrap();
    assert!(plots.contains("confusion_matrix.png") && plots.contains("accuracy"), "the page has images and curves");

    comments_retrain_nothing(&clone);
    reports_retrain_nothing(&clone);
    take_the_built_program(&clone);
    experiments(&clone);
    killed_experiments_go_on(&clone);
}

fn comments_retrain_nothing(clone: &Clone) {
    let file = "crates/cifar-train/src/fit.rs";
    let good = clone.project.read(file);
    clone.project.edit(file, "//! Trains a network", "//! This file trains a network");
    let output = clone.dvc(&["repro"]);
    assert!(output.contains("Running stage 'build'") && !output.contains("Running stage 'train_model'"), "{output}");
    clone.project.write(file, &good);
}

fn reports_retrain_nothing(clone: &Clone) {
    let file = "crates/cifar-eval/src/interval.rs";
    let good = clone.project.read(file);
    clone.project.write(file, &[good.as_slice(), b"\n/// One more item.\npub const ONE_MORE: u8 = 1;\n"].concat());
    let output = clone.dvc(&["repro"]);
    assert!(
        output.contains("Running stage 'evaluate_model'") && !output.contains("Running stage 'train_model'"),
        "{output}"
    );
    clone.project.write(file, &good);
    clone.dvc(&["repro"]);
}

/// From here on the first stage copies the tests' own program. DVC's temporary copy of the project
/// would compile it again.
fn take_the_built_program(clone: &Clone) {
    clone.project.edit("dvc.yaml", &cargo_run(), binary().to_str().expect("a path in UTF-8"));
    clone.dvc(&["repro"]);
    clone.git(&["commit", "-q", "-a", "-m", "a program that is built elsewhere"]);
}

fn experiments(clone: &Clone) {
    clone.dvc(&["exp", "run", "-n", "both", "-S", "dataset_version=v1+v2"]);
    assert_eq!(clone.rows("data/raw/manifest.csv"), 4000);
    let diff = clone.dvc(&["metrics", "diff"]);
    assert!(diff.contains("accuracy"), "{diff}");
    let diff = clone.dvc(&["params", "diff"]);
    assert!(diff.contains("dataset_version") && diff.contains("v1+v2"), "{diff}");

    clone.git(&["checkout", "-q", "."]);
    clone.dvc(&["checkout", "--quiet"]);
    clone.dvc(&["exp", "run", "--temp", "-n", "aside", "-S", "train.epochs=1"]);
    clone.dvc(&["exp", "run", "--queue", "-n", "queued", "-S", "random_seed=7", "-S", "train.epochs=1"]);
    clone.dvc(&["queue", "start"]);
    for _ in 0..300 {
        let status = clone.dvc(&["queue", "status"]);
        if status.contains("Success") || status.contains("Failed") {
            note(&status);
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let table = clone.dvc(&["exp", "show", "--csv"]);
    for name in ["both", "aside", "queued"] {
        let row =
            table.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name} is missing in\n{table}"));
        assert!(!row.contains("Error") && !row.contains("Queued"), "{row}");
    }
    assert!(table.lines().next().expect("a header").contains("test.accuracy"), "{table}");
}

/// A stage that is killed with its DVC process resumes when the same experiment or pipeline is run
/// again, in the project and in a temporary copy of it.
fn killed_experiments_go_on(clone: &Clone) {
    clone.git(&["checkout", "-q", "."]);
    clone.project.edit("dvc.yaml", "cmd: bin/cifar-cli train\n", "cmd: bin/cifar-cli train --checkpoint-every 0\n");
    clone.project.edit("params.yaml", "  epochs: 2", "  epochs: 4");
    clone.git(&["commit", "-q", "-a", "-m", "checkpoints behind every step"]);
    for arguments in
        [&["exp", "run", "-S", "random_seed=11"][..], &["exp", "run", "-S", "random_seed=12", "--temp"], &["repro"]]
    {
        if arguments == ["repro"] {
            clone.git(&["checkout", "-q", "."]);
            clone.project.edit("params.yaml", "random_seed: 42", "random_seed: 13");
        }
        let before = checkpoints(clone);
        let mut command = clone.command(arguments);
        let mut child =
            command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("DVC starts");
        let started = Instant::now();
        while checkpoints(clone) == before {
            assert!(started.elapsed() < Duration::from_mins(2), "no checkpoint in two minutes");
            std::thread::sleep(Duration::from_millis(20));
        }
        let group = format!("-{}", child.id());
        assert!(Command::new("kill").args(["-9", "--", &group]).status().expect("kill starts").success());
        child.wait().expect("an end");

        let output = clone.command(arguments).output().expect("DVC starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains("resuming after step"), "{arguments:?}\n{stderr}");
    }
}

/// Returns the number of checkpoints in the project.
fn checkpoints(clone: &Clone) -> usize {
    let folders = std::fs::read_dir(clone.project.path(".cifar/checkpoints")).into_iter().flatten().flatten();
    folders.filter(|folder| folder.path().join("checkpoint.safetensors").is_file()).count()
}

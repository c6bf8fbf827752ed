//! Shared by the end-to-end tests: a project in a temporary folder, the real binary, and the real
//! DVC, browser and Slurm.
#![expect(
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    reason = "test support panics where a test fails"
)]

pub mod browser;
pub mod slurm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use cifar_pipeline::stages::recipe::with_recipe;

/// Returns the root of the repository under test.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("tests/e2e is two folders below the repository").to_path_buf()
}

/// Returns cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Returns the program, built in the same profile as the tests.
pub fn binary() -> PathBuf {
    let (folder, option) = if cfg!(debug_assertions) { ("debug", "") } else { ("release", " --release") };
    let path = target().join(folder).join("cifar-cli");
    assert!(path.is_file(), "{} is missing; build it first: cargo build{option} -p cifar-cli", path.display());
    path
}

/// Returns the path of DVC. Prints the reason and returns `None` if it is missing; in CI this is a
/// failure.
pub fn dvc() -> Option<PathBuf> {
    let path = std::env::var_os("CIFAR_DVC").map_or_else(|| repository().join(".venv/bin/dvc"), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    let reason = format!("{} is missing; scripts/dvc.sh installs it", path.display());
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    note(&format!("skipped: {reason}"));
    None
}

/// Returns the path of a Python with ONNX Runtime, NumPy, pandas and safetensors. Prints the reason
/// and returns `None` if it is missing; in CI this is a failure.
pub fn python() -> Option<PathBuf> {
    let path =
        std::env::var_os("CIFAR_PYTHON").map_or_else(|| repository().join(".venv-python/bin/python"), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    let reason = format!("{} is missing; scripts/python.sh installs it", path.display());
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    note(&format!("skipped: {reason}"));
    None
}

/// Prints a note for the reader of a test run.
pub fn note(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The result of a program.
#[derive(Debug)]
pub struct Answer {
    /// Exit status, or `None` if a signal ended the program.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Converts the output of a program that has ended.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Fails the test unless the program succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Fails the test unless the program ended with `code` and one line `error: …` that contains
    /// all of `parts`.
    #[track_caller]
    pub fn failure(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let errors: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{self:#?}");
        for part in parts {
            assert!(errors[0].contains(part), "{part:?} is not in {:?}", errors[0]);
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}

/// The ranges that tests of the search know, for `simple_cnn`.
const SPACE: &str = "  space:
    train.learning_rate: {log_uniform: [0.02, 0.5]}
    train.weight_decay: {log_uniform: [0.0001, 0.02]}
    train.label_smoothing: {uniform: [0.0, 0.2]}
    model.dropout: {uniform: [0.0, 0.5]}
";

/// Returns the repository's params.yaml with the recipe `simple_cnn` and ranges that suit it. Tests
/// name its values.
pub fn simple_cnn() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        let text = std::fs::read_to_string(repository().join("params.yaml")).expect("the repository's own file");
        let text = with_recipe(&text, "simple_cnn").expect("a recipe and a valid file");
        let (before, rest) = text.split_once("  space:\n").expect("the ranges of the search");
        let (_, after) = rest.split_once("\n\n").expect("another block");
        format!("{before}{SPACE}\n{after}")
    })
}

/// A project in its own temporary folder.
#[derive(Debug)]
pub struct Project {
    folder: tempfile::TempDir,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// Creates a project with the repository's labels, and its params.yaml with the recipe
    /// `simple_cnn` for two epochs, which trains in seconds.
    pub fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::create_dir(project.path("labels")).expect("a folder for labels");
        for file in ["labels/overrides.csv", "labels/review.csv"] {
            std::fs::copy(repository().join(file), project.path(file)).expect("the repository's own files");
        }
        project.write("params.yaml", simple_cnn().as_bytes());
        project.edit("params.yaml", "epochs: 15", "epochs: 2");
        project.edit("params.yaml", "batch_size: 128", "batch_size: 32");
        project
    }

    /// Creates a project with a small partitioned synthetic dataset.
    pub fn with_partitions() -> Self {
        static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
        Self::copy_of(&FILES, || {
            let project = Self::new();
            project.run(&["partition", "--source", "synthetic", "--synthetic-images", "450"]).success();
            project
        })
    }

    /// Creates a project with that dataset and the results of all stages.
    pub fn finished() -> Self {
        static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
        Self::copy_of(&FILES, || {
            let project = Self::with_partitions();
            project.run(&["run"]).success();
            project
        })
    }

    /// Copies what `make` builds, once per test process, into a new folder.
    fn copy_of(files: &OnceLock<BTreeMap<PathBuf, Vec<u8>>>, make: impl FnOnce() -> Self) -> Self {
        let copy = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        for (path, bytes) in files.get_or_init(|| tree(make().folder.path())) {
            copy.write(path.to_str().expect("a path in UTF-8"), bytes);
        }
        copy
    }

    /// Returns a path under the project.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Reads a file.
    #[track_caller]
    pub fn read(&self, relative: &str) -> Vec<u8> {
        std::fs::read(self.path(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
    }

    /// Reads a file as JSON.
    #[track_caller]
    pub fn json(&self, relative: &str) -> serde_json::Value {
        serde_json::from_slice(&self.read(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
    }

    /// Writes a file and creates its parent folders.
    pub fn write(&self, relative: &str, contents: &[u8]) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
        std::fs::write(path, contents).expect("a file");
    }

    /// Replaces a text, which must occur in the file.
    #[track_caller]
    pub fn edit(&self, relative: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.read(relative)).expect("a text file");
        assert!(text.contains(from), "{from:?} is not in {relative}");
        self.write(relative, text.replace(from, to).as_bytes());
    }

    /// Runs the program in the project.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(&binary(), arguments).output().expect("the program starts"))
    }

    /// Runs any program in the project.
    pub fn call(&self, program: &Path, arguments: &[&str]) -> Answer {
        Answer::of(self.command(program, arguments).output().expect("the program starts"))
    }

    /// Prepares a program to start in the project.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        command
    }
}

/// Returns every file under `folder` by relative path, with its bytes.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let relative = path.strip_prefix(root).expect("below the root").to_path_buf();
                found.insert(relative, std::fs::read(&path).expect("a readable file"));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

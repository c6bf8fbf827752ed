//! A new project: the files that a folder needs before the first stage runs.

use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::output::write_file;
use serde::Serialize;

use crate::{Context as _, Result};

const PARAMS: &str = include_str!("init/params.yaml");
// Not called dvc.yaml, since DVC would take it for a pipeline of the repository.
const DVC: &str = include_str!("init/pipeline.yaml");
const IGNORED: &str = "/.cifar\n/.venv\n/bin\n/cifar10_dataset\n/data\n/dataset_partitions/synthetic_truth.csv\n\
                       /evaluation\n/experiments/hard_images\n/experiments/runs\n/export\n/models\n";

/// What `init` wrote.
#[derive(Debug, Serialize)]
pub struct Initialised {
    /// The project's folder.
    pub folder: PathBuf,
    /// Files that were written.
    pub written: Vec<&'static str>,
    /// Files that existed already and were kept.
    pub kept: Vec<&'static str>,
}

/// Writes a new project into `folder`: params.yaml, dvc.yaml, `labels/`, .gitignore and the files
/// of `more`, as (path, text). A file that exists is kept.
///
/// # Errors
/// If a folder or file cannot be written.
pub fn init(folder: &Path, more: &[(&'static str, &str)]) -> Result<Initialised> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    let dvc = without_build(DVC);
    let files = [
        ("params.yaml", PARAMS),
        ("dvc.yaml", dvc.as_str()),
        ("labels/overrides.csv", "id,content,file,label\n"),
        ("labels/review.csv", "id,content,file,decision,label,note\n"),
        (".gitignore", IGNORED),
    ];
    let mut done = Initialised { folder: folder.to_path_buf(), written: Vec::new(), kept: Vec::new() };
    for (name, text) in files.iter().chain(more) {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            done.kept.push(name);
        } else {
            write_file(&path, text.as_bytes())?;
            done.written.push(name);
        }
    }
    Ok(done)
}

/// Returns dvc.yaml for a program that is on the path: without the stage that compiles it, and
/// without the fingerprints of its code, which need its sources.
fn without_build(dvc: &str) -> String {
    let mut text = String::from(
        "# The pipeline. `cifar-cli partition` comes before it, because your images are outside the project.\n\
         # DVC does not see a new version of the program: after an update, use `dvc repro --force`.\nstages:\n",
    );
    let stages = dvc.split_once("\n  pull_data:").map_or("", |(_, stages)| stages);
    text.push_str("  pull_data:");
    for line in stages.split_inclusive('\n').filter(|line| !line.contains(".fingerprint")) {
        text.push_str(&line.replace("bin/cifar-cli", "cifar-cli"));
    }
    text
}

impl fmt::Display for Initialised {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: ", self.folder.display())?;
        let written = if self.written.is_empty() { "nothing".to_string() } else { self.written.join(", ") };
        write!(f, "wrote {written}")?;
        if self.kept.is_empty() { Ok(()) } else { write!(f, "; kept {}", self.kept.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::contract::STAGES;
    use crate::params::Params;

    #[test]
    fn the_files_are_those_of_the_repository() {
        assert_eq!(PARAMS, include_str!("../../../params.yaml"));
        assert_eq!(DVC, include_str!("../../../dvc.yaml"));
    }

    #[test]
    fn a_new_project_is_complete_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("params.yaml"), "mine").unwrap();
        let done = init(folder.path(), &[("experiments.toml", "x")]).unwrap();
        assert_eq!(done.kept, ["params.yaml"]);
        assert_eq!(std::fs::read_to_string(folder.path().join("params.yaml")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(folder.path().join("experiments.toml")).unwrap(), "x");
        std::fs::remove_file(folder.path().join("params.yaml")).unwrap();
        assert_eq!(init(folder.path(), &[]).unwrap().written, ["params.yaml"]);
        Params::read(&folder.path().join("params.yaml"), &cifar_data::partitions::Partition::FIRST).unwrap();
    }

    #[test]
    fn the_new_pipeline_has_every_stage_and_no_fingerprint() {
        let pipeline: Value = serde_saphyr::from_str(&without_build(DVC)).unwrap();
        let stages = pipeline["stages"].as_object().unwrap();
        assert_eq!(stages.len(), STAGES.len());
        for stage in &STAGES {
            assert_eq!(stages[stage.name]["cmd"], format!("cifar-cli {}", stage.command));
            assert_eq!(stages[stage.name]["deps"].as_array().unwrap().len(), stage.deps.len(), "{}", stage.name);
        }
        assert!(pipeline["plots"].is_array());
    }
}

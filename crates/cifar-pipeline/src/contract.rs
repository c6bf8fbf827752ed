//! What each stage of dvc.yaml reads, which parameters it uses and what it writes. A test compares
//! dvc.yaml with it.

use serde_json::Value;

/// What dvc.yaml must state about a stage.
#[derive(Debug)]
pub struct Stage {
    /// Its name in dvc.yaml.
    pub name: &'static str,
    /// The command that it runs.
    pub command: &'static str,
    /// Files and folders that it reads, besides its fingerprint.
    pub deps: &'static [&'static str],
    /// Blocks and keys of params.yaml that it uses. The training recipe of the folds of
    /// `identify_hard_images` is not among them: if it changes, so does the model file that the
    /// stage reads.
    pub params: &'static [&'static str],
    /// The folder that it writes.
    pub out: &'static str,
    /// Crates of the workspace whose sources affect its results, besides its own command.
    pub crates: &'static [&'static str],
    /// Other commands whose code its own command calls.
    pub calls: &'static [&'static str],
}

/// All stages except `build`, in order.
pub const STAGES: [Stage; 7] = [
    Stage {
        name: "pull_data",
        command: "pull",
        deps: &["dataset_partitions/v1", "dataset_partitions/v2", "dataset_partitions/v3"],
        params: &["dataset_version", "split.protocol", "split.split_seed", "split.test_fraction", "split.val_fraction"],
        out: "data/raw",
        crates: &["cifar-data"],
        calls: &[],
    },
    Stage {
        name: "prepare_data",
        command: "prepare",
        deps: &["data/raw", "labels/overrides.csv", "labels/review.csv"],
        params: &["dataset_version", "split"],
        out: "data/prepared",
        crates: &["cifar-data"],
        calls: &[],
    },
    Stage {
        name: "inspect_data",
        command: "inspect",
        deps: &["data/prepared"],
        params: &["dataset_version", "split"],
        out: "evaluation/data",
        crates: &["cifar-data", "cifar-kernels", "cifar-model", "cifar-eval"],
        calls: &[],
    },
    Stage {
        name: "tune",
        command: "tune",
        deps: &[
            "data/prepared/provenance.json",
            "data/prepared/report.json",
            "data/prepared/train",
            "data/prepared/val",
        ],
        params: &["dataset_version", "model", "random_seed", "split", "train", "tune"],
        out: "models/tuning",
        crates: &["cifar-data", "cifar-kernels", "cifar-model", "cifar-train", "cifar-eval"],
        calls: &[],
    },
    Stage {
        name: "train_model",
        command: "train",
        deps: &[
            "data/prepared/provenance.json",
            "data/prepared/report.json",
            "data/prepared/train",
            "data/prepared/val",
            "models/tuning/provenance.json",
            "models/tuning/tuned.json",
        ],
        params: &["dataset_version", "model", "random_seed", "split", "train"],
        out: "models/final",
        crates: &["cifar-data", "cifar-kernels", "cifar-model", "cifar-train"],
        calls: &[],
    },
    Stage {
        name: "evaluate_model",
        command: "evaluate",
        deps: &[
            "data/prepared/provenance.json",
            "data/prepared/report.json",
            "data/prepared/test",
            "data/raw/pool",
            "models/final",
        ],
        params: &["dataset_version", "evaluate", "split"],
        out: "evaluation/test",
        crates: &["cifar-data", "cifar-kernels", "cifar-model", "cifar-train", "cifar-eval"],
        calls: &[],
    },
    Stage {
        name: "identify_hard_images",
        command: "hard-images",
        deps: &["data/prepared", "evaluation/test/predictions.csv", "evaluation/test/provenance.json", "models/final"],
        params: &["dataset_version", "hard_images", "split"],
        out: "evaluation/hard_images",
        crates: &["cifar-data", "cifar-kernels", "cifar-model", "cifar-train", "cifar-eval"],
        calls: &["train"],
    },
];

/// Returns whether the pipeline (the text of dvc.yaml) compiles the program, as that of the
/// repository does. That of a project of its own ([`init()`](crate::init::init)) calls the program
/// on the path.
pub fn compiles_program(pipeline: &str) -> bool {
    serde_saphyr::from_str::<Value>(pipeline).is_ok_and(|pipeline| pipeline["stages"].get("build").is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(list: &Value) -> BTreeSet<String> {
        let name = |entry: &Value| match entry {
            Value::Object(map) => map.keys().next().unwrap().clone(),
            other => other.as_str().unwrap().to_string(),
        };
        list.as_array().unwrap().iter().map(name).collect()
    }

    #[test]
    fn only_the_pipeline_of_the_repository_compiles_the_program() {
        assert!(compiles_program(include_str!("../../../dvc.yaml")));
        let folder = tempfile::tempdir().unwrap();
        crate::init::init(folder.path(), &[]).unwrap();
        assert!(!compiles_program(&std::fs::read_to_string(folder.path().join("dvc.yaml")).unwrap()));
        assert!(!compiles_program("") && !compiles_program("stages: ["));
    }

    fn set<'a>(items: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        items.into_iter().map(str::to_string).collect()
    }

    #[test]
    fn dvc_yaml_agrees_with_the_contract() {
        let pipeline: Value = serde_saphyr::from_str(include_str!("../../../dvc.yaml")).unwrap();
        let stages = pipeline["stages"].as_object().unwrap();
        let expected: Vec<&str> = ["build"].into_iter().chain(STAGES.iter().map(|s| s.name)).collect();
        assert_eq!(stages.keys().collect::<Vec<_>>(), expected);
        for stage in &STAGES {
            let found = &stages[stage.name];
            let fingerprint = format!("bin/{}.fingerprint", stage.name);
            assert_eq!(found["cmd"], format!("bin/cifar-cli {}", stage.command));
            assert_eq!(
                names(&found["deps"]),
                set(stage.deps.iter().copied().chain([fingerprint.as_str()])),
                "{}",
                stage.name
            );
            assert_eq!(names(&found["params"]), set(stage.params.iter().copied()), "{}", stage.name);
            assert_eq!(names(&found["outs"]), set([stage.out]), "{}", stage.name);
            assert!(names(&stages["build"]["outs"]).contains(&fingerprint), "{}", stage.name);
        }
    }
}

//! The stage that reads two results refuses them if they do not belong together, and `check` shows
//! the mismatch. ARCHITECTURE.md lists the pairs; each has one test here.

use cifar_e2e::{Project, tree};

const FAILURE: i32 = 1;

/// A project with the results of every stage, and a copy of its results under other parameters.
struct Pair {
    project: Project,
}

impl Pair {
    /// Runs everything, applies `change` and reruns the stages up to `until`.
    fn new(change: impl Fn(&Project), until: &[&str]) -> Self {
        let project = Project::finished();
        project.run(&["check"]).success();
        change(&project);
        for stage in until {
            project.run(&[stage]).success();
        }
        Self { project }
    }

    /// Checks that `command` refuses with one line that contains these parts and leaves all results
    /// unchanged. `check` must say the same about `what`.
    fn refused(&self, command: &str, parts: &[&str], what: &str) {
        let before = ["data", "models", "evaluation"].map(|folder| tree(&self.project.path(folder)));
        self.project.run(&[command]).failure(FAILURE, parts);
        let after = ["data", "models", "evaluation"].map(|folder| tree(&self.project.path(folder)));
        assert!(before == after, "{command} changed results before it refused");
        let answer = self.project.run(&["check"]);
        assert_eq!(answer.code, Some(FAILURE), "{answer:#?}");
        let line = answer.stdout.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{answer:#?}"));
        assert!(line.contains(" wrong "), "{line}");
    }
}

fn other_split(project: &Project) {
    project.edit("params.yaml", "split_seed: 0", "split_seed: 7");
}

/// The model has trained on some of the new test images.
#[test]
fn a_model_and_another_split() {
    let pair = Pair::new(other_split, &["pull", "prepare"]);
    let parts = ["models/final/model.safetensors", "other training images or labels", "run `cifar-cli train` again"];
    pair.refused("evaluate", &parts, "model ");
    pair.refused("hard-images", &parts, "model ");
}

#[test]
fn a_model_and_other_labels() {
    let relabel = |project: &Project| {
        let prepared = String::from_utf8(project.read("data/prepared/train/manifest.csv")).unwrap();
        let row: Vec<&str> = prepared.lines().nth(1).unwrap().split(',').collect();
        let other = if row[2] == "star" { "cross" } else { "star" };
        project.write("labels/overrides.csv", format!("id,label\n{},{other}\n", row[0]).as_bytes());
    };
    let pair = Pair::new(relabel, &["prepare"]);
    pair.refused("evaluate", &["other training images or labels", "run `cifar-cli train` again"], "model ");
}

#[test]
fn prepared_images_and_changed_labels() {
    let decide = |project: &Project| project.write("labels/review.csv", b"id,decision,label,note\n1,dismiss,,\n");
    let pair = Pair::new(decide, &[]);
    pair.refused("train", &["labels/review.csv", "has changed since", "run `cifar-cli prepare` again"], "prepared ");
}

#[test]
fn pulled_images_and_other_partitions() {
    let recut = |project: &Project| {
        let partition = ["partition", "--source", "synthetic", "--synthetic-images", "480"];
        project.run(&partition).success();
    };
    let pair = Pair::new(recut, &[]);
    let answer = pair.project.run(&["check"]);
    assert_eq!(answer.code, Some(FAILURE));
    let line = answer.stdout.lines().find(|line| line.starts_with("pulled ")).unwrap();
    assert!(line.contains("was not made from these partitions; run `cifar-cli pull` again"), "{line}");
}

#[test]
fn partitions_of_two_datasets() {
    let mix = |project: &Project| {
        let other = Project::new();
        other.run(&["partition", "--source", "synthetic", "--synthetic-images", "480"]).success();
        for file in ["images.safetensors", "manifest.csv"] {
            let file = format!("dataset_partitions/v2/{file}");
            project.write(&file, &other.read(&file));
        }
    };
    let parts = ["dataset_partitions/v2", "another set of images than v1", "run `cifar-cli partition` again"];
    Pair::new(mix, &[]).refused("pull", &parts, "partitions ");
}

#[test]
fn predictions_and_another_model() {
    let other_seed = |project: &Project| project.edit("params.yaml", "random_seed: 42", "random_seed: 43");
    let pair = Pair::new(other_seed, &["train"]);
    let parts = ["evaluation/test", "was not made from this model", "run `cifar-cli evaluate` again"];
    pair.refused("hard-images", &parts, "evaluation ");
}

/// Training fold by fold can take hours, so a mismatch is refused before it starts.
#[test]
fn predictions_and_another_model_are_refused_before_fold_training() {
    let other_seed = |project: &Project| {
        project.edit("params.yaml", "random_seed: 42", "random_seed: 43");
        project.edit("params.yaml", "folds: 0", "folds: 2");
    };
    let pair = Pair::new(other_seed, &["train"]);
    let before = tree(&pair.project.path(".cifar/checkpoints"));
    let parts = ["evaluation/test", "was not made from this model", "run `cifar-cli evaluate` again"];
    pair.project.run(&["hard-images"]).failure(FAILURE, &parts);
    assert!(tree(&pair.project.path(".cifar/checkpoints")) == before, "networks were trained");
}

/// A decision determines whether an image has a category. The prepared copy of the decisions must
/// not be edited.
#[test]
fn a_review_edited_after_prepare() {
    let project = Project::with_partitions();
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    let manifest = String::from_utf8(project.read("data/prepared/train/manifest.csv")).unwrap();
    let ids: Vec<&str> = manifest.lines().skip(1).take(2).filter_map(|line| line.split(',').next()).collect();
    project.write("labels/review.csv", format!("id,decision,label,note\n{},dismiss,,\n", ids[0]).as_bytes());
    project.run(&["run"]).success();
    project.edit("data/prepared/review.csv", &format!("{},dismiss", ids[0]), &format!("{},dismiss", ids[1]));
    let parts = ["data/prepared/review.csv", "was changed or damaged after", "run `cifar-cli prepare` again"];
    project.run(&["hard-images"]).failure(FAILURE, &parts);
}

#[test]
fn dynamics_and_another_model() {
    let swap = |project: &Project| {
        let dynamics = project.read("models/final/dynamics.safetensors");
        project.edit("params.yaml", "random_seed: 42", "random_seed: 43");
        for stage in ["train", "evaluate"] {
            project.run(&[stage]).success();
        }
        project.write("models/final/dynamics.safetensors", &dynamics);
    };
    let parts = ["dynamics.safetensors", "is of another run than the model", "run `cifar-cli train` again"];
    Pair::new(swap, &[]).refused("hard-images", &parts, "dynamics ");
}

#[test]
fn first_epoch_and_another_model() {
    let swap = |project: &Project| {
        let first = project.read("models/final/first_epoch.safetensors");
        project.edit("params.yaml", "random_seed: 42", "random_seed: 43");
        for stage in ["train", "evaluate"] {
            project.run(&[stage]).success();
        }
        project.write("models/final/first_epoch.safetensors", &first);
    };
    let parts = ["first_epoch.safetensors", "was changed or damaged after", "run `cifar-cli train` again"];
    Pair::new(swap, &[]).refused("hard-images", &parts, "dynamics ");
}

/// Images that selected the setting may be test images of the new split.
#[test]
fn a_tuned_setting_and_another_split() {
    let search = |project: &Project| {
        project.edit("params.yaml", "trials: 0", "trials: 1");
        project.edit("params.yaml", "use_tuned: false", "use_tuned: true");
        for stage in ["tune", "train", "evaluate", "hard-images"] {
            project.run(&[stage]).success();
        }
        other_split(project);
    };
    let pair = Pair::new(search, &["pull", "prepare"]);
    let parts = ["models/tuning/tuned.json", "another split", "run `cifar-cli tune` again"];
    pair.refused("train", &parts, "tuning ");
}

/// The figures of one run come from one folder; files of another run are refused.
#[test]
fn grid_runs_with_files_of_other_runs() {
    let project = Project::with_partitions();
    project.write("experiments.toml", b"[grid]\ndataset_version = [\"v1\"]\nrandom_seed = [1, 2]\n");
    project.run(&["experiments", "run"]).success();
    let file = |seed: usize| format!("experiments/runs/v1-seed{seed}/evaluation/test/pool_predictions.csv");
    project.write(&file(1), &project.read(&file(2)));
    project.run(&["report"]).failure(FAILURE, &[&file(1), "was changed or damaged", "`cifar-cli evaluate`"]);
}

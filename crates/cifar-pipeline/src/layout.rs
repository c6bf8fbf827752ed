//! Paths of all files and folders of a project. These names are defined only here.

use std::path::{Path, PathBuf};

use cifar_data::splits::Split;

/// The folder of state that later runs use.
const STATE: &str = ".cifar";
/// Folder of a grid's runs, in the folder of experiments.
pub const RUNS_OF_GRID: &str = "runs";

/// The folders and files of a project.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    /// The paths that differ from the default ones.
    elsewhere: Option<Elsewhere>,
}

/// The paths of one run of a grid: data that runs share, and its own folder for its results.
#[derive(Debug, Clone)]
struct Elsewhere {
    raw: PathBuf,
    prepared: PathBuf,
    results: PathBuf,
}

impl Layout {
    /// Returns the layout of the project in `root`.
    pub fn new(root: &Path) -> Self {
        // Messages are easier to read without a leading ".".
        let root = if root == Path::new(".") { PathBuf::new() } else { root.to_path_buf() };
        Self { root, elsewhere: None }
    }

    /// Returns the layout of one run of a grid: as this one, except for pulled and prepared data,
    /// models and evaluations, which are in the given folders.
    #[must_use]
    pub fn of_run(&self, raw: PathBuf, prepared: PathBuf, results: PathBuf) -> Self {
        Self { root: self.root.clone(), elsewhere: Some(Elsewhere { raw, prepared, results }) }
    }

    /// Returns whether this is the layout of one run of a grid.
    pub fn is_of_run(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Returns a path in the project's folder, or in that of a grid's run.
    fn result(&self, relative: &str) -> PathBuf {
        self.elsewhere.as_ref().map_or_else(|| self.join(relative), |e| e.results.join(relative))
    }

    /// Returns a path in the project folder.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// params.yaml.
    pub fn params(&self) -> PathBuf {
        self.join("params.yaml")
    }

    /// The user's images.
    pub fn dataset(&self) -> PathBuf {
        self.join("cifar10_dataset")
    }

    /// The pipeline of DVC.
    pub fn pipeline(&self) -> PathBuf {
        self.join("dvc.yaml")
    }

    /// The partitions.
    pub fn partitions(&self) -> PathBuf {
        self.join("dataset_partitions")
    }

    /// The known label errors and duplicates of the synthetic set.
    pub fn synthetic_truth(&self) -> PathBuf {
        self.join("dataset_partitions/synthetic_truth.csv")
    }

    /// Label corrections by hand.
    pub fn overrides(&self) -> PathBuf {
        self.join("labels/overrides.csv")
    }

    /// Decisions of reviews.
    pub fn review(&self) -> PathBuf {
        self.join("labels/review.csv")
    }

    /// The pulled images.
    pub fn raw(&self) -> PathBuf {
        self.elsewhere.as_ref().map_or_else(|| self.join("data/raw"), |e| e.raw.clone())
    }

    /// The test images of v1, v2 and v3, which all runs share.
    pub fn pool(&self) -> PathBuf {
        self.raw().join(cifar_data::pull::POOL)
    }

    /// Training, validation and test images.
    pub fn prepared(&self) -> PathBuf {
        self.elsewhere.as_ref().map_or_else(|| self.join("data/prepared"), |e| e.prepared.clone())
    }

    /// The test images.
    pub fn prepared_test(&self) -> PathBuf {
        self.prepared().join(Split::Test.name())
    }

    /// The results of training.
    pub fn final_model(&self) -> PathBuf {
        self.result("models/final")
    }

    /// The trained model.
    pub fn model_file(&self) -> PathBuf {
        self.final_model().join(cifar_train::artifacts::MODEL)
    }

    /// The epochs of the training.
    pub fn history(&self) -> PathBuf {
        self.final_model().join(cifar_train::artifacts::HISTORY)
    }

    /// Per-epoch logits of the training.
    pub fn dynamics(&self) -> PathBuf {
        self.final_model().join(cifar_train::artifacts::DYNAMICS)
    }

    /// Scores on test images.
    pub fn evaluation(&self) -> PathBuf {
        self.result("evaluation/test")
    }

    /// Features of images.
    pub fn embeddings(&self) -> PathBuf {
        self.result("evaluation/embeddings")
    }

    /// The description of the images.
    pub fn inspection(&self) -> PathBuf {
        self.join("evaluation/data")
    }

    /// The ranking of hard images.
    pub fn hard_images(&self) -> PathBuf {
        self.result("evaluation/hard_images")
    }

    /// The ranking of hard images by predictions from elsewhere.
    pub fn given_predictions(&self) -> PathBuf {
        self.join("evaluation/given_predictions")
    }

    /// The grid.
    pub fn grid(&self) -> PathBuf {
        self.join("experiments.toml")
    }

    /// The runs of the grid and the figures over them.
    pub fn experiments(&self) -> PathBuf {
        self.join("experiments")
    }

    /// The folder of one run of the grid.
    pub fn run_of_grid(&self, name: &str) -> PathBuf {
        self.experiments().join(RUNS_OF_GRID).join(name)
    }

    /// Pulled and prepared data that runs of a grid share.
    pub fn shared_data(&self) -> PathBuf {
        self.state().join("experiments/data")
    }

    /// The result of the study of hard images.
    pub fn study(&self) -> PathBuf {
        self.join("evaluation/study")
    }

    /// The finished parts of studies.
    pub fn study_state(&self) -> PathBuf {
        self.state().join("study")
    }

    /// Job arrays on a cluster, and the data that their tasks share.
    pub fn slurm(&self) -> PathBuf {
        self.state().join("slurm")
    }

    /// The agreement of measures with a user's own labels.
    pub fn truth(&self) -> PathBuf {
        self.join("evaluation/truth")
    }

    /// Exported models. No stage reads or replaces them.
    pub fn export(&self) -> PathBuf {
        self.join("export")
    }

    /// Folders that the stages make and `clean` removes.
    pub fn outputs(&self) -> [PathBuf; 3] {
        ["data", "models", "evaluation"].map(|name| self.join(name))
    }

    /// Folders in which files are replaced atomically, besides those of a grid's runs.
    pub fn written(&self) -> [PathBuf; 5] {
        ["data", "models", "evaluation", "dataset_partitions", "bin"].map(|name| self.join(name))
    }

    /// The program and the fingerprints of the stages, for DVC.
    pub fn bin(&self) -> PathBuf {
        self.join("bin")
    }

    /// The results of the search for better values.
    pub fn tuning(&self) -> PathBuf {
        self.result("models/tuning")
    }

    /// Range tests of learning rates.
    pub fn learning_rate(&self) -> PathBuf {
        self.result("models/learning_rate")
    }

    /// The picture of the first batch of training.
    pub fn preview(&self) -> PathBuf {
        self.result("models/preview.png")
    }

    /// The result of the search.
    pub fn tuned(&self) -> PathBuf {
        self.tuning().join(cifar_train::tune::artifacts::TUNED)
    }

    /// Journals and checkpoints of searches, located as those of training runs.
    pub fn searches(&self) -> PathBuf {
        self.lasting_state().join("tune")
    }

    /// Checkpoints of training runs. For a temporary copy of the project by DVC they are in the
    /// original project, where they outlive the copy.
    pub fn checkpoints(&self) -> PathBuf {
        self.lasting_state().join("checkpoints")
    }

    /// Pairs of images that show the same picture, as found by searches; located as checkpoints of
    /// runs.
    pub fn near_duplicates(&self) -> PathBuf {
        self.lasting_state().join("near_duplicates")
    }

    /// The folder of checkpoints and other state that outlives a temporary copy of the project.
    pub fn lasting_state(&self) -> PathBuf {
        let dvc_root = std::env::var_os("DVC_ROOT").map(PathBuf::from).filter(|root| root.is_dir());
        dvc_root.map_or_else(|| self.state(), |root| root.join(STATE))
    }

    /// Locks and records of runs: facts that no stage depends on.
    pub fn state(&self) -> PathBuf {
        self.join(STATE)
    }
}

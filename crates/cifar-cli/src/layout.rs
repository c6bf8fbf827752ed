//! Where everything lies below the project's folder. The only place that knows these names.

use std::path::{Path, PathBuf};

use cifar_data::splits::Split;

/// What runs leave for later ones, out of the way.
const STATE: &str = ".cifar";

/// The folders and files of a project.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        // "." adds nothing to a message, and a path without it reads better.
        Self { root: if root == Path::new(".") { PathBuf::new() } else { root.to_path_buf() } }
    }

    pub(crate) fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    pub(crate) fn params(&self) -> PathBuf {
        self.join("params.yaml")
    }

    /// The user's images.
    pub(crate) fn dataset(&self) -> PathBuf {
        self.join("cifar10_dataset")
    }

    pub(crate) fn partitions(&self) -> PathBuf {
        self.join("dataset_partitions")
    }

    /// What was planted in the synthetic set.
    pub(crate) fn synthetic_truth(&self) -> PathBuf {
        self.join("dataset_partitions/synthetic_truth.csv")
    }

    pub(crate) fn overrides(&self) -> PathBuf {
        self.join("labels/overrides.csv")
    }

    pub(crate) fn review(&self) -> PathBuf {
        self.join("labels/review.csv")
    }

    pub(crate) fn raw(&self) -> PathBuf {
        self.join("data/raw")
    }

    pub(crate) fn pool(&self) -> PathBuf {
        self.raw().join(cifar_data::pull::POOL)
    }

    pub(crate) fn prepared(&self) -> PathBuf {
        self.join("data/prepared")
    }

    pub(crate) fn prepared_test(&self) -> PathBuf {
        self.prepared().join(Split::Test.name())
    }

    pub(crate) fn final_model(&self) -> PathBuf {
        self.join("models/final")
    }

    pub(crate) fn model_file(&self) -> PathBuf {
        self.final_model().join(cifar_train::artifacts::MODEL)
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.final_model().join(cifar_train::artifacts::HISTORY)
    }

    /// What the network said of each image while it was trained.
    pub(crate) fn dynamics(&self) -> PathBuf {
        self.final_model().join(cifar_train::artifacts::DYNAMICS)
    }

    pub(crate) fn evaluation(&self) -> PathBuf {
        self.join("evaluation/test")
    }

    pub(crate) fn hard_images(&self) -> PathBuf {
        self.join("evaluation/hard_images")
    }

    /// How well measures agree with somebody's own labels.
    pub(crate) fn truth(&self) -> PathBuf {
        self.join("evaluation/truth")
    }

    /// What the stages make and `clean` removes.
    pub(crate) fn outputs(&self) -> [PathBuf; 3] {
        ["data", "models", "evaluation"].map(|name| self.join(name))
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.join("bin")
    }

    pub(crate) fn tuning(&self) -> PathBuf {
        self.join("models/tuning")
    }

    /// Range tests of learning rates.
    pub(crate) fn learning_rate(&self) -> PathBuf {
        self.join("models/learning_rate")
    }

    pub(crate) fn tuned(&self) -> PathBuf {
        self.tuning().join(cifar_train::tune::artifacts::TUNED)
    }

    /// Journals and checkpoints of searches; as for checkpoints of runs.
    pub(crate) fn searches(&self) -> PathBuf {
        self.lasting_state().join("tune")
    }

    /// Checkpoints of training runs. In a temporary copy of the project that DVC made, they lie in the project itself, where
    /// they outlive the copy.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.lasting_state().join("checkpoints")
    }

    fn lasting_state(&self) -> PathBuf {
        let dvc_root = std::env::var_os("DVC_ROOT").map(PathBuf::from).filter(|root| root.is_dir());
        dvc_root.map_or_else(|| self.state(), |root| root.join(STATE))
    }

    /// Locks and records of runs: facts that no stage depends on.
    pub(crate) fn state(&self) -> PathBuf {
        self.join(STATE)
    }
}

//! A small prepared set.

use cifar_data::partitions::{self, DatasetVersion};
use cifar_data::prepare::{TrainingData, prepare};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::SplitParams;
use cifar_data::{Silent, pull};
use cifar_model::ModelParams;

/// Training and validation images of a synthetic set of `count` images.
pub fn data(count: usize) -> TrainingData {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let images = synthetic::generate(&SyntheticParams { count, ..Default::default() }).unwrap();
    partitions::write(&images.dataset, &at("partitions"), &Silent).unwrap();
    let (version, split) = ("v1+v2+v3".parse::<DatasetVersion>().unwrap(), SplitParams::default());
    pull::pull(&at("partitions"), version, &split, None, &at("raw"), &Silent).unwrap();
    std::fs::write(at("overrides.csv"), "id,label\n").unwrap();
    std::fs::write(at("review.csv"), "id,decision,label,note\n").unwrap();
    prepare(&at("raw"), &at("overrides.csv"), &at("review.csv"), version, &split, &at("prepared"), &Silent).unwrap();
    TrainingData::open(&at("prepared")).unwrap()
}

/// A network that a processor trains in no time.
pub fn narrow() -> ModelParams {
    ModelParams { widths: vec![8, 8, 8], ..ModelParams::default() }
}

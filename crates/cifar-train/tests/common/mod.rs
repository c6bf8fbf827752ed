//! A small prepared set.

use cifar_data::partitions::{self, DatasetVersion};
use cifar_data::prepare::{TrainingData, prepare};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::SplitParams;
use cifar_data::{Silent, pull};
use cifar_model::ModelParams;

const WORKS: &str = "a synthetic set can be prepared";

/// Training and validation images of a synthetic set of `count` images.
pub(crate) fn data(count: usize) -> TrainingData {
    let folder = tempfile::tempdir().expect(WORKS);
    let at = |name: &str| folder.path().join(name);
    let images = synthetic::generate(&SyntheticParams { count, ..Default::default() }).expect(WORKS);
    partitions::write(&images.dataset, &at("partitions"), &Silent).expect(WORKS);
    let (version, split) = ("v1+v2+v3".parse::<DatasetVersion>().expect(WORKS), SplitParams::default());
    pull::pull(&at("partitions"), version, &split, None, &at("raw"), &Silent).expect(WORKS);
    std::fs::write(at("overrides.csv"), "id,label\n").expect(WORKS);
    std::fs::write(at("review.csv"), "id,decision,label,note\n").expect(WORKS);
    prepare(&at("raw"), &at("overrides.csv"), &at("review.csv"), version, &split, &at("prepared"), &Silent)
        .expect(WORKS);
    TrainingData::open(&at("prepared")).expect(WORKS)
}

/// A network that a processor trains in no time.
pub(crate) fn narrow() -> ModelParams {
    ModelParams { widths: vec![8, 8, 8], ..ModelParams::default() }
}

//! A small prepared set for tests.

use cifar_data::prepare::TrainingData;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_model::ModelParams;

/// Returns the training and validation images of a synthetic set of `count` images.
pub(crate) fn data(count: usize) -> TrainingData {
    synthetic::training_data(&SyntheticParams { count, ..Default::default() }).expect("a synthetic set can be prepared")
}

/// Returns a network that trains in seconds.
pub(crate) fn narrow() -> ModelParams {
    ModelParams { widths: vec![8, 8, 8], ..ModelParams::default() }
}

//! A small prepared set, a small network and an interruption for tests.

use std::sync::atomic::{AtomicUsize, Ordering};

use cifar_data::Progress;
use cifar_data::prepare::TrainingData;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_model::ModelParams;
use cifar_train::{StepRecord, TrainingCallback};

/// Returns the training and validation images of a synthetic set of `count` images.
pub(crate) fn data(count: usize) -> TrainingData {
    synthetic::training_data(&SyntheticParams { count, ..Default::default() }).expect("a synthetic set can be prepared")
}

/// Returns a network that trains in seconds.
pub(crate) fn narrow() -> ModelParams {
    ModelParams { widths: vec![8, 8, 8], ..ModelParams::default() }
}

/// Asks to stop after some steps.
pub(crate) struct StopAfter(AtomicUsize);

impl StopAfter {
    pub(crate) fn new(steps: usize) -> Self {
        Self(AtomicUsize::new(steps))
    }
}

impl Progress for StopAfter {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl TrainingCallback for StopAfter {
    fn step(&self, _: &StepRecord) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |steps| steps.checked_sub(1));
    }
}

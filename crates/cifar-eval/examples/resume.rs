//! A training run that is stopped and then resumed from its checkpoint:
//!
//! ```sh
//! cargo run --release -p cifar-eval --example resume
//! ```
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::{DataError, Progress, Silent};
use cifar_model::ModelParams;
use cifar_train::{Checkpoints, StepRecord, TrainError, TrainParams, TrainingCallback, fit, fit_resumable, run_key};

/// Cancels a run after some steps, as Ctrl-C would.
struct Interrupt {
    steps_left: AtomicUsize,
}

impl Progress for Interrupt {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.steps_left.load(Ordering::Relaxed) == 0
    }
}

impl TrainingCallback for Interrupt {
    fn step(&self, _: &StepRecord) {
        self.steps_left.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn main() -> anyhow::Result<()> {
    const SEED: u64 = 42;
    let data = synthetic::training_data(&SyntheticParams { count: 600, ..Default::default() })?;
    let (params, model) = (TrainParams { epochs: 3, batch_size: 64, ..Default::default() }, ModelParams::default());
    // The key names the run: another seed, setting or program has its own checkpoint.
    let key = run_key(&params, &model, &data.report, SEED, "resume example 1.0");
    let folder = tempfile::tempdir()?;
    let every = Duration::from_secs(30);

    let mut checkpoints = Checkpoints::open(folder.path(), &key, every, &Silent)?;
    let interrupt = Interrupt { steps_left: AtomicUsize::new(10) };
    let stopped = fit_resumable(&params, &model, &data, SEED, &mut checkpoints, &interrupt);
    anyhow::ensure!(matches!(stopped, Err(TrainError::Data(DataError::Cancelled))), "the run was not stopped");
    println!("stopped after step {}", checkpoints.step());
    drop(checkpoints);

    // The same call resumes. The result is that of an uninterrupted run, bit by bit.
    let mut checkpoints = Checkpoints::open(folder.path(), &key, every, &Silent)?;
    let resumed = fit_resumable(&params, &model, &data, SEED, &mut checkpoints, &Silent)?;
    let whole = fit(&params, &model, &data, SEED, &Silent)?;
    anyhow::ensure!(resumed.history == whole.history, "the histories differ");
    println!("resumed to the end of epoch {}", resumed.history.len());
    Ok(())
}

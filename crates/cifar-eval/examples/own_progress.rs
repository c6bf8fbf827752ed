//! Your own progress display, which also stops the training early:
//!
//! ```sh
//! cargo run --release -p cifar-eval --example own_progress
//! ```
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use cifar_data::Progress;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_model::ModelParams;
use cifar_train::{EpochRecord, StepRecord, TrainParams, TrainingCallback, fit};

/// Prints the progress and stops the training at a given validation accuracy.
struct Display {
    enough: f64,
}

impl Progress for Display {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        if done == total {
            println!("{what}: {total} done");
        }
    }

    fn warn(&self, message: &str) {
        println!("warning: {message}");
    }
}

impl TrainingCallback for Display {
    fn step(&self, step: &StepRecord) {
        let done = 20 * step.step / step.steps;
        println!("[{:<20}] step {} of {}, loss {:.3}", "#".repeat(done), step.step, step.steps, step.loss);
    }

    fn epoch(&self, history: &[EpochRecord]) {
        if let Some(EpochRecord { epoch, train_loss, val_accuracy: Some(accuracy), .. }) = history.last() {
            println!("epoch {epoch}: training loss {train_loss:.3}, validation accuracy {:.1} %", accuracy * 100.0);
        }
    }

    fn should_continue(&self, history: &[EpochRecord]) -> bool {
        history.last().and_then(|epoch| epoch.val_accuracy).is_none_or(|accuracy| accuracy < self.enough)
    }
}

pub(crate) fn main() -> anyhow::Result<()> {
    let data = synthetic::training_data(&SyntheticParams { count: 600, ..Default::default() })?;
    let params = TrainParams { epochs: 4, batch_size: 64, ..Default::default() };
    let fitted = fit(&params, &ModelParams::default(), &data, 42, &Display { enough: 0.3 })?;
    println!("{} of {} epochs", fitted.history.len(), params.epochs);
    Ok(())
}

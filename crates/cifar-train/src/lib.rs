//! Training: the optimiser, the schedule, the loop and what it leaves behind.
//!
//! [`fit`](fn@fit) reads top-down: model → batches → step → validation → best weights. Progress and cancellation go
//! through a [`Watcher`]; the crate prints nothing. It sees training and validation images only
//! ([`TrainingData`](cifar_data::prepare::TrainingData)); test images have a type that it never opens.

mod error;
mod fit;
mod history;
mod optimiser;
mod params;
mod schedule;

pub mod artifacts;

pub use error::{Result, TrainError};
pub use fit::{Fitted, StepRecord, Trainer, Watcher, fit};
pub use history::EpochRecord;
pub use optimiser::Sgd;
pub use params::{Select, TrainParams};
pub use schedule::Schedule;

//! Training: the recipe, the optimisers, the loop, its checkpoints and what it leaves behind.
//!
//! [`fit`](fn@fit) reads top-down: a [`Run`] steps its [`Trainer`] through the epochs, validates, keeps the best weights
//! and saves [`Checkpoints`]. Progress and cancellation go through a [`Watcher`]; the crate prints nothing. It sees training
//! and validation images only ([`TrainingData`](cifar_data::prepare::TrainingData)); test images have a type that it never
//! opens.

mod averaging;
mod checkpoint;
mod error;
mod fit;
mod history;
mod lock;
mod memory;
mod optimiser;
mod params;
mod range_test;
mod schedule;
mod trainer;

pub mod artifacts;
pub mod dynamics;
pub mod folds;
pub mod live;
pub mod recipes;
pub mod tensorboard;
pub mod tune;

pub use checkpoint::{Checkpoints, remove_checkpoints, run_key};
pub use dynamics::Dynamics;
pub use error::{Result, TrainError};
pub use fit::{Fitted, Run, Timing, Watcher, fit, fit_resumable};
pub use history::{EPOCH_COLUMNS, EpochRecord};
pub use memory::training_memory;
pub use optimiser::{Factors, Optimiser};
pub use params::{Averaging, OptimiserKind, Reduction, Select, TrainParams};
pub use range_test::{RangePoint, RangeTest, range_test};
pub use schedule::Schedule;
pub use trainer::{StepRecord, Trainer};

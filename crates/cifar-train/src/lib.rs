//! Reproducible training of image classifiers on CPUs: optimisers, schedules, checkpoints, training
//! dynamics and tuning.
//!
//! ```
//! use cifar_data::Silent;
//! use cifar_data::sources::synthetic::{self, SyntheticParams};
//! use cifar_model::ModelParams;
//! use cifar_train::{TrainParams, fit};
//!
//! // `TrainingData::open` reads a prepared set; this one is synthetic.
//! let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
//! let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
//! let params = TrainParams { epochs: 2, ..Default::default() };
//! let fitted = fit(&params, &model, &data, 42, &Silent)?;
//! assert_eq!(fitted.history.len(), 2);
//! assert!(fitted.history[1].val_accuracy.is_some());
//! # Ok::<(), cifar_train::TrainError>(())
//! ```
//!
//! [`fit`](fn@fit) reads top-down: a [`Run`] steps its [`Trainer`] through the epochs, validates,
//! keeps the best weights and writes [`Checkpoints`]. A [`TrainingCallback`] receives progress, and
//! may cancel the run or end it early; the crate prints nothing.
//!
//! - [`recipes`] has tested parameters by name; [`tune`] searches for better ones;
//! - [`artifacts`] writes the files of a finished run, [`live`] and [`tensorboard`] those of a
//!   running one;
//! - [`dynamics`] has per-epoch logits of each image, [`folds`] out-of-fold predictions.
//!
//! Training sees training and validation images only
//! ([`TrainingData`](cifar_data::prepare::TrainingData)). Test images have a type that this crate
//! never opens. The same arguments give bit-identical results with any number of threads.

mod averaging;
mod callback;
mod checkpoint;
mod continued;
mod error;
mod fit;
mod history;
mod lock;
mod memory;
mod optimiser;
mod optional_keys;
mod params;
mod range_test;
mod recipe;
mod renamed;
mod run;
mod schedule;
mod trainer;

pub mod artifacts;
pub mod dynamics;
pub mod folds;
pub mod live;
pub mod recipes;
pub mod tensorboard;
pub mod tune;

pub use callback::TrainingCallback;
pub use checkpoint::{Checkpoints, continued_key, remove_checkpoints, run_key};
pub use continued::{ContinuedKeys, FinishedRun};
pub use dynamics::Dynamics;
pub use error::{Result, TrainError};
pub use fit::{fit, fit_continued, fit_resumable};
pub use history::{EPOCH_COLUMNS, EpochRecord};
pub use memory::training_memory;
pub use optimiser::{LrMultipliers, Optimiser};
pub use optional_keys::{add_optional_keys, optional_keys};
pub use params::{
    Averaging, ClassWeights, Freeze, Init, MAX_EPOCHS, OptimiserKind, Reduction, Sampling, Select, TrainParams,
};
pub use range_test::{RangePoint, RangeTest, range_test};
pub use recipe::Recipe;
pub use renamed::{RENAMED_KEYS, current_key, rename_keys};
pub use run::{Fitted, Run, StartedFrom, Timing};
pub use schedule::Schedule;
pub use trainer::{StepRecord, Trainer, first_batch};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

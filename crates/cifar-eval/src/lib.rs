//! How good a trained model is, and which images it finds hard.
//!
//! ```
//! use cifar_data::{Silent, prepare, sources::synthetic, splits::SplitParams};
//! use cifar_eval::{EvaluateParams, evaluate};
//! use cifar_model::ModelParams;
//! use cifar_train::{TrainParams, fit};
//!
//! // `sources::read` reads class folders, archives and Parquet files; `Dataset::from_arrays` takes
//! // your own pixels and labels.
//! let params = synthetic::SyntheticParams { count: 300, ..Default::default() };
//! let images = synthetic::generate(&params)?.dataset;
//! let split = prepare::split(&images, &SplitParams::default(), &Silent)?;
//! let (data, test) = (&split.data, split.test.dataset());
//! let params = TrainParams { epochs: 2, batch_size: 32, ..Default::default() };
//! let fitted = fit(&params, &ModelParams::default(), data, 42, &Silent)?;
//! let evaluation = evaluate(&EvaluateParams::default(), &fitted.model, test, &Silent)?;
//! println!("{evaluation}");
//! # let folder = tempfile::tempdir().unwrap();
//! # let out = folder.path().join("evaluation");
//! evaluation.save(&out, &Silent)?; // metrics, predictions and plots as files
//! # Ok::<(), cifar_eval::EvalError>(())
//! ```
//!
//! - [`metrics`], [`calibration`], [`confusion`], [`interval`]: figures from class probabilities
//!   and labels;
//! - [`evaluate`](mod@evaluate): the score on test images; [`predictions`]: the table of
//!   predictions;
//! - [`measures`]: how hard an image is, from training dynamics and probabilities;
//! - [`hard_images`]: which images are likely mislabelled, ambiguous or just misclassified, and
//!   why;
//! - [`truth`]: how well those measures agree with a person's labels;
//! - [`study`]: whether acting on hard images helps;
//! - [`data_quality`]: the quality of the images, whatever the model;
//! - [`statistics`]: spreads, comparisons, learning curves;
//! - [`plots`]: plots as PNG files; [`page`]: one HTML file to inspect images and review labels.
//!
//! Analyses work in memory and return a value. That value prints itself and can be saved as a
//! folder. `examples/` has a program for each use.

mod error;

pub mod calibration;
pub mod confusion;
pub mod data_quality;
pub mod evaluate;
pub mod hard_images;
pub mod interval;
pub mod measures;
pub mod metrics;
pub mod page;
pub mod plots;
pub mod predictions;
pub mod statistics;
pub mod study;
pub mod truth;

pub use error::{EvalError, Result};
pub use evaluate::{EvaluateParams, Evaluation, evaluate};
pub use hard_images::HardImagesParams;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

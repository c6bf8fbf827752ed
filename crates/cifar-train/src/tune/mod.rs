//! Tuning: a search for better parameter values, by validation images alone.
//!
//! [`search`](fn@search) reads top-down. A sampler suggests settings from a [`Space`]. Synchronous
//! successive halving trains them (Jamieson & Talwalkar 2016, arXiv 1502.07943): of the trials of a
//! rung, the best are trained for more epochs. Trial 0 is the baseline, the unchanged recipe: it is
//! trained for all epochs whatever its score.
//!
//! Two scores are compared only if they belong to the same number of epochs and the same seed. The
//! best trial and the baseline are retrained under other seeds, and a [`Comparison`] of these
//! scores alone decides whether the trial is better.
//!
//! Every score is appended to a [`Journal`] at once. A search that was killed resumes from it to
//! the same outcome, and a search with more trials or more seeds trains only what is missing.
//!
//! ```
//! use cifar_data::Silent;
//! use cifar_data::sources::synthetic::{self, SyntheticParams};
//! use cifar_model::ModelParams;
//! use cifar_train::tune::artifacts::{self, TUNED, Tuned};
//! use cifar_train::tune::{Journal, Trials, TuneParams, search, search_key};
//! use cifar_train::{Recipe, TrainParams};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let at = |name: &str| folder.path().join(name);
//! let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
//! let recipe = Recipe {
//!     model: ModelParams { widths: vec![8, 8, 8], ..Default::default() },
//!     train: TrainParams { epochs: 1, ..Default::default() },
//! };
//! let space = serde_json::json!({"train.learning_rate": {"log_uniform": [0.02, 0.5]}});
//! let space = serde_json::from_value(space).unwrap();
//! let params = TuneParams { trials: 2, rescore_seeds: 2, space, ..Default::default() };
//! recipe.check_with(&params.space, &data)?;
//!
//! let program = "my program 1.0";
//! let key = search_key(&params, &recipe, &data.report, 42, program);
//! let mut journal = Journal::open(&at("search"), &key, &Silent)?;
//! let mut trials = Trials::new(&recipe, &data, &journal, program, &Silent);
//! let outcome = search(&params, 42, recipe.train.epochs, &mut trials, &mut journal)?;
//! journal.end();
//!
//! let tuned = Tuned::of(&outcome, &params, &recipe, &data.report);
//! artifacts::write(&tuned, &params.space, &outcome, &[], &at("tuning"))?;
//! let path = at("tuning").join(TUNED);
//! let better = Tuned::read(&path)?.apply(&recipe, &data.report, &path)?;
//! assert_eq!(better.train.epochs, 1);
//! # Ok::<(), cifar_train::TrainError>(())
//! ```

mod comparison;
mod halving;
mod importance;
mod journal;
mod params;
mod sampler;
mod score;
mod space;
mod trials;

pub mod artifacts;

pub use comparison::{Comparison, Verdict};
pub use halving::{Objective, Outcome, Trial, search};
pub use importance::{Importance, importances};
pub use journal::{Journal, remove_searches};
pub use params::{SamplerKind, TuneParams};
pub use score::{Score, Scored};
pub use space::{Domain, Setting, Space, apply};
pub use trials::{Trials, search_key};

//! Tuning: better values for a recipe, by validation images alone.
//!
//! [`search`](fn@search) reads top-down. A `Sampler` suggests settings from a [`Space`]. Synchronous successive halving trains
//! them (Jamieson & Talwalkar 2016, arXiv 1502.07943): of the trials of a rung, the best are trained for more epochs.
//! Trial 0 is the baseline, the recipe of params.yaml: it is trained for all epochs whatever its score.
//!
//! Two scores are compared only if they belong to the same number of epochs and the same seed. The best trial and the
//! baseline are trained again under other seeds, and a [`Comparison`] of these scores alone says whether the trial is better.
//!
//! Every score goes into a [`Journal`] at once. A search that was killed resumes from it to the same outcome, and a search
//! with more trials or more seeds trains only what is missing.

mod comparison;
mod halving;
mod importance;
mod journal;
mod params;
mod sampler;
mod space;
mod trials;

pub mod artifacts;

pub use comparison::{Comparison, Verdict};
pub use halving::{Objective, Outcome, Trial, search};
pub use importance::{Importance, importances};
pub use journal::{Journal, Score, Scored, remove_searches};
pub use params::{SamplerKind, TuneParams};
pub use space::{Domain, Setting, Space, apply};
pub use trials::{Blocks, Trials, search_key};

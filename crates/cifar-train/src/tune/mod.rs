//! Tuning: better values for a recipe, by validation images alone.
//!
//! [`search`](fn@search) reads top-down: settings are suggested by a `Sampler` from a
//! [`Space`], trained by synchronous successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943), and the best of them
//! trained again under other seeds. Trial 0 is the recipe as it stands: it goes on to the end whatever its score, so that
//! the outcome says whether tuning helped. Every score goes into a [`Journal`] at once, so that a search that was
//! killed goes on where it was, and one that is given more trials uses those that it has.

mod halving;
mod importance;
mod journal;
mod params;
mod sampler;
mod space;
mod trials;

pub mod artifacts;

pub use halving::{Objective, Outcome, Trial, search};
pub use importance::{Importance, importances};
pub use journal::{Journal, Score, Scored, remove_searches};
pub use params::{SamplerKind, TuneParams};
pub use space::{Domain, Setting, Space, apply};
pub use trials::{Blocks, Trials, search_key};

//! Measures of how hard an image is, each with its formula, range, direction and source.
//!
//! - [`MEASURES`]: all measures that an analysis reports, with their names and meanings;
//! - [`trajectory`]: from the logits of every epoch (AUM, forgetting events, data maps, EL2N, …);
//! - [`confident`]: from probabilities to the joint distribution of given and true labels, and to
//!   the images that are likely mislabelled;
//! - [`noise_rates`]: how often a class carries which label, and the odds that a label is wrong;
//! - [`ranks`](fn@ranks): percentile ranks within a split.
//!
//! Measures of a single row of probabilities (margin, entropy, loss) are in [`crate::metrics`].
//! No measure reads an image's original label.

pub mod confident;
pub mod noise_rates;
pub mod ranks;
mod table;
pub mod trajectory;

pub use confident::ConfidentJoint;
pub use noise_rates::NoiseRates;
pub use ranks::ranks;
pub use table::{Direction, MEASURES, Measure, Measures, scores_first};
pub use trajectory::{Trajectories, Trajectory};

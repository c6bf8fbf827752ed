//! Measures of how hard an image is, each with its formula, range, direction and source.
//!
//! - [`trajectory`]: from what the network said in every epoch (AUM, forgetting, data maps, EL2N, …);
//! - [`confident`]: from probabilities to the joint of given and true labels, and the images whose label it doubts;
//! - [`noise_rates`]: how often a class carries which label, and how likely a label is wrong;
//! - [`ranks`](fn@ranks): places among the images of a split as numbers in 0..1.
//!
//! Measures of a single row of probabilities (self-confidence, normalised margin, entropy, loss) are in [`crate::metrics`].
//! None of them knows an image's original label.

pub mod confident;
pub mod noise_rates;
pub mod ranks;
pub mod trajectory;

pub use confident::Joint;
pub use noise_rates::NoiseRates;
pub use ranks::ranks;
pub use trajectory::{Trajectories, Trajectory};

use serde::Serialize;

/// Which end of a measure is the hard one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Harder {
    /// Greater values are harder.
    Higher,
    /// Smaller values are harder.
    Lower,
}

impl Harder {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Higher => "higher is harder",
            Self::Lower => "lower is harder",
        }
    }
}

/// The columns of `hard_images.csv` that are measures, and which end of each is the hard one.
pub const MEASURES: [(&str, Harder); 17] = [
    ("p_label", Harder::Lower),
    ("p_suggested", Harder::Higher),
    ("margin", Harder::Lower),
    ("entropy", Harder::Higher),
    ("loss", Harder::Higher),
    ("aum", Harder::Lower),
    ("mean_margin", Harder::Lower),
    ("el2n", Harder::Higher),
    ("forgetting_events", Harder::Higher),
    ("first_learnt_epoch", Harder::Higher),
    ("confidence", Harder::Lower),
    ("variability", Harder::Higher),
    ("correctness", Harder::Lower),
    ("oof_self_confidence", Harder::Lower),
    ("oof_margin", Harder::Lower),
    ("label_issue_score", Harder::Higher),
    ("hardness_score", Harder::Higher),
];

//! Plots and contact sheets as PNG bytes. The caller writes the files.
//!
//! Every function returns a [`PlotError`] if the plot cannot be drawn or encoded.

mod activation_map;
mod canvas;
mod confusion_matrix;
mod contact_sheet;
mod curves;
mod range_test;
mod reliability;
mod tuning;

pub use activation_map::activation_map;
pub use confusion_matrix::confusion_matrix;
pub use contact_sheet::{Tile, contact_sheet};
pub use curves::{Curve, training_curves};
pub use range_test::{RangeCurve, range_test};
pub use reliability::reliability;
pub use tuning::{TrialPoint, importance_bars, parallel_coordinates, tuning_history};

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a plot cannot be drawn: {0}")]
pub struct PlotError(String);

/// The texts around a plot.
///
/// ```
/// use cifar_eval::plots::Caption;
///
/// let footer = "n = 10,000, test split, CIFAR-10, seed 42";
/// let caption = Caption { title: "Confusion matrix", footer, synthetic: false };
/// # assert!(!caption.synthetic);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Caption<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The footer below the plot: n, split, data source, seed.
    pub footer: &'a str,
    /// Whether the images are synthetic. The plot is then marked SYNTHETIC.
    pub synthetic: bool,
}

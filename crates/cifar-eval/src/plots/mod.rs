//! Pictures, as PNG bytes; callers write the files. Each tells under itself what it was made from.

mod canvas;
mod confusion_matrix;
mod contact_sheet;
mod curves;
mod range_test;
mod reliability;
mod tuning;

pub use confusion_matrix::confusion_matrix;
pub use contact_sheet::{Tile, contact_sheet};
pub use curves::{Curve, training_curves};
pub use range_test::{RangeCurve, range_test};
pub use reliability::reliability;
pub use tuning::{TrialPoint, importance_bars, parallel_coordinates, tuning_history};

/// Why a picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a picture cannot be drawn: {0}")]
pub struct PlotError(String);

/// What a picture says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Caption<'a> {
    /// Above it.
    pub title: &'a str,
    /// Under it: n, split, data source, seed.
    pub footer: &'a str,
    /// Whether it was made from drawn images: then it is stamped SYNTHETIC.
    pub synthetic: bool,
}

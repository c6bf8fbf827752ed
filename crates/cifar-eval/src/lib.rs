//! How good a trained network is, and which images it finds hard.
//!
//! - [`metrics`], [`calibration`], [`confusion`], [`interval`]: from class probabilities and labels to figures;
//! - [`evaluate`]: the final score on test images; [`predictions`]: what the network said of each;
//! - [`measures`]: how hard an image is, by what training recorded and by probabilities;
//! - [`hard_images`]: which images are likely mislabelled, ambiguous or just missed, and why;
//! - [`truth`]: how well those measures agree with what a person knows;
//! - [`study`]: whether acting on hard images helps;
//! - [`data_quality`]: what the images are like, whatever network looks at them;
//! - [`statistics`]: spreads, comparisons, learning curves;
//! - [`plots`]: pictures of all that, as PNG; [`page`]: one HTML file to look at it and to review labels.
//!
//! This crate and what stands above it are the only ones that open test images.

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
pub use evaluate::EvaluateParams;
pub use hard_images::HardImagesParams;

//! Convolutional networks as candle modules over the CIFAR kernels.
//!
//! - [`FeatureMap`]: activations outside of candle's storage, with candle's autograd as the scheduler;
//! - [`ops`]: differentiable operations on them (NHWC, `f32`, CPU), each beside a slow twin of candle's own ops;
//! - [`layers`] and [`parameters`]: what a network is built of, every initial value drawn from a seed;
//! - [`networks`]: the architectures;
//! - [`Model`]: a network with all that is needed to use it, and the file that holds it;
//! - [`predict`](fn@predict): the one forward pass that validation and evaluation share; [`predict_augmented`]: the mean over
//!   views of each image.

#![warn(clippy::too_many_arguments)]

mod error;
mod feature_map;
mod input;
mod model;
mod plan;
mod predict;
mod test_time;
mod whitening;

pub mod layers;
pub mod networks;
pub mod ops;
pub mod parameters;

pub use error::{ModelError, Result};
pub use feature_map::FeatureMap;
pub use input::{Mode, images_to_feature_map, views_to_feature_map};
pub use model::{Model, ModelOrigin, ModelSpec};
pub use networks::{Architecture, LayerSummary, ModelParams};
pub use plan::Plan;
pub use predict::{Logits, Seen, classify, evaluate_loss, predict, predict_some, predict_with_features};
pub use test_time::{Augmented, TestTimeAugmentation, Views, predict_augmented};

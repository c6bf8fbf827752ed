//! Convolutional networks as candle modules over the CIFAR kernels.
//!
//! - [`ops`]: candle custom ops (NHWC, `f32`, CPU) with right gradients, each beside a slow twin of candle's own ops;
//! - [`layers`] and [`parameters`]: what a network is built of, every initial value drawn from a seed;
//! - [`networks`]: the architectures;
//! - [`Model`]: a network with all that is needed to use it, and the file that holds it;
//! - [`predict`](fn@predict): the one forward pass that validation and evaluation share.

mod error;
mod input;
mod model;
mod predict;

pub mod layers;
pub mod networks;
pub mod ops;
pub mod parameters;

pub use error::{ModelError, Result};
pub use input::{Mode, images_to_tensor};
pub use model::{Model, ModelOrigin, ModelSpec};
pub use networks::{Architecture, LayerSummary, ModelParams};
pub use predict::{Logits, classify, evaluate_loss, predict};

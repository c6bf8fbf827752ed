//! Convolutional networks as candle modules over the kernels of [`cifar_kernels`].
//!
//! ```
//! use cifar_data::Silent;
//! use cifar_data::prepare::normalisation;
//! use cifar_data::sources::synthetic::{SyntheticParams, generate};
//! use cifar_model::{Architecture, Model, ModelParams, ModelSpec, predict};
//!
//! let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
//! let spec = ModelSpec {
//!     params: ModelParams::of(Architecture::SimpleCnn),
//!     classes: images.classes().to_vec(),
//!     size: images.size(),
//!     normalisation: normalisation(&images),
//! };
//! let model = Model::new(spec, 7)?; // not trained: its initial values are drawn from seed 7
//! let logits = predict(&model, &images, "images", &Silent)?;
//! assert_eq!((logits.len(), logits.classes()), (30, 10));
//! # Ok::<(), cifar_model::ModelError>(())
//! ```
//!
//! - [`FeatureMap`]: activations outside of candle's storage, with candle's autograd as the
//!   scheduler.
//! - [`ops`]: differentiable operations on feature maps (NHWC, `f32`, CPU), each with a slow
//!   counterpart of candle's own operations.
//! - [`gradients`](fn@gradients): the backward pass.
//! - [`layers`] and [`parameters`]: the parts of networks. Every initial value is drawn from a
//!   seed.
//! - [`networks`]: the architectures.
//! - [`Model`]: a network with everything needed to use it, and its file format.
//! - [`predict`](fn@predict): the forward pass that validation and evaluation share.
//! - [`export`](mod@export): the model as a file of other programs.
//! - [`predict_augmented`]: test-time augmentation, the mean over augmented copies of each image;
//!   [`predict_pixels`]: the same for images that are no data set.

mod error;
mod feature_map;
mod gradients;
mod import;
mod input;
mod memory;
mod model;
mod number;
mod plan;
mod precision;
mod predict;
mod test_time;
mod torch_names;
mod transfer;
mod whitening;

pub mod export;
pub mod layers;
pub mod networks;
pub mod ops;
pub mod parameters;

pub use error::{ModelError, Result};
pub use feature_map::FeatureMap;
pub use gradients::gradients;
pub use input::{Mode, images_to_feature_map, views_to_feature_map};
pub use memory::check_memory;
pub use model::{Continued, Imported, Model, ModelOrigin, ModelSpec};
pub use networks::{Architecture, LayerSummary, ModelParams};
pub use plan::Plan;
pub use precision::Precision;
pub use predict::{
    Embeddings, Logits, classify, evaluate_loss, images_per_pass, predict, predict_some, predict_with_features,
};
pub use test_time::{Augmented, TestTimeAugmentation, Views, predict_augmented, predict_pixels};
pub use transfer::Transfer;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

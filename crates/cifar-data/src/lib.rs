//! Image classification data sets, from files on a disk to batches of `u8` pixels.
//!
//! ```
//! use cifar_data::batches::{Augmentation, epoch_order, training_batch};
//! use cifar_data::prepare::{TrainingData, prepare};
//! use cifar_data::sources::synthetic::{self, SyntheticParams};
//! use cifar_data::splits::SplitParams;
//! use cifar_data::{Silent, partitions, pull};
//!
//! # let root = tempfile::tempdir().unwrap();
//! # let at = |name: &str| root.path().join(name);
//! # std::fs::write(at("overrides.csv"), "id,label\n").unwrap();
//! # std::fs::write(at("review.csv"), "id,decision,label,note\n").unwrap();
//! // Read images; `sources::read` reads folders, archives and parquet files.
//! let images = synthetic::generate(&SyntheticParams { count: 300, ..Default::default() })?;
//! // Cut them into partitions, join the chosen ones, and divide them into splits.
//! partitions::write(&images.dataset, &at("partitions"), &Silent)?;
//! let (version, split) = ("v1+v2+v3".parse()?, SplitParams::default());
//! pull::pull(&at("partitions"), version, &split, None, &at("raw"), &Silent)?;
//! let labels = [at("overrides.csv"), at("review.csv")];
//! prepare(&at("raw"), &labels[0], &labels[1], version, &split, &at("prepared"), &Silent)?;
//! // Load what training may see, and make a batch.
//! let data = TrainingData::open(&at("prepared"))?;
//! let order = epoch_order(data.train.len(), 42, 0);
//! let batch = training_batch(&data.train, &order[..16], &Augmentation::default(), 42, 0);
//! assert_eq!(batch.pixels.len(), 16 * 32 * 32 * 3);
//! # Ok::<(), cifar_data::DataError>(())
//! ```
//!
//! The modules, in the order of the pipeline:
//!
//! 1. [`sources`] reads class folders, an official archive or parquet files into a [`Dataset`],
//!    downloads an archive, or draws the built-in synthetic set; a [`Resize`] gives all images one
//!    size;
//! 2. [`partitions`] cuts it into the partitions v1, v2 and v3, and adds others;
//! 3. [`store`] writes and reads a set as `images.safetensors` and `manifest.csv`, with a hash per
//!    image;
//! 4. [`splits`] decides once which images are for training, validation and test, whichever
//!    partitions are chosen;
//! 5. [`pull`] joins the chosen partitions and sets the evaluation pool apart;
//! 6. [`prepare`] applies the corrections of [`labels`] and writes train, val and test;
//! 7. [`batches`] shuffles and augments.
//!
//! The crate has no tensors, no float pixels and no configuration files. The classes, their number
//! and the size of the images come from the data.
//!
//! # Features
//!
//! `download` (on by default) adds `sources::download` with an HTTP client.

mod content;
mod dataset;
mod decode;
mod error;
mod fit;
mod input;
pub mod memory;
mod progress;
mod size;
mod source;
mod stage;

pub mod batches;
pub mod csv_table;
pub mod duplicates;
pub mod image_file;
pub mod labels;
pub mod names;
pub mod output;
pub mod partitions;
pub mod prepare;
pub mod provenance;
pub mod pull;
pub mod random;
pub mod seal;
pub mod sources;
pub mod splits;
pub mod spreadsheet;
pub mod store;

pub use content::{Content, ImageIndex, Known};
pub use dataset::{Dataset, Header, Published, Sample, SampleId};
pub use error::{DataError, Result};
pub use fit::{Fit, Resize, SIDES};
pub use progress::{Progress, Silent};
pub use size::ImageSize;
pub use source::{Source, SourceKind};
pub use stage::Stage;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

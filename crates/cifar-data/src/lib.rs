//! Image classification data sets, from files on a disk to batches of `u8` pixels.
//!
//! The journey, module by module:
//!
//! 1. [`sources`] reads class folders, an official archive or parquet files, fetches an archive, or draws the built-in synthetic set, into a [`Dataset`];
//! 2. [`partitions`] cuts it into the three partitions v1, v2, v3;
//! 3. [`store`] writes and reads a set as `images.safetensors` + `manifest.csv`, with a hash for every image;
//! 4. [`splits`] decides once, over all partitions, which image is for training, validation and test;
//! 5. [`pull`] joins the chosen partitions and sets the evaluation pool apart;
//! 6. [`prepare`] applies [`labels`] overrides and writes train, val and test;
//! 7. [`batches`] shuffles, flips and crops.
//!
//! The crate knows neither tensors nor float pixels nor YAML. Classes, their number and the image size are data.
//!
//! ```
//! use cifar_data::sources::synthetic::{self, SyntheticParams};
//! use cifar_data::batches::{training_batch, epoch_order, Augmentation};
//!
//! let set = synthetic::generate(&SyntheticParams { count: 60, ..Default::default() })?.dataset;
//! let order = epoch_order(set.len(), 42, 0);
//! let batch = training_batch(&set, &order[..16], &Augmentation::default(), 42, 0);
//! assert_eq!(batch.pixels.len(), 16 * 32 * 32 * 3);
//! # Ok::<(), cifar_data::DataError>(())
//! ```

mod content;
mod dataset;
mod decode;
mod error;
mod input;
pub mod memory;
mod monitor;

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
pub use dataset::{Dataset, Header, ImageSize, Published, Sample, SampleId, Source, SourceKind};
pub use error::{DataError, Result};
pub use monitor::{Monitor, Silent};

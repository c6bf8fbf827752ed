#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! A [`Project`] knows where everything is ([`layout::Layout`]), reads params.yaml
//! ([`params::Params`]) and has each stage as a method. [`Project::run`] is the whole pipeline.
//! Stages report through a [`Reporter`] and return what they made as an [`Outcome`].
//!
//! This is the only crate that reads YAML. [`contract`] states what each stage of dvc.yaml reads
//! and writes, and [`fingerprint`] which code decides its results.

mod error;
mod reporter;

pub mod contract;
pub mod fingerprint;
pub mod init;
pub mod layout;
pub mod links;
pub mod lock;
pub mod params;
pub mod program;
pub mod programs;
pub mod project;
pub mod resources;
pub mod run_record;
pub mod stages;

pub use error::{Context, Error, ErrorKind, Result};
pub use project::{Project, RunOptions};
pub use reporter::{Outcome, Reporter};
pub use stages::partition::PartitionOptions;
pub use stages::train::TrainOptions;

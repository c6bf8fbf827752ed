#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! - [`grid`]: experiments.toml, as a list of runs with checked parameters;
//! - [`plan`]: the runs of a grid with their folders and states;
//! - [`run_grid`]: does what is left, by one of the [`engines`], and reports to a [`GridReporter`];
//! - [`analysis`]: figures over finished runs, conclusions in words, and the report.

pub mod analysis;
pub mod board;
pub mod engines;
pub mod epochs;
pub mod grid;
mod memory;
pub mod plan;
mod reporter;
pub mod run;
mod run_folder;
pub mod schedule;

pub use engines::EngineKind;
pub use reporter::GridReporter;
pub use run::{Concluded, FailedRun, GridRun, RunOptions, conclude, run_grid};

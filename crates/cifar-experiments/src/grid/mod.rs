//! Reads experiments.toml (combinations × seeds × any parameter of params.yaml) into a list of runs
//! with checked parameters.

mod parse;
mod slurm;
mod steps;

use cifar_pipeline::params::{Params, Setting};

pub(crate) use self::parse::wrong;
pub use self::parse::{USUAL, read};
pub use self::slurm::SlurmParams;
pub use self::steps::{ConstantSteps, PartitionImages};

const EPOCHS: &str = "train.epochs";
const CONSTANT_STEPS: &str = "constant_steps";

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Such as `v1+v2-seed123`; also the name of its folder and DVC experiment.
    pub name: String,
    /// The name without the seed, shared by runs that differ in the seed alone.
    pub combination: String,
    /// The values that the grid sets, with partitions and seed.
    pub setting: Setting,
    /// All parameters.
    pub params: Params,
}

/// The content of experiments.toml.
#[derive(Debug)]
pub struct Grid {
    /// Ordered by partitions, then other keys, then seed.
    pub runs: Vec<Run>,
    /// Settings for runs on a cluster.
    pub slurm: SlurmParams,
    /// Number of optimiser steps of every run; none if `train.epochs` stays unchanged.
    pub constant_steps: Option<ConstantSteps>,
}

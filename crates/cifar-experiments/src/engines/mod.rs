//! The engines, which execute the runs of a grid. All produce identical files.

pub(crate) mod dvc;
pub(crate) mod local;
pub mod slurm;

use std::path::Path;

use cifar_pipeline::Result;

use crate::board::Row;
use crate::grid::Run;

/// What executes the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// This process.
    Local,
    /// `dvc exp run`, one experiment per run.
    Dvc,
    /// A job array on a Slurm cluster.
    Slurm,
}

/// Executes one run per call and writes its results to the run's folder.
pub(crate) trait Engine: Sync {
    /// Starts or resumes the run. Calls `data_ready` once other runs may use the same data.
    fn run(&self, run: &Run, folder: &Path, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()>;

    /// Returns the identity of a run's data; runs of a grid that share data have the same one.
    fn data(&self, run: &Run) -> String;
}

/// A project, and where its grid reports to.
#[derive(Clone, Copy)]
pub(crate) struct Session<'a> {
    pub(crate) project: &'a cifar_pipeline::Project,
    pub(crate) reporter: &'a dyn crate::GridReporter,
}

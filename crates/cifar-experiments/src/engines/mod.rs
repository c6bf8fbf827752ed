//! The engines: what does the runs of a grid. All give the same bytes.

pub(crate) mod dvc;
pub(crate) mod local;
pub mod slurm;

use std::path::Path;

use cifar_pipeline::Result;

use crate::board::Row;
use crate::grid::Run;

/// What does the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// This process.
    Local,
    /// `dvc exp run`, one experiment per run.
    Dvc,
    /// A job array on a Slurm cluster.
    Slurm,
}

/// Does one run at a time, and leaves its results in the run's folder.
pub(crate) trait Engine: Sync {
    /// Does the run, or resumes it. `data_ready` is called once others may use the same data.
    fn run(&self, run: &Run, folder: &Path, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()>;

    /// The identity of a run's data among the runs of a grid.
    fn data(&self, run: &Run) -> String;
}

/// A project, and where its grid reports to.
#[derive(Clone, Copy)]
pub(crate) struct Session<'a> {
    pub(crate) project: &'a cifar_pipeline::Project,
    pub(crate) reporter: &'a dyn crate::GridReporter,
}

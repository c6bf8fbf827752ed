//! The engines, which execute the runs of a grid. All produce identical files.

pub(crate) mod dvc;
pub(crate) mod local;
mod run_reporter;
pub mod slurm;

use std::path::Path;

use cifar_pipeline::Result;

use crate::board::{Board, Row, duration};
use crate::grid::Run;
use crate::plan::Entry;
use crate::reporter::GridReporter;
use crate::run_folder::{clear, score};

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
    pub(crate) reporter: &'a dyn GridReporter,
}

/// Starts or resumes one run, and writes its record at the end.
pub(crate) fn do_run(engine: &dyn Engine, entry: &Entry, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()> {
    let folder = &entry.folder;
    clear(folder)?;
    engine.run(&entry.run, folder, row, data_ready)?;
    Ok(entry.record.write(folder)?)
}

/// Reports the line of a run that has ended.
pub(crate) fn note_end(board: &Board, entry: &Entry, failure: Option<&str>, seconds: f64) {
    let (done, all) = board.ended();
    let words = match failure {
        None => format!("{}{}", score(&entry.folder).unwrap_or_default(), duration(seconds)),
        Some(reason) => format!("failed: {reason}"),
    };
    board.reporter().note(&format!("[{done}/{all}] {:<30} {words}", entry.run.name));
}

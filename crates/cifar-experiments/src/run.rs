//! Executes the unfinished runs of a grid and evaluates the finished ones.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cifar_pipeline::lock::ProjectLock;
use cifar_pipeline::run_record::Stopwatch;
use cifar_pipeline::{Error, Project, Reporter, Result, bail};
use serde::Serialize;

use crate::analysis::{self, GridSummary, Runs, conclusions, summarise};
use crate::board::Board;
use crate::engines::{Engine, EngineKind, Session, do_run, dvc, local, note_end, slurm};
use crate::memory;
use crate::plan::{Entry, State, entries, grid};
use crate::reporter::GridReporter;
use crate::run_folder::{LOG, write_failure};
use crate::schedule::{Job, execute};

/// The command that is named as the holder of the project lock.
pub const LOCKED: &str = "experiments";
/// Number of last lines of a failed run's log that are shown.
const TAIL: usize = 5;

/// Options of [`run_grid`].
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The grid file; experiments.toml in the project folder if none.
    pub grid: Option<PathBuf>,
    /// The engine. If none: DVC where the project supports it, else this process.
    pub engine: Option<EngineKind>,
    /// Number of runs at a time.
    pub jobs: Option<u16>,
    /// Whether to repeat failed runs.
    pub retry: bool,
}

/// The outcome of a grid.
#[derive(Debug)]
pub struct GridRun {
    /// The number of runs in the grid.
    pub runs: usize,
    /// Figures and conclusions, if at least one run is finished.
    pub concluded: Option<Concluded>,
    /// The runs that failed.
    pub failed: Vec<FailedRun>,
    /// The runs that were cancelled in Slurm.
    pub cancelled: Vec<String>,
}

/// A run that failed.
#[derive(Debug)]
pub struct FailedRun {
    /// Its name.
    pub name: String,
    /// Why it failed.
    pub reason: String,
    /// Its log.
    pub log: PathBuf,
    /// The last lines of the log.
    pub tail: Vec<String>,
}

impl GridRun {
    /// Returns an error if a run failed or was cancelled.
    ///
    /// # Errors
    /// The number of such runs, and the first of them.
    pub fn result(&self) -> Result<()> {
        if let Some(first) = self.failed.first() {
            bail!(
                "{} of {} runs failed, first {}: {}; `cifar-cli experiments run --retry` does them again",
                self.failed.len(),
                self.runs,
                first.name,
                first.reason
            );
        }
        if let Some(first) = self.cancelled.first() {
            bail!(
                "{} of {} runs were cancelled in Slurm, first {first}; run `cifar-cli experiments run --engine slurm` again to submit them",
                self.cancelled.len(),
                self.runs
            );
        }
        Ok(())
    }
}

/// Figures over the finished runs of a grid, and the conclusions from them.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Concluded {
    /// The figures.
    pub summary: GridSummary,
    /// The folder of the files.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Concluded {
    /// Returns the path of the report.
    pub fn report(&self) -> PathBuf {
        self.folder.join(analysis::REPORT)
    }
}

impl fmt::Display for Concluded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { summary, folder } = self;
        write!(
            f,
            "\n{}\n\n{}\n{} shared test images; {}\nfigures: {}\nreport: {}",
            analysis::table(summary),
            conclusions(summary),
            summary.pool_images,
            summary.source,
            folder.join(analysis::SUMMARY).display(),
            self.report().display()
        )
    }
}

/// Executes the unfinished runs of the grid, then writes figures and conclusions.
///
/// # Errors
/// If the grid is wrong, the engine cannot be used, or the program was stopped. Failed runs are
/// part of the result.
pub fn run_grid(project: &Project, options: &RunOptions, reporter: &dyn GridReporter) -> Result<GridRun> {
    let grid_file = options.grid.as_deref();
    let entries = entries(project, grid_file, reporter)?;
    let session = Session { project, reporter };
    let due: Vec<&Entry> = entries.iter().filter(|entry| is_due(entry, options.retry)).collect();
    note_plan(&entries, &due, options, reporter);
    if grid(project, grid_file)?.constant_steps.is_some() {
        reporter.note(&constant_steps(&entries));
    }
    let usual = if dvc::is_usable(project) { EngineKind::Dvc } else { EngineKind::Local };
    // With nothing to do, neither DVC nor Slurm is needed.
    let engine = if due.is_empty() { EngineKind::Local } else { options.engine.unwrap_or(usual) };
    let (_lock, cancelled, failures) = match engine {
        EngineKind::Slurm => {
            let params = grid(project, grid_file)?.slurm;
            let queue = slurm::Queue::find()?;
            let lock = ProjectLock::take(&project.layout, LOCKED)?;
            (lock, slurm::work(session, &queue, &params, options.jobs, &due)?, BTreeMap::new())
        }
        engine => {
            let jobs = usize::from(options.jobs.unwrap_or(1));
            memory::check(project, &due, jobs)?;
            let engine: Box<dyn Engine> = match engine {
                EngineKind::Dvc => Box::new(dvc::Dvc::new(session, jobs)?),
                _ => Box::new(local::Local::new(session, &due, jobs)),
            };
            let lock = ProjectLock::take(&project.layout, LOCKED)?;
            slurm::refuse_what_is_at_work(project, &due)?;
            let failures = work(session, engine.as_ref(), &due, jobs)?;
            (lock, Vec::new(), failures)
        }
    };
    reporter.check().map_err(|e| {
        Error::from(e).context("finished runs are kept; run `cifar-cli experiments run` again to resume")
    })?;
    let mut entries = crate::plan::entries(project, grid_file, reporter)?;
    // A run also counts as failed if its failure could not be written, as on a full disk.
    let unfinished = |e: &&mut Entry| {
        e.state == State::Waiting && due.iter().any(|d| d.run.name == e.run.name) && !cancelled.contains(&e.run.name)
    };
    for entry in entries.iter_mut().filter(unfinished) {
        let reason = failures.get(&entry.run.name).cloned();
        entry.state = State::Failed(reason.unwrap_or_else(|| "it left no result; is the disk full?".into()));
    }
    let is_finished = entries.iter().any(|e| e.state == State::Finished);
    let concluded = is_finished.then(|| figures(project, &entries, reporter)).transpose()?;
    Ok(GridRun { runs: entries.len(), concluded, failed: failed(&entries), cancelled })
}

/// Computes the figures over the finished runs and writes them with the report.
///
/// # Errors
/// If no run is finished, a result is damaged, or a file cannot be written.
pub fn conclude(project: &Project, grid_file: Option<&Path>, reporter: &dyn Reporter) -> Result<Concluded> {
    let _lock = ProjectLock::take(&project.layout, LOCKED)?;
    figures(project, &entries(project, grid_file, reporter)?, reporter)
}

fn is_due(entry: &Entry, retry: bool) -> bool {
    match entry.state {
        State::Finished => false,
        State::Failed(_) => retry,
        State::Waiting => true,
    }
}

fn note_plan(entries: &[Entry], due: &[&Entry], options: &RunOptions, reporter: &dyn GridReporter) {
    let count = |is: fn(&State) -> bool| entries.iter().filter(|e| is(&e.state)).count();
    reporter.note(&format!(
        "{} runs: {} finished, {} to do, {} failed earlier{}",
        entries.len(),
        count(|state| *state == State::Finished),
        due.len(),
        count(|state| matches!(state, State::Failed(_))),
        if options.retry { " (done again)" } else { "" }
    ));
}

/// Returns the epochs and steps of each combination in words, since the grid overrides params.yaml.
pub fn constant_steps(entries: &[Entry]) -> String {
    let mut told: Vec<(&str, String)> = Vec::new();
    for Entry { run, epochs, steps, .. } in entries {
        if told.iter().all(|(name, _)| *name != run.combination) {
            let words = format!("{} {epochs} epochs (about {steps} steps)", run.combination);
            told.push((&run.combination, words));
        }
    }
    let told: Vec<String> = told.into_iter().map(|(_, words)| words).collect();
    format!("constant_steps sets train.epochs: {}", told.join(", "))
}

/// Writes all files about the finished runs.
fn figures(project: &Project, entries: &[Entry], reporter: &dyn Reporter) -> Result<Concluded> {
    let (finished, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|e| e.state == State::Finished);
    let folders: Vec<PathBuf> = finished.iter().map(|e| e.folder.clone()).collect();
    let runs = Runs::read(&folders)?;
    let summary = summarise(&runs, others.iter().map(|e| e.run.name.clone()).collect());
    let folder = project.layout.experiments();
    analysis::write(&runs, &summary, &folder)?;
    for table in analysis::average_hard_images(&folders, &folder)?.without_probabilities {
        reporter.warn(&format!(
            "{}: an earlier version made some of its runs and kept no probabilities, so its scores are means of ranks",
            table.display()
        ));
    }
    note_other_runs(project, entries, reporter);
    Ok(Concluded { summary, folder })
}

/// Reports how many run folders do not belong to this grid. They are kept and ignored.
fn note_other_runs(project: &Project, entries: &[Entry], reporter: &dyn Reporter) {
    let folder = project.layout.experiments().join(analysis::RUNS);
    let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.file_name());
    let known = |name: &std::ffi::OsStr| entries.iter().any(|e| *name == *e.run.name);
    let count = names.filter(|name| !known(name)).count();
    if count > 0 {
        reporter.note(&format!("{}: {count} other folders are not of this grid; they are ignored", folder.display()));
    }
}

/// Executes the runs that are due. Returns the reasons of failed runs, by name.
fn work(session: Session, engine: &dyn Engine, due: &[&Entry], jobs: usize) -> Result<BTreeMap<String, String>> {
    let costs: Vec<f64> = due.iter().map(|e| e.cost).collect();
    let board = Board::new(session.reporter, &costs);
    let failures = Mutex::new(BTreeMap::new());
    let list = due.iter().enumerate().map(|(index, e)| Job { index, data: engine.data(&e.run) }).collect();
    let result = execute(
        list,
        jobs,
        &|job, schedule| {
            let entry = due[job.index];
            let watch = Stopwatch::start();
            let row = board.begin(&entry.run.name, entry.cost);
            let result = do_run(engine, entry, &row, &|| schedule.data_ready(&job.data));
            row.end();
            if result.is_ok() {
                watch.record(&session.project.layout, &format!("experiments/{}", entry.run.name));
            }
            match result {
                Err(error) if error.is_cancelled() => Err(error),
                result => {
                    let failure = result.err().map(|error| error.one_line());
                    if let Some(reason) = &failure {
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.insert(entry.run.name.clone(), reason.clone());
                    }
                    if let Some(reason) = &failure
                        && let Err(e) = write_failure(&entry.folder, reason)
                    {
                        session.reporter.warn(&e.to_string());
                    }
                    note_end(&board, entry, failure.as_deref(), watch.seconds());
                    Ok(())
                }
            }
        },
        &|| session.reporter.cancelled(),
    );
    session.reporter.grid_ended();
    result.or_else(|error| if error.is_cancelled() { Ok(()) } else { Err(error) })?;
    Ok(failures.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The runs that failed, with the last lines of their logs.
fn failed(entries: &[Entry]) -> Vec<FailedRun> {
    let failed = entries.iter().filter_map(|entry| match &entry.state {
        State::Failed(reason) => Some((entry, reason)),
        _ => None,
    });
    failed
        .map(|(entry, reason)| {
            let log = entry.folder.join(LOG);
            let text = std::fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].iter().map(ToString::to_string).collect();
            FailedRun { name: entry.run.name.clone(), reason: reason.clone(), log, tail }
        })
        .collect()
}

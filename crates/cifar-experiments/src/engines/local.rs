//! `--engine local`: executes every run in this process. It calls the same functions as the single
//! commands, so the results are identical.
//!
//! Pulled and prepared data are made once, shared, and removed when no run needs them any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cifar_data::DataError;
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_data::pull::{POOL, Raw};
use cifar_data::splits::{Split, SplitParams};
use cifar_pipeline::params::Setting;
use cifar_pipeline::stages::{evaluate, hard_images, prepare, pull, train, tune};
use cifar_pipeline::{Context as _, Error, Project, Reporter, Result, TrainOptions};
use serde_json::json;

use super::run_reporter::RunReporter;
use super::{Engine, Session};
use crate::board::Row;
use crate::grid::Run;
use crate::plan::Entry;
use crate::run_folder::{EVENTS, log, log_error};

pub(crate) struct Local<'a> {
    session: Session<'a>,
    /// Threads per worker; none if a single worker uses all threads.
    threads: Option<usize>,
    /// Data folders that are known to be complete; locked while data are made.
    making: Mutex<BTreeSet<PathBuf>>,
    /// Number of runs that still need each data folder.
    needed: Mutex<BTreeMap<PathBuf, usize>>,
    /// The identity of partitions and labels for each version of the data set.
    data: BTreeMap<String, String>,
    /// The folder of shared data.
    shared: PathBuf,
    /// Whether other processes use the data too. If so, the data and other runs' checkpoints are
    /// kept.
    is_shared: bool,
}

/// Returns the identity of partitions and labels for each version of the data set.
pub(crate) fn identities<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> BTreeMap<String, String> {
    let identity = |e: &Entry| (e.run.params.dataset_version.to_string(), e.record.data.clone());
    entries.into_iter().map(identity).collect()
}

impl<'a> Local<'a> {
    pub(crate) fn new(session: Session<'a>, due: &[&Entry], jobs: usize) -> Self {
        let data = identities(due.iter().copied());
        let threads = (jobs > 1).then(|| (rayon::current_num_threads() / jobs).max(1));
        let (making, needed) = (Mutex::default(), Mutex::new(BTreeMap::new()));
        let shared = session.project.layout.shared_data();
        let local = Self { session, threads, making, needed, data, shared, is_shared: false };
        for entry in due {
            local.count(&entry.run, |n| n + 1);
        }
        local
    }

    /// Returns an engine for runs of several processes, each with all its threads, that share the
    /// data in `shared`.
    pub(crate) fn shared(session: Session<'a>, data: BTreeMap<String, String>, shared: PathBuf) -> Self {
        let (making, needed) = (Mutex::default(), Mutex::new(BTreeMap::new()));
        Self { session, threads: None, making, needed, data, shared, is_shared: true }
    }

    /// Returns the folders of pulled and of prepared data for a run.
    pub(crate) fn folders(&self, run: &Run) -> [PathBuf; 2] {
        let version = run.params.dataset_version.to_string();
        let data = self.data.get(&version).map_or("", String::as_str);
        let name = |stage: &str, split: &SplitParams| {
            let identity = json!([data, version, split]);
            let hash = blake3::hash(identity.to_string().as_bytes()).to_hex();
            self.shared.join(format!("{stage}-{}", &hash[..16]))
        };
        [name("raw", &run.params.split.division()), name("prepared", &run.params.split)]
    }

    /// Changes the number of runs that need the data of `run`. Returns the folders that no run
    /// needs.
    fn count(&self, run: &Run, change: impl Fn(usize) -> usize) -> Vec<PathBuf> {
        let mut needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.folders(run).into_iter().filter_map(|folder| {
            let count = needed.entry(folder.clone()).or_insert(0);
            *count = change(*count);
            (*count == 0).then_some(folder)
        });
        changed.collect()
    }

    /// Returns the project in which the stages of a run work, after writing its parameters to its
    /// folder.
    pub(crate) fn project_of(&self, run: &Run, folder: &Path) -> Result<Project> {
        let [raw, prepared] = self.folders(run);
        let params_file = folder.join("params.yaml");
        // JSON is YAML.
        cifar_data::output::write_json(&params_file, &run.params)?;
        let layout = self.session.project.layout.of_run(raw, prepared, folder.to_path_buf());
        Ok(Project { layout, params_file, settings: Setting::new() })
    }

    /// Pulls and prepares the data unless they exist. Data of an earlier process are read once, and
    /// damaged data are made again.
    pub(crate) fn make_data(&self, project: &Project, reporter: &dyn Reporter) -> Result<()> {
        let mut whole = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let (raw, prepared) = (project.layout.raw(), project.layout.prepared());
        let pull = || pull::run(project, reporter).map(|pulled| reporter.finished(&pulled));
        let prepare = || prepare::run(project, reporter).map(|prepared| reporter.finished(&prepared));
        for (folder, read, make) in [
            (&raw, read_raw as fn(&Path) -> Result<(), DataError>, &pull as &dyn Fn() -> Result<()>),
            (&prepared, read_prepared, &prepare),
        ] {
            if whole.contains(folder) {
                continue;
            }
            // Folders are created atomically, but they may have been damaged since.
            if folder.is_dir()
                && let Err(error) = read(folder)
            {
                if !is_damage(&error) {
                    return Err(error.into());
                }
                reporter.warn(&format!("{error}; {} is made again", folder.display()));
                std::fs::remove_dir_all(folder).with_context(|| format!("{}: cannot remove", folder.display()))?;
            }
            if !folder.is_dir() {
                make()?;
            }
            whole.insert(folder.clone());
        }
        Ok(())
    }

    fn stages(
        &self,
        project: &Project,
        folder: &Path,
        data_ready: &(dyn Fn() + Sync),
        reporter: &dyn Reporter,
    ) -> Result<()> {
        // If other processes share the data, the submitting process has made them.
        if !self.is_shared {
            self.make_data(project, reporter)?;
        }
        data_ready();
        let options = TrainOptions {
            keep_other_checkpoints: self.is_shared,
            events: Some(folder.join(EVENTS)),
            ..TrainOptions::default()
        };
        reporter.check()?;
        reporter.finished(&tune::run(project, reporter)?);
        reporter.finished(&train::run(project, &options, reporter)?);
        reporter.finished(&evaluate::run(project, reporter)?);
        reporter.finished(&hard_images::run(project, reporter)?);
        Ok(())
    }
}

/// Reads and checks everything that `pull` writes.
fn read_raw(folder: &Path) -> Result<(), DataError> {
    let raw = Raw::read(folder)?;
    TestSet::open(&folder.join(POOL), &raw.record.pool_fingerprint).map(drop)
}

/// Reads and checks everything that `prepare` writes.
fn read_prepared(folder: &Path) -> Result<(), DataError> {
    let data = TrainingData::open(folder)?;
    TestSet::open(&folder.join(Split::Test.name()), data.report.test_fingerprint()).map(drop)
}

/// Returns whether the data themselves are wrong, rather than the means of reading them.
fn is_damage(error: &DataError) -> bool {
    match error {
        DataError::Malformed { .. } | DataError::HashMismatch { .. } | DataError::Line { .. } => true,
        DataError::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

impl Engine for Local<'_> {
    fn run(&self, run: &Run, folder: &Path, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()> {
        let mut log = log(folder)?;
        let reporter = RunReporter::new(log.try_clone().context("cannot share the log")?, row.clone());
        let project = self.project_of(run, folder)?;
        let stages = || self.stages(&project, folder, data_ready, &reporter);
        let result = match self.threads {
            None => stages(),
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.map_err(|e| Error::failed(format!("cannot start the threads: {e}")))?.install(stages)
            }
        };
        if let Err(error) = &result {
            log_error(&mut log, error);
        }
        result?;
        if self.is_shared {
            return Ok(());
        }
        for unneeded in self.count(run, |n| n.saturating_sub(1)) {
            // Leftover data only use disk space.
            let _ = std::fs::remove_dir_all(unneeded);
        }
        Ok(())
    }

    fn data(&self, run: &Run) -> String {
        let [raw, _] = self.folders(run);
        raw.display().to_string()
    }
}

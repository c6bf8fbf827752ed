//! `--engine local`: every run in this process, by the functions that the single commands use, so with the same results.
//!
//! Pulled and prepared data are made once and shared; they go when no run needs them any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_data::pull::{POOL, Raw};
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{DataError, Progress as _};
use serde_json::json;

use super::{Engine, Entry, log, log_error};
use crate::args::{HardImagesArgs, TrainArgs};
use crate::commands::{Context, evaluate, hard_images, prepare, pull, train, tune};
use crate::experiments::board::Row;
use crate::experiments::grid::Run;
use crate::terminal::Terminal;

pub(super) struct Local<'a> {
    context: &'a Context<'a>,
    /// Threads of each worker; none if there is one worker, which has them all.
    threads: Option<usize>,
    /// Held by whoever makes data: the folders that are known to be whole.
    making: Mutex<BTreeSet<PathBuf>>,
    /// How many runs still need a folder of data.
    needed: Mutex<BTreeMap<PathBuf, usize>>,
    /// What stands for the partitions and labels.
    data: String,
    /// Where shared data lie.
    shared: PathBuf,
    /// Whether other processes need them too: then they stay, and so do checkpoints of other runs.
    has_company: bool,
}

impl<'a> Local<'a> {
    pub(super) fn new(context: &'a Context, due: &[&Entry], jobs: usize) -> Self {
        let data = due.first().map(|e| e.record.data.clone()).unwrap_or_default();
        let threads = (jobs > 1).then(|| (rayon::current_num_threads() / jobs).max(1));
        let (making, needed) = (Mutex::default(), Mutex::new(BTreeMap::new()));
        let shared = context.layout.shared_data();
        let local = Self { context, threads, making, needed, data, shared, has_company: false };
        for entry in due {
            local.count(&entry.run, |n| n + 1);
        }
        local
    }

    /// For runs that several processes do, each with all its threads, on the same data below `shared`.
    pub(super) fn in_company(context: &'a Context, data: String, shared: PathBuf) -> Self {
        let (making, needed) = (Mutex::default(), Mutex::new(BTreeMap::new()));
        Self { context, threads: None, making, needed, data, shared, has_company: true }
    }

    /// The folders of pulled and of prepared data for a run.
    pub(super) fn folders(&self, run: &Run) -> [PathBuf; 2] {
        let name = |stage: &str, split: &SplitParams| {
            let identity = json!([self.data, run.params.dataset_version, split]);
            let hash = blake3::hash(identity.to_string().as_bytes()).to_hex();
            self.shared.join(format!("{stage}-{}", &hash[..16]))
        };
        [name("raw", &run.params.split.division()), name("prepared", &run.params.split)]
    }

    /// Changes how many runs need the data of `run`; returns the folders that none does.
    fn count(&self, run: &Run, change: impl Fn(usize) -> usize) -> Vec<PathBuf> {
        let mut needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.folders(run).into_iter().filter_map(|folder| {
            let count = needed.entry(folder.clone()).or_insert(0);
            *count = change(*count);
            (*count == 0).then_some(folder)
        });
        changed.collect()
    }

    /// What the stages of a run work with; its parameters are in its folder from now on.
    pub(super) fn inside<'t>(&self, run: &Run, folder: &Path, terminal: &'t Terminal) -> Result<Context<'t>> {
        let [raw, prepared] = self.folders(run);
        let params_file = folder.join("params.yaml");
        // JSON is YAML.
        let text = serde_json::to_string_pretty(&run.params)? + "\n";
        cifar_data::output::write_file(&params_file, text.as_bytes())?;
        let layout = self.context.layout.of_run(raw, prepared, folder.to_path_buf());
        Ok(Context { layout, params_file, terminal })
    }

    /// Pulls and prepares, unless somebody did. Data that an earlier process left are read once; what is damaged is made again.
    pub(super) fn make_data(&self, context: &Context) -> Result<()> {
        let mut whole = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let (raw, prepared) = (context.layout.raw(), context.layout.prepared());
        for (folder, read, make) in [
            (&raw, read_raw as fn(&Path) -> Result<(), DataError>, pull::run as fn(&Context) -> Result<()>),
            (&prepared, read_prepared, prepare::run),
        ] {
            if whole.contains(folder) {
                continue;
            }
            // Folders appear whole, but they may have been damaged since.
            if folder.is_dir()
                && let Err(error) = read(folder)
            {
                if !is_damage(&error) {
                    return Err(error.into());
                }
                context.terminal.warn(&format!("{error}; {} is made again", folder.display()));
                std::fs::remove_dir_all(folder).with_context(|| format!("{}: cannot remove", folder.display()))?;
            }
            if !folder.is_dir() {
                make(context)?;
            }
            whole.insert(folder.clone());
        }
        Ok(())
    }

    fn stages(&self, context: &Context, data_ready: &(dyn Fn() + Sync)) -> Result<()> {
        // In company whoever submitted the run has made them, and others may be reading them.
        if !self.has_company {
            self.make_data(context)?;
        }
        data_ready();
        let alone = |context: &Context| train::run(context, &TrainArgs::default());
        let train: fn(&Context) -> Result<()> = if self.has_company { train::run_in_company } else { alone };
        let hard_images = |context: &Context| hard_images::run(context, &HardImagesArgs::default());
        for stage in [tune::run, train, evaluate::run, hard_images] {
            context.terminal.check()?;
            stage(context)?;
        }
        Ok(())
    }
}

/// Reads everything that `pull` leaves.
fn read_raw(folder: &Path) -> Result<(), DataError> {
    let raw = Raw::read(folder)?;
    TestSet::open(&folder.join(POOL), &raw.record.pool_fingerprint).map(drop)
}

/// Reads everything that `prepare` leaves.
fn read_prepared(folder: &Path) -> Result<(), DataError> {
    let data = TrainingData::open(folder)?;
    TestSet::open(&folder.join(Split::Test.name()), data.report.test_fingerprint()).map(drop)
}

/// Whether the data themselves are wrong, rather than what it takes to read them.
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
        let terminal = Terminal::of_run(log.try_clone().context("cannot share the log")?, row.clone());
        let context = self.inside(run, folder, &terminal)?;
        let result = match self.threads {
            None => self.stages(&context, data_ready),
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.context("cannot start the threads")?.install(|| self.stages(&context, data_ready))
            }
        };
        if let Err(error) = &result {
            log_error(&mut log, error);
        }
        result?;
        if self.has_company {
            return Ok(());
        }
        for unneeded in self.count(run, |n| n.saturating_sub(1)) {
            // Data that stay take room, and harm nothing.
            let _ = std::fs::remove_dir_all(unneeded);
        }
        Ok(())
    }

    fn data(&self, run: &Run) -> String {
        let [raw, _] = self.folders(run);
        raw.display().to_string()
    }
}

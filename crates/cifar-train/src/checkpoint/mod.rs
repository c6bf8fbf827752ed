//! Checkpoints: everything that decides the rest of a run, in one file that is replaced whole.
//!
//! A run's checkpoint lies in a folder under the run's [`key`](run_key), a hash of all that decides its result: a run with
//! other parameters, data, seed or program finds none. `file` has the format.

mod file;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use candle_core::{Device, Tensor};
use cifar_data::output::{remove_unfinished, write_file};
use cifar_data::prepare::PreparedReport;
use cifar_data::seal::PLACEHOLDER;
use cifar_data::splits::Split;
use cifar_data::{DataError, Monitor};
use cifar_model::ModelParams;
use safetensors::tensor::Dtype;
use serde_json::json;

use self::file::{MEMORY, Record, SCHEMA, decode, encode, floats, parts, tensors};
use crate::fit::{Progress, Run};
use crate::lock::{lock, lock_if_free};
use crate::{Result, TrainError, TrainParams, Trainer};

const FILE: &str = "checkpoint.safetensors";
/// Whoever has this file locked is at work in its folder.
const LOCK: &str = "lock";
/// Lies beside the checkpoint of a run that came to its end.
const FINISHED: &str = "finished";
/// Checkpoints of other runs that are kept, the youngest: of finished runs, and of unfinished ones.
const KEPT: [usize; 2] = [5, 20];
/// Between the names of the arithmetic of several processes.
const AND: &str = " and ";
/// The end of an epoch is a good moment for a checkpoint, but not sooner after the last one than this share of the usual time.
const SOONEST: f64 = 0.1;

/// The name of a run: a hash of everything that decides its result. `program` stands for the code that computes it.
pub fn run_key(params: &TrainParams, model: &ModelParams, data: &PreparedReport, seed: u64, program: &str) -> String {
    let identity = json!({
        "schema": SCHEMA,
        "train": params,
        "model": model,
        "seed": seed,
        "program": program,
        "classes": data.classes,
        "normalisation": data.normalisation,
        "images": [data.fingerprints.get(&Split::Train), data.fingerprints.get(&Split::Val)],
        // They stand in the model file.
        "version": data.dataset_version,
        "source": data.source,
    });
    blake3::hash(identity.to_string().as_bytes()).to_hex().to_string()
}

/// Where one run keeps its checkpoint. No other process can have the same one at the same time.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "choices of the caller, each on its own")]
pub struct Checkpoints {
    root: PathBuf,
    key: String,
    every: Duration,
    saved: Instant,
    /// The step behind which it was written.
    step: usize,
    accept_other_arithmetic: bool,
    continues_after_stop: bool,
    prunes: bool,
    warned: bool,
    _lock: File,
}

impl Checkpoints {
    /// Opens the folder of the run `key` below `root`, and keeps others out of it; waits for another process that has it. A
    /// checkpoint is written `every` so often.
    ///
    /// # Errors
    /// If the folder cannot be made or its lock not be had, or the user asks to stop while it waits.
    pub fn open(root: &Path, key: &str, every: Duration, monitor: &dyn Monitor) -> Result<Self> {
        let folder = root.join(key);
        let lock = lock(&folder.join(LOCK), monitor)?;
        // A process that was killed while it wrote leaves what it had written. It takes room and does no harm.
        if let Err(error) = remove_unfinished(&folder) {
            monitor.warn(&error.to_string());
        }
        Ok(Self {
            root: root.to_path_buf(),
            key: key.into(),
            every,
            saved: Instant::now(),
            step: 0,
            accept_other_arithmetic: false,
            continues_after_stop: false,
            prunes: true,
            warned: false,
            _lock: lock,
        })
    }

    /// Goes on with a checkpoint that other kernels or another target wrote, too: the result then has the bits of neither.
    #[must_use]
    pub fn accepting_other_arithmetic(mut self, accept: bool) -> Self {
        self.accept_other_arithmetic = accept;
        self
    }

    /// Trains on from the checkpoint of a run that [`Watcher::proceed`](crate::Watcher::proceed) ended. Without
    /// this, such a run is finished.
    #[must_use]
    pub fn continuing_after_stop(mut self, continues: bool) -> Self {
        self.continues_after_stop = continues;
        self
    }

    /// Removes no checkpoints of other runs when this one has come to its end.
    #[must_use]
    pub fn keeping_those_of_other_runs(mut self) -> Self {
        self.prunes = false;
        self
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder().join(FILE)
    }

    /// The steps behind which it was written by this process, or gone on with; 0 if there is none.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Forgets what there is.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn discard(&mut self) -> Result<()> {
        self.step = 0;
        for name in [FINISHED, FILE] {
            let path = self.folder().join(name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(problem(&path, format!("cannot remove it: {e}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.key)
    }

    /// Whether it is time for the next one; `ended` says that an epoch has just come to its end.
    pub(crate) fn is_due(&self, ended: bool) -> bool {
        self.saved.elapsed() >= if ended { self.every.mul_f64(SOONEST) } else { self.every }
    }

    /// Writes the state behind a whole step. What stood there before stands until the new file is complete; if it cannot be
    /// written, the first such failure is a warning, and the run goes on.
    ///
    /// # Errors
    /// If a weight is not finite: the run has run away, and the checkpoint before stands.
    pub(crate) fn save(
        &mut self,
        trainer: &Trainer,
        progress: &Progress,
        finished: bool,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let tensors = tensors(trainer, progress)?;
        let spoilt = tensors.iter().find(|(_, _, values)| values.iter().any(|v| !v.is_finite()));
        if let Some((name, ..)) = spoilt {
            return Err(TrainError::NotFinite { tensor: name.clone(), step: trainer.step_count() });
        }
        let parts = parts(tensors, progress);
        let record = Record {
            schema: SCHEMA,
            key: self.key.clone(),
            architecture: trainer.model().spec().params.architecture.name().into(),
            arithmetic: progress.arithmetic.clone(),
            step: trainer.step_count(),
            finished,
            history: progress.history.clone(),
            loss_bits: progress.loss.to_bits(),
            correct: progress.correct,
            has_best: progress.best.is_some(),
            seal: PLACEHOLDER.into(),
        };
        let written = encode(&record, &parts)
            .and_then(|bytes| Ok(write_file(&self.path(), &bytes)?))
            .and_then(|()| self.mark(finished));
        self.saved = Instant::now();
        match written {
            Ok(()) => self.step = trainer.step_count(),
            Err(error) if !std::mem::replace(&mut self.warned, true) => {
                monitor.warn(&format!("{error}; training goes on, the checkpoint before stands"));
            }
            Err(_) => {}
        }
        if finished && self.prunes {
            self.prune();
        }
        Ok(())
    }

    /// Leaves the mark of a finished run, or takes back that of a run that was stopped and now continues.
    fn mark(&self, finished: bool) -> Result<()> {
        let path = self.folder().join(FINISHED);
        if finished {
            return Ok(write_file(&path, b"")?);
        }
        if path.exists() {
            fs::remove_file(&path).map_err(DataError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Puts `run` where the checkpoint says, if there is one. Returns the steps that were done.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or is of another run, architecture, schema or arithmetic.
    pub fn resume(&mut self, run: &mut Run) -> Result<usize> {
        let path = self.path();
        if !path.exists() {
            return Ok(0);
        }
        let wrong = |text: String| problem(&path, text);
        let bytes = fs::read(&path).map_err(DataError::io("read", &path))?;
        let (record, mut tensors) = decode(&bytes).map_err(wrong)?;
        if record.key != self.key {
            return Err(wrong("belongs to a run with other parameters, data or program".into()));
        }
        let found = run.trainer.model().spec().params.architecture.name();
        if record.architecture != found {
            return Err(wrong(format!("holds a {}, the parameters ask for a {found}", record.architecture)));
        }
        let here = cifar_kernels::numeric_target()?;
        let found = record.arithmetic;
        if found != here && !self.accept_other_arithmetic {
            let is_mixed = found.contains(AND);
            return Err(TrainError::Arithmetic { path, found, here, is_mixed });
        }
        // What was mixed once is neither's from then on.
        let adds_nothing = record.finished || found.split(AND).any(|part| part == here);
        let arithmetic = if adds_nothing { found } else { format!("{found}{AND}{here}") };
        let mut take = |name: &str, dims: &[usize]| match tensors.remove(name) {
            Some((Dtype::F32, found, bytes)) if found == dims => Ok(floats(&bytes)),
            Some((dtype, found, _)) => {
                Err(wrong(format!("tensor `{name}` is {dtype:?} {found:?}, expected F32 {dims:?}")))
            }
            None => Err(wrong(format!("has no tensor `{name}`"))),
        };
        let parameters = run.trainer.model().parameters().clone();
        let mut best = Vec::new();
        for (name, var) in parameters.all() {
            let tensor = |values| Tensor::from_vec(values, var.dims(), &Device::Cpu);
            var.set(&tensor(take(&format!("weight/{name}"), var.dims())?)?)?;
            if record.has_best {
                best.push(tensor(take(&format!("best/{name}"), var.dims())?)?);
            }
        }
        let (optimiser, average) = run.trainer.restore(record.step);
        for (parameter, memory) in parameters.trained().iter().zip(optimiser.memory_mut()) {
            for (kind, values) in MEMORY.into_iter().zip(memory) {
                if !values.is_empty() {
                    *values = take(&format!("{kind}/{}", parameter.name), parameter.var.dims())?;
                }
            }
        }
        for ((name, var), values) in parameters.all().zip(average.values_mut()) {
            *values = take(&format!("average/{name}"), var.dims())?;
        }
        let dynamics = run.progress.dynamics.take();
        let dynamics = dynamics
            .map(|dynamics| dynamics.with_parts(|name| tensors.remove(&format!("dynamics/{name}"))))
            .transpose();
        run.progress = Progress {
            dynamics: dynamics.map_err(wrong)?,
            history: record.history,
            best: record.has_best.then_some(best),
            loss: f64::from_bits(record.loss_bits),
            correct: record.correct,
            // A run is finished for one of three reasons. The other two, its last epoch and early stopping, are seen
            // from its history.
            stopped: record.finished && !self.continues_after_stop,
            arithmetic,
        };
        self.step = record.step;
        Ok(record.step)
    }

    /// The run that `start` builds, put where the checkpoint says; if that is damaged, a warning, and the run from its start.
    /// This is for runs that are parts of something greater: nobody could be asked to start one of them over.
    ///
    /// # Errors
    /// Those of `start`, and if the checkpoint is of other arithmetic, or cannot be read or removed.
    pub fn resumed<'a>(&mut self, start: impl Fn() -> Result<Run<'a>>, monitor: &dyn Monitor) -> Result<Run<'a>> {
        let mut run = start()?;
        match self.resume(&mut run) {
            Ok(_) => Ok(run),
            Err(error @ TrainError::Checkpoint { .. }) => {
                monitor.warn(&format!("{error}; it is removed, and this network is trained from the start"));
                self.discard()?;
                start()
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the checkpoints of other runs but the youngest. Failing here loses nothing.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        let mut others: [Vec<(SystemTime, PathBuf)>; 2] = Default::default();
        for folder in entries.flatten().map(|e| e.path()).filter(|p| p.is_dir() && *p != self.folder()) {
            let changed = fs::metadata(folder.join(FILE)).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            others[usize::from(!folder.join(FINISHED).exists())].push((changed, folder));
        }
        for (mut folders, kept) in others.into_iter().zip(KEPT) {
            folders.sort();
            folders.reverse();
            for (_, folder) in folders.into_iter().skip(kept) {
                if let Some(_lock) = lock_if_free(&folder.join(LOCK)) {
                    let _ = fs::remove_dir_all(&folder);
                }
            }
        }
    }
}

fn problem(path: &Path, problem: String) -> TrainError {
    TrainError::Checkpoint { path: path.to_path_buf(), problem }
}

/// Removes the folders of runs below `root`, or only those of runs that came to their end, but those that somebody is at work in;
/// these are returned. What cannot be removed stays.
pub fn remove_checkpoints(root: &Path, only_finished: bool) -> Vec<PathBuf> {
    let mut in_use = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let folder = entry.path();
        if !folder.join(LOCK).is_file() || (only_finished && !folder.join(FINISHED).exists()) {
            continue;
        }
        match lock_if_free(&folder.join(LOCK)) {
            Some(_lock) => drop(fs::remove_dir_all(&folder)),
            None => in_use.push(folder),
        }
    }
    in_use
}

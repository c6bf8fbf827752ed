//! Checkpoints: everything that decides the rest of a run, in one file that is replaced atomically.
//!
//! A run's checkpoint is in a folder named by the run's [`key`](run_key), a hash of everything that
//! decides its result. A run with other parameters, data, seed or program has another folder.
//! `file` has the format.

mod file;
mod key;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use candle_core::{Device, Tensor};
use cifar_data::output::{remove_unfinished, write_file};
use cifar_data::seal::PLACEHOLDER;
use cifar_data::{DataError, Progress};
use safetensors::tensor::Dtype;

use self::file::{ByName, MEMORY, Record, SCHEMA, decode, encode, floats, parts, tensors};
pub use self::key::{continued_key, run_key};
use crate::lock::{lock, lock_if_free};
use crate::run::{Run, RunState};
use crate::{EpochRecord, Result, TrainError, Trainer};

const FILE: &str = "checkpoint.safetensors";
/// The process that holds this file's lock works in the folder.
const LOCK: &str = "lock";
/// Marks the checkpoint of a finished run.
const FINISHED: &str = "finished";
/// How many of the youngest checkpoints of other runs are kept: of finished and of unfinished runs.
const KEPT: [usize; 2] = [5, 20];
/// Joins the names of several numeric targets.
const SEPARATOR: &str = " and ";
/// The end of an epoch is a good moment for a checkpoint, unless the last one is younger than this
/// fraction of the interval.
const MIN_INTERVAL: f64 = 0.1;

/// The checkpoint of one run. Only one process at a time can have it open.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "choices of the caller, each on its own")]
pub struct Checkpoints {
    root: PathBuf,
    key: String,
    every: Duration,
    saved: Instant,
    /// The step after which it was written.
    step: usize,
    allow_mixed_isa: bool,
    continue_after_stop: bool,
    prunes: bool,
    warned: bool,
    _lock: File,
}

impl Checkpoints {
    /// Opens the folder of the run `key` under `root` and locks it; waits while another process has
    /// it.
    ///
    /// `every` is the time between two checkpoints.
    ///
    /// # Errors
    /// If the folder cannot be created or locked, or the user asks to stop while it waits.
    pub fn open(root: &Path, key: &str, every: Duration, progress: &dyn Progress) -> Result<Self> {
        let folder = root.join(key);
        let lock = lock(&folder.join(LOCK), progress)?;
        // A process that was killed while writing leaves a partial file. It takes room and does no
        // harm.
        if let Err(error) = remove_unfinished(&folder) {
            progress.warn(&error.to_string());
        }
        Ok(Self {
            root: root.to_path_buf(),
            key: key.into(),
            every,
            saved: Instant::now(),
            step: 0,
            allow_mixed_isa: false,
            continue_after_stop: false,
            prunes: true,
            warned: false,
            _lock: lock,
        })
    }

    /// Allows resuming from a checkpoint of another numeric target. The result then mixes both and
    /// can be reproduced on neither.
    #[must_use]
    pub fn allow_mixed_isa(mut self, allow: bool) -> Self {
        self.allow_mixed_isa = allow;
        self
    }

    /// Allows resuming a run that
    /// [`TrainingCallback::should_continue`](crate::TrainingCallback::should_continue) ended. By
    /// default such a run is finished.
    #[must_use]
    pub fn continue_after_stop(mut self, continues: bool) -> Self {
        self.continue_after_stop = continues;
        self
    }

    /// Keeps the checkpoints of all other runs when this one finishes. By default only the youngest
    /// are kept.
    #[must_use]
    pub fn keep_other_runs(mut self) -> Self {
        self.prunes = false;
        self
    }

    /// Returns the path of the checkpoint file.
    pub fn path(&self) -> PathBuf {
        self.folder().join(FILE)
    }

    /// Returns the step of the checkpoint that this process wrote or resumed from; 0 if there is
    /// none.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Removes the checkpoint.
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

    /// Returns whether the next checkpoint is due; `ended` says that an epoch has just ended.
    pub(crate) fn is_due(&self, ended: bool) -> bool {
        self.saved.elapsed() >= if ended { self.every.mul_f64(MIN_INTERVAL) } else { self.every }
    }

    /// Writes the state after a step. The old file stays until the new one is complete. If writing
    /// fails, training continues; only the first failure is a warning.
    ///
    /// # Errors
    /// If a weight is not finite: the run has diverged, and the old checkpoint stays.
    pub(crate) fn save(
        &mut self,
        trainer: &Trainer,
        state: &RunState,
        finished: bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        let tensors = tensors(trainer, state)?;
        let not_finite = tensors.iter().find(|(_, _, values)| values.iter().any(|v| !v.is_finite()));
        if let Some((name, ..)) = not_finite {
            return Err(TrainError::NotFinite { tensor: name.clone(), step: trainer.step_count() });
        }
        let parts = parts(tensors, state);
        let record = Record {
            schema: SCHEMA,
            key: self.key.clone(),
            architecture: trainer.model().spec().params.architecture.name().into(),
            numeric_target: state.numeric_target.clone(),
            step: trainer.step_count(),
            finished,
            history: state.history.clone(),
            loss_bits: state.loss.to_bits(),
            correct: state.correct,
            has_best: state.best.is_some(),
            has_first_epoch: state.first_epoch.is_some(),
            seal: PLACEHOLDER.into(),
        };
        let written = encode(&record, &parts)
            .and_then(|bytes| Ok(write_file(&self.path(), &bytes)?))
            .and_then(|()| self.mark(finished));
        self.saved = Instant::now();
        match written {
            Ok(()) => self.step = trainer.step_count(),
            Err(error) if !std::mem::replace(&mut self.warned, true) => {
                progress.warn(&format!("{error}; training continues, and the earlier checkpoint stays"));
            }
            Err(_) => {}
        }
        if finished && self.prunes {
            self.prune();
        }
        Ok(())
    }

    /// Marks the run as finished, or removes the mark of a run that was stopped and now continues.
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

    /// Restores `run` from the checkpoint, if there is one. Returns the number of steps done.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or is of another run, architecture, schema or
    /// numeric target.
    pub fn resume(&mut self, run: &mut Run) -> Result<usize> {
        let path = self.path();
        if !path.exists() {
            return Ok(0);
        }
        let bytes = fs::read(&path).map_err(DataError::io("read", &path))?;
        let (record, tensors) = decode(&bytes).map_err(|text| problem(&path, text))?;
        if record.key != self.key {
            return Err(problem(&path, "belongs to a run with other parameters, data or program".into()));
        }
        let ends = record.finished;
        self.step = self.restore(run, record, tensors, &path, ends)?;
        // A run finishes for one of three reasons. The other two, the last epoch and early
        // stopping, follow from its history.
        run.state.stopped = ends && !self.continue_after_stop;
        Ok(self.step)
    }

    /// Restores `run`, which has more epochs, from the last checkpoint of the finished run `key`
    /// under the same root. `history` is that of the finished run, from its own files.
    ///
    /// # Errors
    /// If there is no such checkpoint, its history is another one, or as [`Checkpoints::resume`].
    pub fn take_finished(&self, run: &mut Run, key: &str, history: &[EpochRecord]) -> Result<()> {
        let path = self.root.join(key).join(FILE);
        let wrong = |text: &str| TrainError::Continued(format!("{}: {text}", path.display()));
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(wrong(
                    "there is no such checkpoint; it was removed, or the program or a parameter of training has changed",
                ));
            }
            other => other.map_err(DataError::io("read", &path))?,
        };
        let (record, tensors) = decode(&bytes).map_err(|text| wrong(&text))?;
        if record.key != key || !record.finished {
            return Err(wrong("is not of this run, or the run is not finished"));
        }
        if record.history != history {
            return Err(wrong("has another history than the model, so it is of another run"));
        }
        self.restore(run, record, tensors, &path, false).map_err(|error| match error {
            TrainError::Checkpoint { path, problem } => TrainError::Continued(format!("{}: {problem}", path.display())),
            other => other,
        })?;
        Ok(())
    }

    /// Sets the state of `run` to that of a checkpoint. `ends` says that nothing will be trained.
    /// Returns the number of steps done.
    fn restore(&self, run: &mut Run, record: Record, mut tensors: ByName, path: &Path, ends: bool) -> Result<usize> {
        let wrong = |text: String| problem(path, text);
        let found = run.trainer.model().spec().params.architecture.name();
        if record.architecture != found {
            return Err(wrong(format!(
                "holds a network of architecture {}, the parameters ask for {found}",
                record.architecture
            )));
        }
        let here = run.state.numeric_target.clone();
        let found = record.numeric_target;
        if found != here && !self.allow_mixed_isa {
            let is_mixed = found.contains(SEPARATOR);
            return Err(TrainError::NumericTarget { path: path.to_path_buf(), found, here, is_mixed });
        }
        // Once mixed, a checkpoint names both numeric targets for good.
        let adds_nothing = ends || found.split(SEPARATOR).any(|part| part == here);
        let numeric_target = if adds_nothing { found } else { format!("{found}{SEPARATOR}{here}") };
        let mut take = |name: &str, dims: &[usize]| match tensors.remove(name) {
            Some((Dtype::F32, found, bytes)) if found == dims => Ok(floats(&bytes)),
            Some((dtype, found, _)) => {
                Err(wrong(format!("tensor `{name}` is {dtype:?} {found:?}, expected F32 {dims:?}")))
            }
            None => Err(wrong(format!("has no tensor `{name}`"))),
        };
        let parameters = run.trainer.model().parameters().clone();
        let (mut best, mut first_epoch) = (Vec::new(), Vec::new());
        for (name, var) in parameters.all() {
            let tensor = |values| Tensor::from_vec(values, var.dims(), &Device::Cpu);
            var.set(&tensor(take(&format!("weight/{name}"), var.dims())?)?)?;
            if record.has_best {
                best.push(tensor(take(&format!("best/{name}"), var.dims())?)?);
            }
            if record.has_first_epoch {
                first_epoch.push(tensor(take(&format!("epoch-1/{name}"), var.dims())?)?);
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
        let dynamics = run.state.dynamics.take();
        let dynamics = dynamics
            .map(|dynamics| dynamics.with_parts(|name| tensors.remove(&format!("dynamics/{name}"))))
            .transpose();
        run.state = RunState {
            dynamics: dynamics.map_err(wrong)?,
            history: record.history,
            best: record.has_best.then_some(best),
            first_epoch: record.has_first_epoch.then_some(first_epoch),
            loss: f64::from_bits(record.loss_bits),
            correct: record.correct,
            stopped: false,
            numeric_target,
        };
        Ok(record.step)
    }

    /// Builds a run with `start` and restores it from the checkpoint. A damaged checkpoint is
    /// removed, with a warning, and the run starts over.
    ///
    /// This is for runs that are parts of a larger task, where no user could decide to start one of
    /// them over.
    ///
    /// # Errors
    /// Those of `start`, and if the checkpoint is of another numeric target or cannot be read or
    /// removed.
    pub fn resumed<'a>(&mut self, start: impl Fn() -> Result<Run<'a>>, progress: &dyn Progress) -> Result<Run<'a>> {
        let mut run = start()?;
        match self.resume(&mut run) {
            Ok(_) => Ok(run),
            Err(error @ TrainError::Checkpoint { .. }) => {
                progress
                    .warn(&format!("{error}; the checkpoint is removed, and this network is trained from the start"));
                self.discard()?;
                start()
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the checkpoints of other runs except the youngest. A failure here loses nothing.
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

/// Removes the checkpoints under `root`, or only those of finished runs. Skips those that a process
/// has open, and returns their folders. What cannot be removed stays.
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

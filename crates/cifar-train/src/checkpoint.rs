//! Checkpoints: everything that decides the rest of a run, in one file that is replaced whole.
//!
//! A run's checkpoint lies in a folder under the run's [`key`](run_key), a hash of all that decides its result: a run with
//! other parameters, data, seed or program finds none. The file is safetensors; its tensors are `weight/NAME` (running
//! statistics too), `first/NAME` and `second/NAME` (the optimiser's memory), `average/NAME` and `best/NAME`; its metadata,
//! under `cifar_checkpoint`, a [`Record`] as JSON; what the network said of each image so far is `dynamics/NAME`. Schema 2.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use candle_core::{Device, Tensor};
use cifar_data::Monitor;
use cifar_data::output::write_file;
use cifar_data::prepare::PreparedReport;
use cifar_data::splits::Split;
use cifar_model::ModelParams;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::dynamics::{Dynamics, Part};
use crate::fit::{Progress, Run};
use crate::{EpochRecord, Result, TrainError, TrainParams, Trainer};

const SCHEMA: u64 = 2;
const METADATA_KEY: &str = "cifar_checkpoint";
const FILE: &str = "checkpoint.safetensors";
/// Lies beside the checkpoint of a run that came to its end.
const FINISHED: &str = "finished";
/// Checkpoints of other runs that are kept, the youngest: of finished runs, and of unfinished ones.
const KEPT: [usize; 2] = [5, 20];
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
pub struct Checkpoints {
    root: PathBuf,
    key: String,
    every: Duration,
    saved: Instant,
    accept_other_arithmetic: bool,
    prunes: bool,
    warned: bool,
    _lock: File,
}

/// The metadata.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: u64,
    key: String,
    architecture: String,
    arithmetic: String,
    step: usize,
    finished: bool,
    history: Vec<EpochRecord>,
    /// The bits of the sum of losses of the epoch under way.
    loss_bits: u64,
    correct: usize,
    has_best: bool,
    /// Over all tensors.
    hash: String,
}

/// A tensor's name, dimensions and values.
type Named = (String, Vec<usize>, Vec<f32>);
/// Tensors by name.
type ByName = HashMap<String, Part>;

impl Checkpoints {
    /// Opens the folder of the run `key` below `root`, and keeps others out of it. A checkpoint is written `every` so often.
    ///
    /// # Errors
    /// If another process has it, or the folder cannot be made.
    pub fn open(root: &Path, key: &str, every: Duration) -> Result<Self> {
        let folder = root.join(key);
        fs::create_dir_all(&folder).map_err(|e| problem(&folder, format!("cannot create the folder: {e}")))?;
        let lock = lock(&folder)?.ok_or_else(|| {
            problem(
                &folder,
                "another process trains with the same parameters, data and program; wait for its end".into(),
            )
        })?;
        Ok(Self {
            root: root.to_path_buf(),
            key: key.into(),
            every,
            saved: Instant::now(),
            accept_other_arithmetic: false,
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

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Forgets what there is.
    pub fn discard(&self) -> Result<()> {
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
            arithmetic: cifar_kernels::arithmetic()?,
            step: trainer.step_count(),
            finished,
            history: progress.history.clone(),
            loss_bits: progress.loss.to_bits(),
            correct: progress.correct,
            has_best: progress.best.is_some(),
            hash: hash(&parts),
        };
        let written = encode(&record, &parts)
            .and_then(|bytes| Ok(write_file(&self.path(), &bytes)?))
            .and_then(|()| if finished { Ok(write_file(&self.folder().join(FINISHED), b"")?) } else { Ok(()) });
        self.saved = Instant::now();
        if let Err(error) = written
            && !std::mem::replace(&mut self.warned, true)
        {
            monitor.warn(&format!("{error}; training goes on, the checkpoint before stands"));
        }
        if finished && self.prunes {
            self.prune();
        }
        Ok(())
    }

    /// Puts `run` where the checkpoint says, if there is one. Returns the steps that were done.
    ///
    /// # Errors
    /// If the file is damaged, of another run, of a newer program, or of other arithmetic.
    pub fn resume(&self, run: &mut Run) -> Result<usize> {
        let path = self.path();
        if !path.exists() {
            return Ok(0);
        }
        let wrong = |text: String| problem(&path, text);
        let bytes = fs::read(&path).map_err(|e| wrong(format!("cannot read it: {e}")))?;
        let (record, mut tensors) = decode(&bytes).map_err(wrong)?;
        if record.key != self.key {
            return Err(wrong("belongs to a run with other parameters, data or program".into()));
        }
        let found = run.trainer.model().spec().params.architecture.name();
        if record.architecture != found {
            return Err(wrong(format!("holds a {}, the parameters ask for a {found}", record.architecture)));
        }
        let arithmetic = cifar_kernels::arithmetic()?;
        if record.arithmetic != arithmetic && !self.accept_other_arithmetic {
            return Err(TrainError::Arithmetic { path, found: record.arithmetic, here: arithmetic });
        }
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
        };
        Ok(record.step)
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
                // Whoever holds the lock is at work there.
                if let Ok(Some(_lock)) = lock(&folder) {
                    let _ = fs::remove_dir_all(&folder);
                }
            }
        }
    }
}

/// Names of what optimisers remember.
const MEMORY: [&str; 2] = ["first", "second"];

fn problem(path: &Path, problem: String) -> TrainError {
    TrainError::Checkpoint { path: path.to_path_buf(), problem }
}

/// The folder's lock; none if another process has it.
fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join("lock");
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(|e| problem(&path, format!("cannot open the lock: {e}")))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(problem(&path, format!("cannot lock: {e}"))),
    }
}

/// Everything that decides the next steps.
fn tensors(trainer: &Trainer, progress: &Progress) -> Result<Vec<Named>> {
    let parameters = trainer.model().parameters();
    let (optimiser, average) = trainer.memory();
    let mut tensors: Vec<Named> = Vec::new();
    for (index, (name, var)) in parameters.all().enumerate() {
        let mut add = |kind: &str, tensor: &Tensor| -> Result<()> {
            tensors.push((format!("{kind}/{name}"), var.dims().to_vec(), tensor.flatten_all()?.to_vec1()?));
            Ok(())
        };
        add("weight", var.as_tensor())?;
        if let Some(best) = progress.best.as_ref().and_then(|best| best.get(index)) {
            add("best", best)?;
        }
        if let Some(values) = average.values().get(index) {
            tensors.push((format!("average/{name}"), var.dims().to_vec(), values.clone()));
        }
    }
    for (parameter, memory) in parameters.trained().iter().zip(optimiser.memory()) {
        for (kind, values) in MEMORY.into_iter().zip(memory).filter(|(_, values)| !values.is_empty()) {
            tensors.push((format!("{kind}/{}", parameter.name), parameter.var.dims().to_vec(), values.to_vec()));
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

/// The same as they are stored, and what the network said of each image; sorted by name.
fn parts(tensors: Vec<Named>, progress: &Progress) -> Vec<(String, Part)> {
    let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut parts: Vec<(String, Part)> =
        tensors.into_iter().map(|(name, dims, values)| (name, (Dtype::F32, dims, bytes(values)))).collect();
    let dynamics = progress.dynamics.iter().flat_map(Dynamics::parts);
    parts.extend(dynamics.map(|(name, part)| (format!("dynamics/{name}"), part)));
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts
}

/// Over names and values, which are sorted by name.
fn hash(parts: &[(String, Part)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, (_, dims, bytes)) in parts {
        hasher.update(format!("{name} {dims:?}\n").as_bytes());
        hasher.update(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn encode(record: &Record, parts: &[(String, Part)]) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| TrainError::Encode(e.to_string());
    let json = serde_json::to_string(record).map_err(|e| failed(&e))?;
    let views = parts.iter().map(|(name, (dtype, dims, bytes))| {
        Ok((name.as_str(), TensorView::new(*dtype, dims.clone(), bytes).map_err(|e| failed(&e))?))
    });
    let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).map_err(|e| failed(&e))
}

/// The record and the tensors by name, or what is wrong with the file.
fn decode(bytes: &[u8]) -> Result<(Record, ByName), String> {
    let damaged = |e: &dyn std::fmt::Display| format!("is damaged or cut short ({e})");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let json = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or("is no checkpoint")?;
    let schema = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v.get("schema")?.as_u64());
    if schema != Some(SCHEMA) {
        let schema = schema.map_or("none".to_string(), |s| s.to_string());
        return Err(format!("has schema {schema}, this program reads schema {SCHEMA}"));
    }
    let record: Record = serde_json::from_str(json).map_err(|e| damaged(&e))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let mut parts: Vec<(String, Part)> = (file.tensors().into_iter())
        .map(|(name, v)| (name, (v.dtype(), v.shape().to_vec(), v.data().to_vec())))
        .collect();
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    if hash(&parts) != record.hash {
        return Err("is damaged: its values are not those that were written".into());
    }
    Ok((record, parts.into_iter().collect()))
}

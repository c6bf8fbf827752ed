//! Trains a network in one call, from its initial weights or from a checkpoint.

use cifar_data::prepare::TrainingData;
use cifar_model::ModelParams;

use crate::callback::TrainingCallback;
use crate::run::{Fitted, Run};
use crate::{Checkpoints, ContinuedKeys, FinishedRun, Result, TrainParams};

/// Trains a network on `data` with the seed `seed`, and returns it with its history.
///
/// The same arguments give bit-identical results with any number of threads. [`fit_resumable`] also
/// writes checkpoints.
///
/// # Errors
/// If a parameter is out of range or does not suit the data, the loss diverges, or the user asks to
/// stop.
pub fn fit(
    params: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
    callback: &dyn TrainingCallback,
) -> Result<Fitted> {
    let mut run = Run::start(params, model, data, seed)?;
    run.train(run.epochs(), None, callback)?;
    run.finish()
}

/// Trains like [`fit()`], with checkpoints.
///
/// Resumes where an earlier, interrupted call with the same arguments stopped, and returns
/// bit-identical results to an uninterrupted call.
///
/// A run that [`TrainingCallback::should_continue`] ended is finished. A later call with the same
/// arguments returns the same model without training, whatever its callback says, unless
/// [`Checkpoints::continue_after_stop`] asks for it. If the process is killed after the decision
/// and before its checkpoint is written, the next call asks the callback again.
///
/// ```
/// use std::time::Duration;
/// use cifar_train::{Checkpoints, Dynamics, TrainParams, artifacts, fit_resumable, remove_checkpoints, run_key};
///
/// # use cifar_data::Silent;
/// # use cifar_data::sources::synthetic::{self, SyntheticParams};
/// # use cifar_model::ModelParams;
/// # let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// # let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
/// # let folder = tempfile::tempdir().unwrap();
/// # let at = |name: &str| folder.path().join(name);
/// let params = TrainParams { epochs: 1, ..Default::default() };
/// let key = run_key(&params, &model, &data.report, 42, "my program 1.0");
/// let every = Duration::from_secs(30);
/// let mut checkpoints = Checkpoints::open(&at("checkpoints"), &key, every, &Silent)?;
/// let fitted = fit_resumable(&params, &model, &data, 42, &mut checkpoints, &Silent)?;
/// drop(checkpoints);
///
/// artifacts::write(&fitted, &data, &at("model"))?;
/// assert_eq!(artifacts::read_history(&at("model/history.jsonl"))?, fitted.history);
/// let [dynamics, model] = [artifacts::DYNAMICS, artifacts::MODEL].map(|name| at("model").join(name));
/// let dynamics = Dynamics::read(&dynamics, &model, &data.train, &data.val)?;
/// assert_eq!(dynamics.pass(0).unwrap().len(), data.train.len() * 10);
/// let in_use = remove_checkpoints(&at("checkpoints"), true);
/// assert!(in_use.is_empty());
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
///
/// # Errors
/// As [`fit()`], and if the checkpoint cannot be used. A run that is stopped or diverges leaves its
/// last checkpoint.
pub fn fit_resumable(
    params: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
    checkpoints: &mut Checkpoints,
    callback: &dyn TrainingCallback,
) -> Result<Fitted> {
    let mut run = Run::start(params, model, data, seed)?;
    checkpoints.resume(&mut run)?;
    run.train(run.epochs(), Some(checkpoints), callback)?;
    run.finish()
}

/// Trains like [`fit_resumable`], from the end of a finished run; see [`FinishedRun`].
///
/// If this longer run was interrupted, it resumes from its own checkpoint, and no longer needs that
/// of the finished run.
///
/// # Errors
/// As [`fit_resumable`], and if the finished run cannot be continued ([`FinishedRun::check`]) or
/// its last checkpoint is missing, damaged, or of another numeric target.
pub fn fit_continued(
    params: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
    (finished, keys): (&FinishedRun, &ContinuedKeys),
    checkpoints: &mut Checkpoints,
    callback: &dyn TrainingCallback,
) -> Result<Fitted> {
    finished.check(params)?;
    let mut run = Run::start(params, model, data, seed)?.continuing(finished.continues());
    if checkpoints.resume(&mut run)? == 0 {
        checkpoints.take_finished(&mut run, &keys.finished, finished.history())?;
    }
    run.train(run.epochs(), Some(checkpoints), callback)?;
    run.finish()
}

//! Continuing a finished run for more epochs.

use std::path::{Path, PathBuf};

use cifar_data::prepare::PreparedReport;
use cifar_data::provenance::Provenance;
use cifar_model::{Continued, Model, ModelParams};

use crate::artifacts::{COMMAND, HISTORY, MODEL, read_history};
use crate::history::epochs_without_a_better_one;
use crate::{Averaging, EpochRecord, Result, Schedule, TrainError, TrainParams, continued_key, run_key};

/// A finished run that a longer one continues.
///
/// The longer run has the same parameters, data and seed, and more epochs. It starts from the last
/// checkpoint of the finished run, with the optimiser's state, averages and per-epoch logits. So it
/// gives the weights that all epochs at once would give, if [`FinishedRun::is_exact`].
///
/// ```
/// use std::time::Duration;
/// use cifar_train::{
///     Checkpoints, FinishedRun, Schedule, TrainParams, artifacts, fit_continued, fit_resumable, run_key,
/// };
///
/// # use cifar_data::Silent;
/// # use cifar_data::sources::synthetic::{self, SyntheticParams};
/// # use cifar_model::ModelParams;
/// # let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// # let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
/// # let folder = tempfile::tempdir().unwrap();
/// # let at = |name: &str| folder.path().join(name);
/// let (seed, program) = (42, "my program 1.0");
/// let open = |key: &str| Checkpoints::open(&at("checkpoints"), key, Duration::from_secs(30), &Silent);
/// let params = TrainParams { epochs: 1, schedule: Schedule::Constant, ..Default::default() };
/// let key = run_key(&params, &model, &data.report, seed, program);
/// let fitted = fit_resumable(&params, &model, &data, seed, &mut open(&key)?, &Silent)?;
/// artifacts::write(&fitted, &data, &at("model"))?;
///
/// let finished = FinishedRun::read(&at("model"))?;
/// let longer = TrainParams { epochs: 2, ..params };
/// let keys = finished.keys(&longer, &model, &data.report, seed, program);
/// let fitted = fit_continued(&longer, &model, &data, seed, (&finished, &keys), &mut open(&keys.longer)?, &Silent)?;
/// assert_eq!(fitted.history.len(), 2);
/// assert_eq!(fitted.model.origin.unwrap().continues[0].epochs, 1);
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
#[derive(Debug)]
pub struct FinishedRun {
    folder: PathBuf,
    model: Model,
    history: Vec<EpochRecord>,
}

/// The names of a finished run and of the run that continues it ([`run_key`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContinuedKeys {
    /// The name of the finished run, whose last checkpoint is needed.
    pub finished: String,
    /// The name of the longer run.
    pub longer: String,
}

impl FinishedRun {
    /// Reads the model and the history of a folder that [`artifacts::write`](crate::artifacts::write)
    /// wrote.
    ///
    /// # Errors
    /// If a file is missing, damaged, or not of such a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        // Both are compared with their hashes first.
        Provenance::read(folder, COMMAND)?.file(MODEL)?;
        let history = read_history(&folder.join(HISTORY))?;
        Ok(Self { folder: folder.to_path_buf(), model: Model::load(&folder.join(MODEL))?, history })
    }

    /// Returns the model with the selected weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the record of every epoch.
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }

    /// Returns the finished runs that a longer run names in its model: this one, after those that it
    /// continued itself.
    pub fn continues(&self) -> Vec<Continued> {
        let mut runs = self.earlier().to_vec();
        runs.push(self.as_continued());
        runs
    }

    fn earlier(&self) -> &[Continued] {
        self.model.origin.as_ref().map_or(&[], |origin| &origin.continues)
    }

    fn as_continued(&self) -> Continued {
        Continued { model: self.model.seal().into(), epochs: self.history.len() }
    }

    /// Checks that a run with these parameters can be continued.
    ///
    /// # Errors
    /// If its schedule depends on the number of epochs, or early stopping ended it.
    pub fn check(&self, params: &TrainParams) -> Result<()> {
        let epochs = self.history.len();
        let refuse = |key, value: String, allowed: String| Err(TrainError::Parameter { key, value, allowed });
        if params.schedule != Schedule::Constant {
            return refuse(
                "train.schedule",
                params.schedule.name().into(),
                format!(
                    "only a run with a constant schedule can be continued, since all others end with their last epoch, here epoch {epochs}; train again with more train.epochs, or start a new run from a copy of this model with train.init"
                ),
            );
        }
        let without = epochs_without_a_better_one(&self.history);
        if params.early_stopping > 0 && without >= params.early_stopping {
            let best = epochs - without;
            return refuse(
                "train.early_stopping",
                params.early_stopping.to_string(),
                format!(
                    "no epoch after epoch {best} was better, so the run ended with epoch {epochs}, and so would a longer one; train again with a larger value or 0"
                ),
            );
        }
        Ok(())
    }

    /// Returns whether continuing gives the weights of a run of all epochs at once.
    ///
    /// It does, unless an average of weights was updated at the very end of the finished run, where
    /// no update was due in a longer one, or its decay depends on the length of the run
    /// ([`TrainParams::averaging_power`]).
    pub fn is_exact(&self, params: &TrainParams) -> bool {
        let steps = self.history.last().map_or(0, |record| record.step);
        params.averaging == Averaging::None
            || params.averaging_power <= 0.0 && steps.is_multiple_of(params.averaging_every)
    }

    /// Returns the names of this run and of the one that continues it with `params`. The arguments
    /// are those of [`run_key`].
    pub fn keys(
        &self,
        params: &TrainParams,
        model: &ModelParams,
        data: &PreparedReport,
        seed: u64,
        program: &str,
    ) -> ContinuedKeys {
        let key = |params: &TrainParams, from: Option<&Continued>| {
            let key = run_key(params, model, data, seed, program);
            from.map_or(key.clone(), |from| continued_key(&key, from))
        };
        let shorter = TrainParams { epochs: self.history.len(), ..params.clone() };
        ContinuedKeys {
            finished: key(&shorter, self.earlier().last()),
            longer: key(params, Some(&self.as_continued())),
        }
    }

    /// Returns the folder of the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

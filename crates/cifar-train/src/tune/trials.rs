//! Trials on real networks: each keeps a checkpoint, from which it goes on when it has earned more epochs.

use std::path::PathBuf;
use std::time::Duration;

use cifar_data::prepare::{PreparedReport, TrainingData};
use cifar_data::{DataError, Monitor};
use cifar_model::{ModelError, ModelParams};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Journal, Objective, Score, Scored, Setting, Space, TuneParams, apply};
use crate::{Checkpoints, EpochRecord, Result, Run, Select, StepRecord, TrainError, TrainParams, Watcher, run_key};

/// How often a trial's checkpoint is written.
const EVERY: Duration = Duration::from_mins(1);

/// The parts of params.yaml that a search may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    /// The network.
    pub model: ModelParams,
    /// How it is trained.
    pub train: TrainParams,
}

impl Blocks {
    /// The same with the values of a setting.
    ///
    /// # Errors
    /// If a key is unknown or a value out of range.
    pub fn with(&self, setting: &Setting) -> Result<Self> {
        Self::parse(&apply(setting, &self.json()?)?)
    }

    /// Refuses a space of which some bound cannot be.
    ///
    /// # Errors
    /// As [`Space::check`].
    pub fn check(&self, space: &Space) -> Result<()> {
        space.check(&self.json()?, |blocks| Self::parse(blocks).map(|_| ()))
    }

    /// Refuses data without validation images to score trials by, a recipe that does not suit the images, and a space of which some
    /// bound, with all else as the recipe has it, does not.
    ///
    /// # Errors
    /// If so.
    pub fn check_with(&self, space: &Space, data: &TrainingData) -> Result<()> {
        let TrainingData { train, val, .. } = data;
        if val.is_empty() {
            return Err(TrainError::Space(
                "tune.trials: there are no validation images to score trials by; set it to 0, or raise split.val_fraction".into(),
            ));
        }
        let suits = |blocks: &Self| blocks.train.check(train.len(), val.len(), train.size());
        let blocks = self.of_trials();
        suits(&blocks)?;
        space.check(&blocks.json()?, |blocks| suits(&Self::parse(blocks)?))
    }

    /// As trials are trained: as long as halving says, the last epoch counts, and nothing is recorded.
    fn of_trials(&self) -> Self {
        let (select, early_stopping, dynamics_share, use_tuned) = (Select::Last, 0, 0.0, false);
        let train = TrainParams { select, early_stopping, dynamics_share, use_tuned, ..self.train.clone() };
        Self { train, model: self.model.clone() }
    }

    fn parse(blocks: &Value) -> Result<Self> {
        serde_json::from_value(blocks.clone()).map_err(|e| TrainError::Space(e.to_string()))
    }

    /// The values that differ from those of `other`, by key: here and there. How tuning is used is none of them.
    ///
    /// # Errors
    /// If a value cannot be put into JSON.
    pub fn differences(&self, other: &Self) -> Result<Vec<(String, [Value; 2])>> {
        let [here, there] = [self.json()?, other.json()?];
        let mut found = Vec::new();
        for block in ["model", "train"] {
            for (key, value) in here[block].as_object().into_iter().flatten().filter(|(key, _)| *key != "use_tuned") {
                if there[block][key] != *value {
                    found.push((format!("{block}.{key}"), [value.clone(), there[block][key].clone()]));
                }
            }
        }
        Ok(found)
    }

    /// By way of text, so that an f32 has the digits that were typed.
    fn json(&self) -> Result<Value> {
        let failed = |e: serde_json::Error| TrainError::Encode(e.to_string());
        serde_json::from_str(&serde_json::to_string(self).map_err(failed)?).map_err(failed)
    }
}

/// The name of a search: a hash of everything that decides its scores. The number of trials and of other seeds is not part of
/// it: with more of them the search is extended.
pub fn search_key(params: &TuneParams, blocks: &Blocks, data: &PreparedReport, seed: u64, program: &str) -> String {
    // Whether its outcome is used changes no search.
    let train = TrainParams { use_tuned: false, ..blocks.train.clone() };
    let run = run_key(&train, &blocks.model, data, seed, program);
    let identity = json!({"tune": TuneParams { trials: 0, rescore_seeds: 0, ..params.clone() }, "run": run});
    blake3::hash(identity.to_string().as_bytes()).to_hex().to_string()
}

/// An [`Objective`] that trains networks.
pub struct Trials<'a> {
    blocks: Blocks,
    data: &'a TrainingData,
    checkpoints: PathBuf,
    program: &'a str,
    watcher: &'a dyn Watcher,
}

impl<'a> Trials<'a> {
    /// Trials of the search that `journal` belongs to: their checkpoints lie beside it.
    pub fn new(
        blocks: &Blocks,
        data: &'a TrainingData,
        journal: &Journal,
        program: &'a str,
        watcher: &'a dyn Watcher,
    ) -> Self {
        Self { blocks: blocks.of_trials(), data, checkpoints: journal.checkpoints(), program, watcher }
    }

    fn run(&self, setting: &Setting, seed: u64, epochs: usize) -> Result<EpochRecord> {
        let Blocks { train, model } = self.blocks.with(setting)?;
        let key = run_key(&train, &model, &self.data.report, seed, self.program);
        let mut checkpoints =
            Checkpoints::open(&self.checkpoints, &key, EVERY, self.watcher)?.keeping_those_of_other_runs();
        let start = || Ok(Run::start(&train, &model, self.data, seed)?.without_dynamics());
        let mut run = checkpoints.resumed(start, self.watcher)?;
        run.train(epochs, Some(&mut checkpoints), &Within(self.watcher))?;
        run.history()
            .get(epochs - 1)
            .cloned()
            .ok_or_else(|| TrainError::Tuning(format!("{}: holds no epoch {epochs}", checkpoints.path().display())))
    }
}

impl Objective for Trials<'_> {
    fn train(&mut self, trial: usize, setting: &Setting, seed: u64, epochs: usize) -> Result<Score> {
        match self.run(setting, seed, epochs) {
            // A checkpoint keeps a loss that is not finite as none.
            Ok(EpochRecord { val_accuracy, val_loss, .. }) => {
                Ok(Score::Trained { accuracy: val_accuracy.unwrap_or(f64::NAN), loss: val_loss.unwrap_or(f64::NAN) })
            }
            Err(error @ (TrainError::Diverged { .. } | TrainError::NotFinite { .. })) => {
                Ok(Score::Failed(error.to_string()))
            }
            // Values that are allowed one by one need not be so together. The baseline must be.
            Err(error) if trial > 0 && is_refusal(&error) => Ok(Score::Failed(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn scored(&mut self, scored: &Scored) {
        self.watcher.scored(scored);
    }
}

/// Whether it is about the values of a setting.
fn is_refusal(error: &TrainError) -> bool {
    matches!(
        error,
        TrainError::Space(_)
            | TrainError::Parameter { .. }
            | TrainError::Model(ModelError::Parameter { .. })
            | TrainError::Data(DataError::Parameter { .. })
    )
}

/// Watches a trial: its steps, but not its epochs, which are not those of the search.
struct Within<'a>(&'a dyn Watcher);

impl Monitor for Within<'_> {
    fn progress(&self, what: &'static str, done: u64, total: u64) {
        self.0.progress(what, done, total);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    fn warn(&self, message: &str) {
        self.0.warn(message);
    }
}

impl Watcher for Within<'_> {
    fn step(&self, step: &StepRecord) {
        self.0.step(step);
    }
}

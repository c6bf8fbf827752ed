//! Trials on real networks. Each keeps a checkpoint, from which it resumes if it is promoted to the
//! next rung.

use std::path::PathBuf;
use std::time::Duration;

use cifar_data::prepare::{PreparedReport, TrainingData};
use cifar_data::{DataError, Progress};
use cifar_model::ModelError;
use serde_json::json;

use super::{Journal, Objective, Score, Scored, Setting, TuneParams};
use crate::{
    Checkpoints, EpochRecord, Recipe, Result, Run, StepRecord, TrainError, TrainParams, TrainingCallback, run_key,
};

/// Time between two checkpoints of a trial.
const EVERY: Duration = Duration::from_mins(1);

/// Returns the name of a search: a hash of everything that decides its scores.
///
/// The number of trials and of other seeds is not part of it: more of them extend the search.
pub fn search_key(params: &TuneParams, recipe: &Recipe, data: &PreparedReport, seed: u64, program: &str) -> String {
    // How the result is used does not change the search.
    let train = TrainParams { use_tuned: false, ..recipe.train.clone() };
    let run = run_key(&train, &recipe.model, data, seed, program);
    let identity = json!({"tune": TuneParams { trials: 0, rescore_seeds: 0, ..params.clone() }, "run": run});
    blake3::hash(identity.to_string().as_bytes()).to_hex().to_string()
}

/// An [`Objective`] that trains networks.
pub struct Trials<'a> {
    recipe: Recipe,
    data: &'a TrainingData,
    checkpoints: PathBuf,
    program: &'a str,
    callback: &'a dyn TrainingCallback,
    equal_cost: bool,
}

impl<'a> Trials<'a> {
    /// Creates the trials of the search that `journal` belongs to. Their checkpoints are beside it.
    pub fn new(
        recipe: &Recipe,
        data: &'a TrainingData,
        journal: &Journal,
        program: &'a str,
        callback: &'a dyn TrainingCallback,
    ) -> Self {
        Self {
            recipe: recipe.for_trials(),
            data,
            checkpoints: journal.checkpoints(),
            program,
            callback,
            equal_cost: false,
        }
    }

    /// Sets whether trials with another network train for as many epochs as cost about as much as
    /// those of the baseline ([`TuneParams::equal_cost`]).
    #[must_use]
    pub fn at_equal_cost(mut self, equal_cost: bool) -> Self {
        self.equal_cost = equal_cost;
        self
    }

    /// Returns the recipe of a setting.
    fn recipe(&self, setting: &Setting) -> Result<Recipe> {
        let recipe = self.recipe.with(setting)?;
        if self.equal_cost { recipe.at_equal_cost(&self.recipe, &self.data.report) } else { Ok(recipe) }
    }

    fn run(&self, setting: &Setting, seed: u64, epochs: usize) -> Result<EpochRecord> {
        let Recipe { train, model } = self.recipe(setting)?;
        // A rung is a fraction of the run; its epochs are those of the baseline.
        let of = |train: &TrainParams| train.for_images(self.data.train.len()).epochs;
        let epochs = (epochs * of(&train)).div_ceil(of(&self.recipe.train)).max(1);
        let key = run_key(&train, &model, &self.data.report, seed, self.program);
        let mut checkpoints = Checkpoints::open(&self.checkpoints, &key, EVERY, self.callback)?.keep_other_runs();
        let start = || Ok(Run::start(&train, &model, self.data, seed)?.without_dynamics());
        let mut run = checkpoints.resumed(start, self.callback)?;
        run.train(epochs, Some(&mut checkpoints), &TrialCallback(self.callback))?;
        run.history()
            .get(epochs - 1)
            .cloned()
            .ok_or_else(|| TrainError::Tuning(format!("{}: holds no epoch {epochs}", checkpoints.path().display())))
    }
}

impl Objective for Trials<'_> {
    fn train(&mut self, trial: usize, setting: &Setting, seed: u64, epochs: usize) -> Result<Score> {
        match self.run(setting, seed, epochs) {
            // A checkpoint stores a loss that is not finite as null.
            Ok(EpochRecord { val_accuracy, val_loss, .. }) => {
                Ok(Score::Trained { accuracy: val_accuracy.unwrap_or(f64::NAN), loss: val_loss.unwrap_or(f64::NAN) })
            }
            Err(error @ (TrainError::Diverged { .. } | TrainError::NotFinite { .. })) => {
                Ok(Score::Failed(error.to_string()))
            }
            // Values that are allowed on their own may not be allowed together. For the baseline
            // this is an error.
            Err(error) if trial > 0 && is_invalid_setting(&error) => Ok(Score::Failed(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn scored(&mut self, scored: &Scored) {
        self.callback.scored(scored);
    }
}

/// Returns whether the error is about the values of a setting.
fn is_invalid_setting(error: &TrainError) -> bool {
    matches!(
        error,
        TrainError::Space(_)
            | TrainError::Parameter { .. }
            | TrainError::Model(ModelError::Parameter { .. })
            | TrainError::Data(DataError::Parameter { .. })
    )
}

/// Forwards the steps of a trial, but not its epochs, which are not those of the search.
struct TrialCallback<'a>(&'a dyn TrainingCallback);

impl Progress for TrialCallback<'_> {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.0.update(what, done, total);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    fn warn(&self, message: &str) {
        self.0.warn(message);
    }
}

impl TrainingCallback for TrialCallback<'_> {
    fn step(&self, step: &StepRecord) {
        self.0.step(step);
    }
}

//! A recipe: a network and how it is trained.

use cifar_data::prepare::{PreparedReport, TrainingData};
use cifar_data::splits::Split;
use cifar_model::{ModelParams, ModelSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::params::MAX_EPOCHS;
use crate::tune::{Setting, Space, apply};
use crate::{Result, Select, TrainError, TrainParams, add_optional_keys};

/// With [`TrainParams::min_steps`], the number of epochs may depend on it.
const BATCH_SIZE: &str = "train.batch_size";

/// A network and how it is trained: the parameters that a search may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The network.
    pub model: ModelParams,
    /// How it is trained.
    pub train: TrainParams,
}

impl Recipe {
    /// Returns the recipe with the values of a setting.
    ///
    /// # Errors
    /// If a key is unknown or a value is out of range.
    pub fn with(&self, setting: &Setting) -> Result<Self> {
        let mut recipe = Self::parse(&apply(setting, &self.json()?)?)?;
        // As JSON it is only a name.
        recipe.train.init = self.train.init.clone();
        Ok(recipe)
    }

    /// Returns the recipe with as many epochs as cost about as much as a run of `other` on these
    /// images, at least 1 ([`cifar_model::Plan::training_cost`]).
    ///
    /// Warm-up and `whitening_bias_epochs` keep their fraction of the run. `min_steps` is 0, since
    /// the cost decides the length. A recipe with the network of `other` is returned unchanged.
    ///
    /// # Errors
    /// If a network does not suit the images.
    pub fn at_equal_cost(&self, other: &Self, data: &PreparedReport) -> Result<Self> {
        if self.model == other.model {
            return Ok(self.clone());
        }
        let cost = |recipe: &Self| -> Result<f64> { Ok(recipe.spec(data).plan()?.training_cost()) };
        let images = data.images.get(&Split::Train).copied().unwrap_or(0);
        let epochs = other.train.for_images(images).epochs as f64 * cost(other)? / cost(self)?;
        let train = self.train.stretched_to((epochs.round() as usize).clamp(1, MAX_EPOCHS));
        Ok(Self { model: self.model.clone(), train: TrainParams { min_steps: 0, ..train } })
    }

    /// Returns the network for these images.
    pub(crate) fn spec(&self, data: &PreparedReport) -> ModelSpec {
        ModelSpec {
            params: self.model.clone(),
            classes: data.classes.clone(),
            size: data.size,
            normalisation: data.normalisation.clone(),
        }
    }

    /// Checks that every bound of a space is allowed.
    ///
    /// # Errors
    /// As [`Space::check`].
    pub fn check(&self, space: &Space) -> Result<()> {
        space.check(&self.json()?, |blocks| Self::parse(blocks).map(|_| ()))
    }

    /// Checks that a search over `space` can run on `data`.
    ///
    /// # Errors
    /// If there are no validation images to score trials with, if the recipe does not suit the
    /// images, or if some bound does not, with all other values as in the recipe. If the space has
    /// batch sizes and [`TrainParams::min_steps`] makes the number of epochs depend on them.
    pub fn check_with(&self, space: &Space, data: &TrainingData) -> Result<()> {
        let TrainingData { train, val, .. } = data;
        if val.is_empty() {
            return Err(TrainError::Space(
                "tune.trials: there are no validation images to score trials with; set it to 0, or raise split.val_fraction".into(),
            ));
        }
        if let (Some(raised), true) = (self.train.raised_epochs(train.len()), space.keys().any(|key| key == BATCH_SIZE))
        {
            return Err(TrainError::Space(format!(
                "tune.space.{BATCH_SIZE}: cannot be tuned, since the length of a trial depends on it ({raised}); set train.min_steps to 0 and train.epochs to {}",
                self.train.for_images(train.len()).epochs
            )));
        }
        let suits = |recipe: &Self| {
            recipe.train.check_classes(train.classes())?;
            recipe.train.check(train.len(), val.len(), train.size())
        };
        let recipe = self.for_trials();
        suits(&recipe)?;
        space.check(&recipe.json()?, |blocks| suits(&Self::parse(blocks)?))
    }

    /// Returns the parameters of a trial: halving sets the epochs, the last epoch counts, and no
    /// dynamics are recorded.
    pub(crate) fn for_trials(&self) -> Self {
        let (select, early_stopping, dynamics_fraction, use_tuned) = (Select::Last, 0, 0.0, false);
        let train = TrainParams { select, early_stopping, dynamics_fraction, use_tuned, ..self.train.clone() };
        Self { train, model: self.model.clone() }
    }

    fn parse(blocks: &Value) -> Result<Self> {
        serde_json::from_value(blocks.clone()).map_err(|e| TrainError::Space(e.to_string()))
    }

    /// Returns the values that differ from those of `other`, by key: this one's and the other's.
    /// `train.use_tuned` is left out.
    ///
    /// # Errors
    /// If a value cannot be encoded as JSON.
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

    /// Returns all keys, also optional ones. Goes through text, so that an `f32` keeps the digits
    /// that were typed.
    fn json(&self) -> Result<Value> {
        let failed = |e: serde_json::Error| TrainError::Encode(e.to_string());
        let mut blocks: Value = serde_json::from_str(&serde_json::to_string(self).map_err(failed)?).map_err(failed)?;
        add_optional_keys(&mut blocks);
        Ok(blocks)
    }
}

//! The parameters of a search.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Space;
use crate::params::MAX_EPOCHS;
use crate::{Result, TrainError};

/// The method that suggests settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Evenly distributed over the space.
    QuasiRandom,
    /// Evenly distributed at first, then near the best settings so far (Bergstra et al. 2011).
    Tpe,
}

/// The parameters of a search. Deserialising checks every range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct TuneParams {
    /// Number of settings to try, besides the baseline; 0: no search.
    pub trials: usize,
    /// The method that suggests settings.
    pub sampler: SamplerKind,
    /// Epochs of the first rung, at least 1. The recipe's number of epochs is the upper limit.
    pub min_epochs: usize,
    /// The reduction factor η, at least 2: the best 1 in η trials of a rung are trained for η times
    /// as many epochs, up to those of the recipe.
    pub reduction: usize,
    /// Number of other seeds under which the best trial and the baseline are retrained and
    /// compared. With fewer than 2, no trial can be shown to be better.
    pub rescore_seeds: usize,
    /// Whether a trial with another network gets the number of epochs whose estimated cost is that
    /// of the baseline's run ([`Recipe::at_equal_cost`](crate::Recipe::at_equal_cost)). Otherwise
    /// all trials have the same number of epochs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub equal_cost: bool,
    /// The range of each tuned parameter, by key, such as `train.learning_rate`.
    pub space: Space,
}

impl Default for TuneParams {
    fn default() -> Self {
        Self {
            trials: 0,
            sampler: SamplerKind::Tpe,
            min_epochs: 1,
            reduction: 3,
            rescore_seeds: 3,
            equal_cost: false,
            space: Space::default(),
        }
    }
}

impl TuneParams {
    fn check(&self) -> Result<()> {
        let check = |key, value: usize, least: usize, most: usize| {
            let allowed = format!("allowed is {least} to {most}");
            let is_allowed = (least..=most).contains(&value);
            if is_allowed { Ok(()) } else { Err(TrainError::Parameter { key, value: value.to_string(), allowed }) }
        };
        check("trials", self.trials, 0, 100_000)?;
        check("min_epochs", self.min_epochs, 1, MAX_EPOCHS)?;
        check("reduction", self.reduction, 2, 1000)?;
        check("rescore_seeds", self.rescore_seeds, 0, 1000)?;
        if self.trials > 0 && self.space.is_empty() {
            let allowed = "tune.space is empty: give at least one parameter a range".into();
            return Err(TrainError::Parameter { key: "trials", value: self.trials.to_string(), allowed });
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for TuneParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let params = Self::deserialize(deserializer)?;
        params.check().map_err(D::Error::custom)?;
        Ok(params)
    }
}

impl Serialize for TuneParams {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_lower_and_upper_limits() {
        let check = |key: &str, value: u64, allowed: &str| {
            let mut json = serde_json::to_value(TuneParams::default()).unwrap();
            json[key] = value.into();
            let found = serde_json::from_value::<TuneParams>(json).unwrap_err().to_string();
            assert_eq!(found, format!("{key}: {value} is not allowed; allowed is {allowed}"));
        };
        for most in [1001, u64::MAX] {
            check("reduction", most, "2 to 1000");
            check("rescore_seeds", most, "0 to 1000");
        }
        check("reduction", 1, "2 to 1000");
        check("min_epochs", 0, "1 to 100000");
        check("trials", 1_000_000_000_000, "0 to 100000");
    }
}

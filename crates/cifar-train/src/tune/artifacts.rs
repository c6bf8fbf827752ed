//! The files of a search.
//!
//! - `tuned.json`: the best trial, its comparison with the baseline, and the setting that
//!   `train.use_tuned` applies. This is the setting of the best trial if that is shown to be better
//!   than the baseline, otherwise none;
//! - `trials.csv`: every trial, with its accuracy on the validation images by epochs and seeds;
//! - `importance.csv`, only after a search: how much each parameter explains ([`importances`]);
//! - `provenance.json`: hashes ([`cifar_data::provenance`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::partitions::Partition;
use cifar_data::prepare::PreparedReport;
use cifar_data::provenance;
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{DataError, Source, Stage};
use serde::{Deserialize, Serialize};

use super::{Comparison, Outcome, Score, Setting, Space, TuneParams, Verdict, importances};
use crate::{Recipe, Result, TrainError};

/// Name of the stage that writes the folder.
const COMMAND: &str = "tune";
/// File name of the result.
pub const TUNED: &str = "tuned.json";
const SCHEMA: u64 = 3;

/// The content of `tuned.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    schema: u64,
    /// The recipe and images of the search; none without a search.
    #[serde(rename = "sought_for")]
    pub context: Option<SearchContext>,
    /// Number of settings tried besides the baseline.
    pub trials: usize,
    /// Number of trials whose training failed, including the baseline.
    pub failed: usize,
    /// Epochs of the whole recipe.
    pub epochs: usize,
    /// Whether trials with another network had as many epochs as cost about as much
    /// ([`TuneParams::equal_cost`](super::TuneParams::equal_cost)). [`Tuned::apply`] then changes
    /// the epochs, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub equal_cost: bool,
    /// The best trial; none if no trial scored above the baseline, or without a search.
    pub best: Option<BestTrial>,
    /// What [`Tuned::apply`] changes in the recipe, by key, such as `train.learning_rate`: the best
    /// trial's setting if that is shown to be better than the baseline, otherwise nothing.
    pub setting: Setting,
}

/// The trial with the best score under the search's own seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestTrial {
    /// The trial's number.
    pub trial: usize,
    /// What the trial changes in the recipe.
    pub setting: Setting,
    /// Its comparison with the baseline under other seeds.
    pub comparison: Comparison,
}

/// The recipe and the images of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchContext {
    /// The recipe that the search started from.
    pub recipe: Recipe,
    /// The partitions that the images are from.
    pub dataset_version: String,
    /// The source of the images.
    pub source: Source,
    /// Identity of the first set of images ([`PreparedReport::set`]).
    pub set: String,
    /// Identities of the partitions that were added to it ([`PreparedReport::added`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added: BTreeMap<Partition, String>,
    /// How the set is divided: this decides which images are test images.
    pub split: SplitParams,
    /// Hashes over the training and the validation images, with their labels and ids.
    pub fingerprints: [Option<String>; 2],
}

impl Tuned {
    /// The result without a search.
    fn none() -> Self {
        Self {
            schema: SCHEMA,
            context: None,
            trials: 0,
            failed: 0,
            epochs: 0,
            equal_cost: false,
            best: None,
            setting: Setting::new(),
        }
    }

    /// Returns the result of a search with these parameters.
    pub fn of(outcome: &Outcome, params: &TuneParams, recipe: &Recipe, data: &PreparedReport) -> Self {
        let images = data.images.get(&Split::Val).copied().unwrap_or(0);
        let best = (outcome.best > 0).then(|| {
            let best = &outcome.trials[outcome.best];
            let comparison = Comparison::of(best, &outcome.trials[0], images);
            BestTrial { trial: outcome.best, setting: best.setting.clone(), comparison }
        });
        let better = best.as_ref().filter(|best| best.comparison.verdict == Verdict::Better);
        Self {
            schema: SCHEMA,
            context: Some(SearchContext {
                recipe: recipe.clone(),
                dataset_version: data.dataset_version.to_string(),
                source: data.source.clone(),
                set: data.set.clone(),
                added: identities(data),
                split: data.split.division(),
                fingerprints: fingerprints(data),
            }),
            trials: outcome.trials.len() - 1,
            failed: outcome.trials.iter().filter(|trial| trial.has_failed()).count(),
            epochs: outcome.epochs,
            equal_cost: params.equal_cost,
            setting: better.map_or_else(Setting::new, |best| best.setting.clone()),
            best,
        }
    }

    /// Returns the recipe with the setting that is shown to be better, or the unchanged recipe if
    /// there is none.
    ///
    /// `path` is the file that `self` was read from, for messages.
    ///
    /// # Errors
    /// If the search used another set of images or another division of it: current test images may
    /// then have chosen the setting. If the setting does not suit the recipe.
    pub fn apply(&self, recipe: &Recipe, data: &PreparedReport, path: &Path) -> Result<Recipe> {
        let refused = |problem: String| TrainError::Space(format!("{}: {problem}", path.display()));
        let made_by = Stage::Tune.alone();
        let stale = |problem: String| TrainError::Data(DataError::Stale { path: path.to_path_buf(), problem, made_by });
        if let Some(context) = &self.context {
            let remedy = "set train.use_tuned to false, or search again";
            let here = identities(data);
            let is_other =
                |(partition, identity): (&Partition, &String)| here.get(partition).is_some_and(|here| here != identity);
            if context.set != data.set || context.added.iter().any(is_other) {
                return Err(stale(format!(
                    "was found on another set of images ({}; the prepared set has {}); {remedy}",
                    context.source.description, data.source.description
                )));
            }
            if context.split != data.split.division() {
                return Err(stale(format!(
                    "was found on another split, so images that chose this setting may now be test images; {remedy}"
                )));
            }
        }
        let applied = recipe
            .with(&self.setting)
            .and_then(|applied| if self.equal_cost { applied.at_equal_cost(recipe, data) } else { Ok(applied) });
        applied.map_err(|e| refused(format!("does not suit this recipe: {e}")))
    }

    /// Returns the differences between this recipe and these images and those of the search, one
    /// text per difference.
    ///
    /// # Errors
    /// If a recipe cannot be encoded.
    pub fn differences(&self, recipe: &Recipe, data: &PreparedReport) -> Result<Vec<String>> {
        let Some(context) = &self.context else { return Ok(Vec::new()) };
        let mut found: Vec<String> = (recipe.differences(&context.recipe)?.into_iter())
            .map(|(key, [here, there])| format!("{key} was {there} and is {here}"))
            .collect();
        for (what, there, here) in [
            ("dataset_version", &context.dataset_version, &data.dataset_version.to_string()),
            ("the source", &context.source.description, &data.source.description),
        ] {
            if there != here {
                found.push(format!("{what} was {there} and is {here}"));
            }
        }
        let [version, source] = [&context.dataset_version, &context.source.description];
        let are_others = context.fingerprints != fingerprints(data);
        if are_others && *version == data.dataset_version.to_string() && *source == data.source.description {
            found.push("the training or validation images, or their labels, have changed".into());
        }
        Ok(found)
    }

    /// Reads the `tuned.json` that [`write()`] or [`write_none`] wrote.
    ///
    /// # Errors
    /// If the file is missing, malformed or of another schema.
    pub fn read(path: &Path) -> Result<Self> {
        let malformed = |problem: String| DataError::Malformed { path: path.to_path_buf(), problem };
        let text = provenance::read(path, COMMAND)?;
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
        if value["schema"] != SCHEMA {
            let problem = format!("has schema {}, this program reads schema {SCHEMA}", value["schema"]);
            let (path, made_by) = (path.to_path_buf(), Stage::Tune.alone());
            return Err(DataError::Stale { path, problem, made_by }.into());
        }
        Ok(serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?)
    }
}

fn identities(data: &PreparedReport) -> BTreeMap<Partition, String> {
    data.added.iter().map(|(partition, added)| (*partition, added.identity.clone())).collect()
}

fn fingerprints(data: &PreparedReport) -> [Option<String>; 2] {
    [Split::Train, Split::Val].map(|split| data.fingerprints.get(&split).cloned())
}

/// Writes the files for a recipe without a search: `tuned.json`, and a `trials.csv` without trials.
///
/// # Errors
/// If a file cannot be written.
pub fn write_none(out: &Path) -> Result<()> {
    let folder = OutputFolder::create(out)?;
    folder.write(TUNED, format!("{:#}\n", serde_json::json!(Tuned::none())).as_bytes())?;
    folder.write("trials.csv", b"trial,seed,epochs,accuracy,loss,failed\n")?;
    provenance::write(folder.path(), COMMAND, &[], &[TUNED])?;
    Ok(folder.commit()?)
}

/// Writes the files of a search, and `pictures` (relative paths and contents).
///
/// # Errors
/// If a file cannot be written.
pub fn write(tuned: &Tuned, space: &Space, outcome: &Outcome, pictures: &[(&str, Vec<u8>)], out: &Path) -> Result<()> {
    let folder = OutputFolder::create(out)?;
    folder.write(TUNED, format!("{:#}\n", serde_json::json!(tuned)).as_bytes())?;
    folder.write("trials.csv", trials_csv(space, outcome).as_bytes())?;
    let mut importance = String::from("parameter,share_of_variance,trials\n");
    for row in importances(space, outcome) {
        let _ = writeln!(importance, "{},{},{}", row.key, row.share, row.trials);
    }
    folder.write("importance.csv", importance.as_bytes())?;
    for (path, contents) in pictures {
        folder.write(path, contents)?;
    }
    let [train, val] = tuned.context.as_ref().map(|s| s.fingerprints.clone()).unwrap_or_default();
    let (train, val) = (train.unwrap_or_default(), val.unwrap_or_default());
    provenance::write(folder.path(), COMMAND, &[("train", &train), ("val", &val)], &[TUNED])?;
    Ok(folder.commit()?)
}

/// Returns the table of trials, one row per score. Scores under other seeds are after all epochs.
fn trials_csv(space: &Space, outcome: &Outcome) -> String {
    let keys: Vec<&str> = space.keys().collect();
    let mut text = format!("trial,seed,epochs,accuracy,loss,failed,{}\n", keys.join(","));
    for trial in &outcome.trials {
        let own = trial.rungs.iter().map(|(epochs, score)| (outcome.seed, *epochs, score));
        let others = trial.rescored.iter().map(|(seed, score)| (*seed, outcome.epochs, score));
        for (seed, epochs, score) in own.chain(others) {
            let figures = match score {
                Score::Trained { accuracy, loss } => format!("{accuracy},{loss},"),
                Score::Failed(reason) => format!(",,\"{}\"", reason.replace('"', "\"\"")),
            };
            let values: Vec<String> = keys
                .iter()
                .map(|key| match trial.setting.get(*key) {
                    Some(serde_json::Value::String(text)) => text.clone(),
                    // A list contains commas.
                    Some(value @ serde_json::Value::Array(_)) => format!("\"{value}\""),
                    Some(value) => value.to_string(),
                    None => String::new(),
                })
                .collect();
            let _ = writeln!(text, "{},{seed},{epochs},{figures},{}", trial.number, values.join(","));
        }
    }
    text
}

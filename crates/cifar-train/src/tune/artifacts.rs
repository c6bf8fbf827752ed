//! What a search leaves in `models/tuning`.
//!
//! - `tuned.json`: the setting that was found, empty if none is better than the recipe as it stands or there was no search;
//! - `trials.csv`: every trial, with its accuracy on validation images by epochs and seeds;
//! - `importance.csv`, of a search only: how much each parameter explains ([`importances`]);
//! - `provenance.json`: hashes ([`cifar_data::provenance`]).

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::prepare::PreparedReport;
use cifar_data::provenance;
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{DataError, Source};
use serde::{Deserialize, Serialize};

use super::{Blocks, Outcome, Score, Setting, Space, importances};
use crate::{Result, TrainError};

/// The command that writes the folder.
const COMMAND: &str = "tune";
/// File name of the setting that was found.
pub const TUNED: &str = "tuned.json";
const SCHEMA: u64 = 3;

/// `tuned.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    schema: u64,
    /// What it was sought for; none without a search.
    pub sought_for: Option<SoughtFor>,
    /// Settings that were tried besides the recipe as it stands.
    pub trials: usize,
    /// Number of the best trial; 0 is the recipe as it stands.
    pub best_trial: usize,
    /// What it changes in the recipe, by key such as `train.learning_rate`.
    pub setting: Setting,
    /// Its mean accuracy on validation images.
    pub accuracy: Option<f64>,
    /// That of the recipe as it stands.
    pub accuracy_of_recipe: Option<f64>,
    /// Over so many seeds each.
    pub seeds: usize,
    /// After so many epochs.
    pub epochs: usize,
}

/// The recipe and the images of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoughtFor {
    /// The recipe as it stood.
    pub recipe: Blocks,
    /// Which partitions the images are from.
    pub dataset_version: String,
    /// Where they came from.
    pub source: Source,
    /// Identity of the set that they are from ([`PreparedReport::set`]).
    pub set: String,
    /// How that set was divided: this decides which images are test images.
    pub split: SplitParams,
    /// Hashes over the training and the validation images, their labels and ids.
    pub fingerprints: [Option<String>; 2],
}

impl Tuned {
    /// Without a search.
    fn none() -> Self {
        Self {
            schema: SCHEMA,
            sought_for: None,
            trials: 0,
            best_trial: 0,
            setting: Setting::new(),
            accuracy: None,
            accuracy_of_recipe: None,
            seeds: 0,
            epochs: 0,
        }
    }

    /// What a search found.
    pub fn of(outcome: &Outcome, recipe: &Blocks, data: &PreparedReport) -> Self {
        let best = &outcome.trials[outcome.best];
        Self {
            schema: SCHEMA,
            sought_for: Some(SoughtFor {
                recipe: recipe.clone(),
                dataset_version: data.dataset_version.to_string(),
                source: data.source.clone(),
                set: data.set.clone(),
                split: data.split.division(),
                fingerprints: fingerprints(data),
            }),
            trials: outcome.trials.len() - 1,
            best_trial: outcome.best,
            setting: best.setting.clone(),
            accuracy: best.mean_accuracy(outcome.epochs),
            accuracy_of_recipe: outcome.trials[0].mean_accuracy(outcome.epochs),
            seeds: best.accuracies(outcome.epochs).len(),
            epochs: outcome.epochs,
        }
    }

    /// The recipe with the setting that was found.
    ///
    /// # Errors
    /// If it was found on another set of images, or on the same set divided otherwise, or does not suit this recipe. In the
    /// first two cases present test images may have chosen the setting. `path` is where it was read from.
    pub fn apply(&self, recipe: &Blocks, data: &PreparedReport, path: &Path) -> Result<Blocks> {
        let refused = |problem: String| TrainError::Space(format!("{}: {problem}", path.display()));
        if let Some(sought_for) = &self.sought_for {
            let again = "run `cifar-cli tune` again, or set train.use_tuned to false";
            if sought_for.set != data.set {
                return Err(refused(format!(
                    "was found on another set of images ({}; these are {}); {again}",
                    sought_for.source.description, data.source.description
                )));
            }
            if sought_for.split != data.split.division() {
                return Err(refused(format!(
                    "was found on another split, so images that chose this setting may be test images now; {again}"
                )));
            }
        }
        recipe.with(&self.setting).map_err(|e| refused(format!("does not suit this recipe: {e}")))
    }

    /// In which ways this recipe and these images are not those that it was sought for, one a line.
    ///
    /// # Errors
    /// If a recipe cannot be encoded.
    pub fn differences(&self, recipe: &Blocks, data: &PreparedReport) -> Result<Vec<String>> {
        let Some(sought_for) = &self.sought_for else { return Ok(Vec::new()) };
        let mut found: Vec<String> = (recipe.differences(&sought_for.recipe)?.into_iter())
            .map(|(key, [here, there])| format!("{key} was {there} and is {here}"))
            .collect();
        for (what, there, here) in [
            ("dataset_version", &sought_for.dataset_version, &data.dataset_version.to_string()),
            ("the source", &sought_for.source.description, &data.source.description),
        ] {
            if there != here {
                found.push(format!("{what} was {there} and is {here}"));
            }
        }
        let [version, source] = [&sought_for.dataset_version, &sought_for.source.description];
        let are_others = sought_for.fingerprints != fingerprints(data);
        if are_others && *version == data.dataset_version.to_string() && *source == data.source.description {
            found.push("the training or validation images, or their labels, are others".into());
        }
        Ok(found)
    }

    /// Reads what [`write()`] or [`write_none`] left.
    ///
    /// # Errors
    /// If the file is missing, malformed or of another schema.
    pub fn read(path: &Path) -> Result<Self> {
        let malformed = |problem: String| DataError::Malformed { path: path.to_path_buf(), problem };
        let text = provenance::read(path, COMMAND)?;
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
        if value["schema"] != SCHEMA {
            let problem = format!("has schema {}, this program reads schema {SCHEMA}", value["schema"]);
            return Err(malformed(format!("{problem}; run `cifar-cli tune` again")).into());
        }
        Ok(serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?)
    }
}

fn fingerprints(data: &PreparedReport) -> [Option<String>; 2] {
    [Split::Train, Split::Val].map(|split| data.fingerprints.get(&split).cloned())
}

/// Writes the files of no search: `tuned.json`, and a `trials.csv` without trials.
///
/// # Errors
/// If one cannot be written.
pub fn write_none(out: &Path) -> Result<()> {
    let folder = OutputFolder::create(out)?;
    folder.write(TUNED, format!("{:#}\n", serde_json::json!(Tuned::none())).as_bytes())?;
    folder.write("trials.csv", b"trial,seed,epochs,accuracy,loss,failed\n")?;
    provenance::write(folder.path(), COMMAND, &[], &[TUNED])?;
    Ok(folder.commit()?)
}

/// Writes the files of a search, and `pictures` (relative path and contents) with them.
///
/// # Errors
/// If one cannot be written.
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
    let [train, val] = tuned.sought_for.as_ref().map(|s| s.fingerprints.clone()).unwrap_or_default();
    let (train, val) = (train.unwrap_or_default(), val.unwrap_or_default());
    provenance::write(folder.path(), COMMAND, &[("train", &train), ("val", &val)], &[TUNED])?;
    Ok(folder.commit()?)
}

/// One row a score. Under other seeds than the search's own, all epochs were trained.
fn trials_csv(space: &Space, outcome: &Outcome) -> String {
    let keys: Vec<&str> = space.keys().collect();
    let mut text = format!("trial,seed,epochs,accuracy,loss,failed,{}\n", keys.join(","));
    for trial in &outcome.trials {
        let own = trial.rungs.iter().map(|(epochs, score)| ("own".to_string(), *epochs, score));
        let others = trial.rescored.iter().map(|(seed, score)| (seed.to_string(), outcome.epochs, score));
        for (seed, epochs, score) in own.chain(others) {
            let figures = match score {
                Score::Trained { accuracy, loss } => format!("{accuracy},{loss},"),
                Score::Failed(reason) => format!(",,\"{}\"", reason.replace('"', "\"\"")),
            };
            let values: Vec<String> = keys
                .iter()
                .map(|key| match trial.setting.get(*key) {
                    Some(serde_json::Value::String(text)) => text.clone(),
                    // A list holds commas.
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

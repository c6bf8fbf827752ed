//! What a search leaves in `models/tuning`.
//!
//! - `tuned.json`: the best trial, how it compares with the baseline, and the setting that `train.use_tuned` applies: that of
//!   the best trial if it is shown to be better than the baseline, otherwise none;
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

use super::{Blocks, Comparison, Outcome, Score, Setting, Space, Verdict, importances};
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
    /// Number of settings that were tried besides the baseline.
    pub trials: usize,
    /// Number of trials whose training failed, the baseline included.
    pub failed: usize,
    /// Epochs of the whole recipe.
    pub epochs: usize,
    /// The best trial; none if no trial scored above the baseline, or without a search.
    pub best: Option<BestTrial>,
    /// What [`Tuned::apply`] changes in the recipe: the best trial's setting if it is shown to be better than the baseline,
    /// otherwise nothing. By key, such as `train.learning_rate`.
    pub setting: Setting,
}

/// The trial with the best score under the search's own seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestTrial {
    /// Its number.
    pub trial: usize,
    /// What it changes in the recipe.
    pub setting: Setting,
    /// How it compares with the baseline under other seeds.
    pub comparison: Comparison,
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
        Self { schema: SCHEMA, sought_for: None, trials: 0, failed: 0, epochs: 0, best: None, setting: Setting::new() }
    }

    /// What a search found.
    pub fn of(outcome: &Outcome, recipe: &Blocks, data: &PreparedReport) -> Self {
        let images = data.images.get(&Split::Val).copied().unwrap_or(0);
        let best = (outcome.best > 0).then(|| {
            let best = &outcome.trials[outcome.best];
            let comparison = Comparison::of(best, &outcome.trials[0], images);
            BestTrial { trial: outcome.best, setting: best.setting.clone(), comparison }
        });
        let better = best.as_ref().filter(|best| best.comparison.verdict == Verdict::Better);
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
            failed: outcome.trials.iter().filter(|trial| trial.has_failed()).count(),
            epochs: outcome.epochs,
            setting: better.map_or_else(Setting::new, |best| best.setting.clone()),
            best,
        }
    }

    /// The recipe with the setting that is shown to be better; the recipe unchanged if there is none.
    ///
    /// # Errors
    /// If it was found on another set of images, or on the same set divided otherwise, or does not suit this recipe. In the
    /// first two cases present test images may have chosen the setting. `path` is where it was read from.
    pub fn apply(&self, recipe: &Blocks, data: &PreparedReport, path: &Path) -> Result<Blocks> {
        let refused = |problem: String| TrainError::Space(format!("{}: {problem}", path.display()));
        let stale = |problem: String| TrainError::Data(DataError::Malformed { path: path.to_path_buf(), problem });
        if let Some(sought_for) = &self.sought_for {
            let again = "run `cifar-cli tune` again, or set train.use_tuned to false";
            if sought_for.set != data.set {
                return Err(stale(format!(
                    "was found on another set of images ({}; these are {}); {again}",
                    sought_for.source.description, data.source.description
                )));
            }
            if sought_for.split != data.split.division() {
                return Err(stale(format!(
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

/// One row per score. Under other seeds than the search's own, all epochs were trained.
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

//! Reads the results of finished runs that figures over runs need.

use std::path::{Path, PathBuf};

use cifar_data::provenance;
use cifar_data::spreadsheet::plain;
use cifar_train::TrainParams;
use cifar_train::artifacts::{self, HISTORY, read_history};
use serde::Deserialize;
use serde_json::Value;

use super::RunRecord;
use cifar_eval::evaluate::SetMetrics;
use cifar_eval::predictions::{self, METRICS, POOL_PREDICTIONS};
use cifar_eval::{EvalError, Result};

/// The shared test images, on which all runs were scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Class names.
    pub classes: Vec<String>,
    /// Id of each image.
    pub ids: Vec<u32>,
    /// File name of each image.
    pub files: Vec<String>,
    /// Label of each image.
    pub labels: Vec<u16>,
}

/// One finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRun {
    /// Its request.
    pub record: RunRecord,
    /// Number of training images.
    pub train_images: usize,
    /// Optimiser steps that its training took.
    pub steps: usize,
    /// The source of the images.
    pub source: String,
    /// Figures on its own test images.
    pub test: SetMetrics,
    /// Figures on the shared test images.
    pub pool: SetMetrics,
    /// Its predicted class of each image of the pool.
    pub predicted: Vec<u16>,
}

impl ScoredRun {
    /// Returns the number of epochs without early stopping. `None` if its record has none.
    pub(super) fn epochs(&self) -> Option<u64> {
        let train = &self.record.params["train"];
        let params: Option<TrainParams> = serde_json::from_value(train.clone()).ok();
        params.map(|params| params.for_images(self.train_images).epochs as u64).or_else(|| train["epochs"].as_u64())
    }
}

/// The part of `evaluation/test/metrics.json` that is used here.
#[derive(Deserialize)]
struct Evaluation {
    test: SetMetrics,
    pool: SetMetrics,
    source: String,
}

/// Finished runs and the pool that they share.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    /// The images.
    pub pool: Pool,
    /// At least one.
    pub runs: Vec<ScoredRun>,
}

impl Runs {
    /// Reads the runs in these folders.
    ///
    /// # Errors
    /// If there is none, a file is missing or damaged, or runs were scored on different images.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        let mut read: Option<Self> = None;
        for folder in folders {
            let (pool, run) = one(folder)?;
            match &mut read {
                None => read = Some(Self { pool, runs: vec![run] }),
                Some(read) if read.pool == pool => read.runs.push(run),
                Some(read) => {
                    return Err(EvalError::Malformed {
                        path: folder.join(EVALUATION).join(POOL_PREDICTIONS),
                        problem: format!(
                            "has other images or labels than that of {}; runs are compared on the same images only",
                            read.runs[0].record.name
                        ),
                    });
                }
            }
        }
        read.ok_or_else(|| EvalError::Malformed {
            path: PathBuf::from(super::RUNS),
            problem: "no run of this grid is finished; run `cifar-cli experiments run` first".into(),
        })
    }
}

/// Folders in a run's folder with the results of `evaluate` and `train`.
const EVALUATION: &str = "evaluation/test";
const MODEL: &str = "models/final";

fn one(folder: &Path) -> Result<(Pool, ScoredRun)> {
    let record = RunRecord::read(folder)?.ok_or_else(|| EvalError::Malformed {
        path: folder.join(super::RECORD),
        problem: "is missing: the run is not finished".into(),
    })?;
    let evaluation: Evaluation = json(&folder.join(EVALUATION).join(METRICS), predictions::COMMAND)?;
    let metrics = folder.join(MODEL).join(artifacts::METRICS);
    let training: Value = json(&metrics, artifacts::COMMAND)?;
    let train_images = training["train_images"]
        .as_u64()
        .ok_or_else(|| EvalError::Malformed { path: metrics, problem: "has no number `train_images`".into() })?;
    let (pool, predicted) = pool_predictions(&folder.join(EVALUATION).join(POOL_PREDICTIONS))?;
    let history = read_history(&folder.join(MODEL).join(HISTORY))?;
    let steps = history.last().map_or(0, |epoch| epoch.step);
    let Evaluation { test, pool: figures, source } = evaluation;
    let run = ScoredRun { record, train_images: train_images as usize, steps, source, test, pool: figures, predicted };
    Ok((pool, run))
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path, made_by: &str) -> Result<T> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let text = provenance::read(path, made_by)?;
    serde_json::from_slice(&text).map_err(|e| wrong(format!("is of another version ({e})")))
}

/// Reads images, labels and predictions from a table that [`cifar_eval::predictions`] wrote.
fn pool_predictions(path: &Path) -> Result<(Pool, Vec<u16>)> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let text = provenance::read(path, predictions::COMMAND)?;
    let mut csv = csv::Reader::from_reader(text.as_slice());
    let header = csv.headers().map_err(|e| wrong(e.to_string()))?.clone();
    let column =
        |name: &str| header.iter().position(|c| c == name).ok_or_else(|| wrong(format!("has no column {name}")));
    let [id, file, label, predicted] = [column("id")?, column("file")?, column("label")?, column("predicted")?];
    let classes: Vec<String> = header.iter().filter_map(|c| c.strip_prefix("p_")).map(String::from).collect();
    let mut pool = Pool { classes, ids: Vec::new(), files: Vec::new(), labels: Vec::new() };
    let mut said = Vec::new();
    for (line, row) in (2..).zip(csv.records()) {
        let row = row.map_err(|e| wrong(format!("line {line}: {e}")))?;
        let class = |name: &str| {
            let index = pool.classes.iter().position(|c| c == name);
            index.map(|i| i as u16).ok_or_else(|| wrong(format!("line {line}: there is no class {name:?}")))
        };
        let number = row[id].parse().map_err(|_| wrong(format!("line {line}: id {:?} is not a number", &row[id])))?;
        let (labelled, answer) = (class(plain(&row[label]))?, class(plain(&row[predicted]))?);
        pool.ids.push(number);
        pool.files.push(plain(&row[file]).to_string());
        pool.labels.push(labelled);
        said.push(answer);
    }
    if said.is_empty() {
        return Err(wrong("has no image".into()));
    }
    Ok((pool, said))
}

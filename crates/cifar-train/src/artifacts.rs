//! The files of a finished training run.
//!
//! - `model.safetensors`: the model;
//! - `history.jsonl`: one [`EpochRecord`] per line;
//! - `first_epoch.safetensors`: the model after the first epoch;
//! - `dynamics.safetensors`: per-epoch logits of each image ([`Dynamics`](crate::Dynamics));
//! - `metrics.json`, `plots/metrics/**.tsv`: the history in the layout that `DVCLive` writes and
//!   DVC shows;
//! - `summary.csv`: the network, layer by layer;
//! - `init.json`, only of a run that started from a trained network: which one, and the tensors
//!   that were taken and that were new ([`StartedFrom`](crate::StartedFrom));
//! - `provenance.json`: the inputs of the run, and the hashes of the files that later stages read
//!   ([`cifar_data::provenance`]).
//!
//! No file holds a time, a host or a thread count: equal runs write identical files.

use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::prepare::TrainingData;
use cifar_data::provenance::Provenance;
use cifar_data::splits::Split;
use cifar_data::{DataError, Source, Stage, provenance};
use cifar_model::{Model, ModelOrigin};
use serde_json::{Map, Value, json};

use crate::{EpochRecord, Fitted, Result};

/// File name of the model.
pub const MODEL: &str = "model.safetensors";
/// File name of the history.
pub const HISTORY: &str = "history.jsonl";
/// File name of the metrics of the last and of the selected epoch.
pub const METRICS: &str = "metrics.json";
/// Name of the stage that writes the folder.
pub const COMMAND: &str = "train";
/// File name of what a run started from.
pub const INIT: &str = "init.json";
/// Name of the model that a run started from among the inputs of its folder
/// ([`cifar_data::provenance`]).
pub const INIT_INPUT: &str = "init";
/// Name of the model of the finished run that a run continued among the inputs of its folder.
pub const CONTINUED_INPUT: &str = "continues";
/// File name of the model after the first epoch.
pub const FIRST_EPOCH: &str = "first_epoch.safetensors";
/// File name of the per-epoch logits.
pub const DYNAMICS: &str = "dynamics.safetensors";

/// Writes all files into the folder `out`, which appears complete or not at all.
///
/// # Errors
/// If a file cannot be written or encoded.
pub fn write(fitted: &Fitted, data: &TrainingData, out: &Path) -> Result<()> {
    let folder = OutputFolder::create(out)?;
    fitted.model.save(&folder.path().join(MODEL))?;
    let mut files = vec![MODEL, HISTORY, METRICS];
    if let Some(first) = &fitted.first_epoch {
        first.save(&folder.path().join(FIRST_EPOCH))?;
        files.push(FIRST_EPOCH);
    }
    if let Some(dynamics) = &fitted.dynamics {
        dynamics.write(&folder.path().join(DYNAMICS), &folder.path().join(MODEL))?;
    }
    let lines: Vec<String> = fitted.history.iter().map(|r| json!(r).to_string() + "\n").collect();
    folder.write(HISTORY, lines.concat().as_bytes())?;
    folder.write(METRICS, format!("{:#}\n", metrics(fitted, data)).as_bytes())?;
    for (name, series) in curves(&fitted.history) {
        if let Some(series) = series {
            folder.write(&name, series.as_bytes())?;
        }
    }
    let layers: Vec<String> = (fitted.model.summary().iter())
        .map(|l| {
            format!(
                "{},{},{},{}\n",
                l.name,
                l.output.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
                l.parameters,
                l.flops
            )
        })
        .collect();
    folder.write("summary.csv", format!("layer,output,parameters,flops\n{}", layers.concat()).as_bytes())?;
    let mut inputs = [Split::Train, Split::Val].map(|split| (split.name(), data.report.fingerprint(split))).to_vec();
    if let Some(from) = &fitted.started_from {
        folder.write(INIT, format!("{:#}\n", json!(from)).as_bytes())?;
        inputs.push((INIT_INPUT, from.model.as_str()));
    }
    let continued = fitted.model.origin.as_ref().and_then(|origin| origin.continues.last());
    if let Some(run) = continued {
        inputs.push((CONTINUED_INPUT, run.model.as_str()));
    }
    provenance::write(folder.path(), COMMAND, &inputs, &files)?;
    Ok(folder.commit()?)
}

/// Reads the model after the first epoch that [`write()`] wrote into `folder` beside `model`.
/// Returns none if the run kept none.
///
/// # Errors
/// If the file is missing though it is listed, is damaged, or is of another run than `model`.
pub fn read_first_epoch(folder: &Path, model: &Model) -> Result<Option<Model>> {
    let record = Provenance::read(folder, COMMAND)?;
    if record.hash_of(FIRST_EPOCH).is_empty() {
        return Ok(None);
    }
    record.file(FIRST_EPOCH)?;
    let path = folder.join(FIRST_EPOCH);
    let first = Model::load(&path)?;
    let expected = model.origin.clone().map(|origin| ModelOrigin { epoch: 1, ..origin });
    if first.origin != expected || first.spec() != model.spec() {
        let problem = format!("is of another run than {MODEL}");
        return Err(DataError::Stale { path, problem, made_by: Stage::Train.alone() }.into());
    }
    Ok(Some(first))
}

/// Reads a history that [`write()`] wrote.
///
/// # Errors
/// If the file cannot be read or a line is malformed.
pub fn read_history(path: &Path) -> Result<Vec<EpochRecord>> {
    let malformed = |problem: String| DataError::Malformed { path: path.to_path_buf(), problem };
    let text = String::from_utf8(provenance::read(path, COMMAND)?).map_err(|_| malformed("is not UTF-8".into()))?;
    let parse =
        |(index, line)| serde_json::from_str(line).map_err(|e| malformed(format!("line {}: {e}", index + 1)).into());
    text.lines().enumerate().map(parse).collect()
}

/// Returns the curves so far: file names in `DVCLive`'s layout, and contents unless a curve has no
/// points.
pub(crate) fn curves(history: &[EpochRecord]) -> impl Iterator<Item = (String, Option<String>)> {
    SERIES.into_iter().map(|(name, value)| {
        let points: Vec<String> =
            history.iter().filter_map(|r| Some(format!("{}\t{}\n", r.epoch, value(r)?))).collect();
        let column = name.rsplit('/').next().unwrap_or(name);
        let contents = format!("step\t{column}\n{}", points.concat());
        (format!("plots/metrics/{name}.tsv"), (!points.is_empty()).then_some(contents))
    })
}

/// Returns the metrics after the last epoch of `history`.
pub(crate) fn progress(history: &[EpochRecord]) -> Map<String, Value> {
    let mut metrics = Map::from_iter([("step".to_string(), json!(history.len()))]);
    metrics.extend(grouped(history.last()));
    metrics
}

/// Returns the values of an epoch by group: `train` and `val`.
fn grouped(record: Option<&EpochRecord>) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, value) in SERIES {
        if let (Some((group, key)), Some(value)) = (name.split_once('/'), record.and_then(value)) {
            let group = values.entry(group).or_insert_with(|| json!({}));
            group[key] = json!(value);
        }
    }
    values
}

/// A named column of the history.
pub(crate) type Series = (&'static str, fn(&EpochRecord) -> Option<f64>);

pub(crate) const SERIES: [Series; 5] = [
    ("train/loss", |r| Some(r.train_loss)),
    ("train/accuracy", |r| Some(r.train_accuracy)),
    ("val/loss", |r| r.val_loss),
    ("val/accuracy", |r| r.val_accuracy),
    ("learning_rate", |r| Some(r.learning_rate)),
];

fn metrics(fitted: &Fitted, data: &TrainingData) -> Value {
    let selected = fitted.history.iter().find(|r| r.epoch == fitted.selected_epoch);
    let mut metrics = progress(&fitted.history);
    let mut chosen = Map::from_iter([("epoch".to_string(), json!(fitted.selected_epoch))]);
    chosen.extend(grouped(selected));
    metrics.insert("selected".into(), Value::Object(chosen));
    metrics.insert("parameters".into(), json!(fitted.model.parameters().count()));
    metrics.insert("train_images".into(), json!(data.train.len()));
    metrics.insert("val_images".into(), json!(data.val.len()));
    metrics.insert("source".into(), json!(source(&data.report.source)));
    Value::Object(metrics)
}

fn source(source: &Source) -> &str {
    &source.description
}

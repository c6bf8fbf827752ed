//! The format of a checkpoint.
//!
//! A safetensors file. Its tensors are `weight/NAME` (with running statistics), `first/NAME` and
//! `second/NAME` (the optimiser's state), `average/NAME`, `best/NAME`, `epoch-1/NAME` (weights
//! after the first epoch) and `dynamics/NAME` (per-epoch logits so far). The metadata under
//! `cifar_checkpoint` are a [`Record`] as JSON, with a hash of the whole file
//! ([`cifar_data::seal`]). The schema is 4.

use std::collections::HashMap;

use candle_core::Tensor;
use cifar_data::seal;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::dynamics::{Dynamics, Part};
use crate::run::RunState;
use crate::{EpochRecord, Result, TrainError, Trainer};

pub(super) const SCHEMA: u64 = 4;
const METADATA_KEY: &str = "cifar_checkpoint";
/// Names of the optimiser's state.
pub(super) const MEMORY: [&str; 2] = ["first", "second"];

/// The metadata.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) schema: u64,
    pub(super) key: String,
    pub(super) architecture: String,
    /// All numeric targets that contributed to it, joined by " and ".
    #[serde(rename = "arithmetic")]
    pub(super) numeric_target: String,
    pub(super) step: usize,
    pub(super) finished: bool,
    pub(super) history: Vec<EpochRecord>,
    /// The bits of the sum of the current epoch's losses.
    pub(super) loss_bits: u64,
    pub(super) correct: usize,
    pub(super) has_best: bool,
    pub(super) has_first_epoch: bool,
    /// [`cifar_data::seal::PLACEHOLDER`] until the file is complete.
    pub(super) seal: String,
}

/// A tensor's name, dimensions and values.
type Named = (String, Vec<usize>, Vec<f32>);
/// Tensors by name.
pub(super) type ByName = HashMap<String, Part>;

/// Returns every tensor that decides the next steps.
pub(super) fn tensors(trainer: &Trainer, state: &RunState) -> Result<Vec<Named>> {
    let parameters = trainer.model().parameters();
    let (optimiser, average) = trainer.memory();
    let mut tensors: Vec<Named> = Vec::new();
    for (index, (name, var)) in parameters.all().enumerate() {
        let mut add = |kind: &str, tensor: &Tensor| -> Result<()> {
            tensors.push((format!("{kind}/{name}"), var.dims().to_vec(), tensor.flatten_all()?.to_vec1()?));
            Ok(())
        };
        add("weight", var.as_tensor())?;
        if let Some(best) = state.best.as_ref().and_then(|best| best.get(index)) {
            add("best", best)?;
        }
        if let Some(first) = state.first_epoch.as_ref().and_then(|first| first.get(index)) {
            add("epoch-1", first)?;
        }
        if let Some(values) = average.values().get(index) {
            tensors.push((format!("average/{name}"), var.dims().to_vec(), values.clone()));
        }
    }
    for (parameter, memory) in parameters.trained().iter().zip(optimiser.memory()) {
        for (kind, values) in MEMORY.into_iter().zip(memory).filter(|(_, values)| !values.is_empty()) {
            tensors.push((format!("{kind}/{}", parameter.name), parameter.var.dims().to_vec(), values.to_vec()));
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

/// Returns the tensors as they are stored, with the per-epoch logits, sorted by name.
pub(super) fn parts(tensors: Vec<Named>, state: &RunState) -> Vec<(String, Part)> {
    let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut parts: Vec<(String, Part)> =
        tensors.into_iter().map(|(name, dims, values)| (name, (Dtype::F32, dims, bytes(values)))).collect();
    let dynamics = state.dynamics.iter().flat_map(Dynamics::parts);
    parts.extend(dynamics.map(|(name, part)| (format!("dynamics/{name}"), part)));
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts
}

pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

pub(super) fn encode(record: &Record, parts: &[(String, Part)]) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| TrainError::Encode(e.to_string());
    let json = serde_json::to_string(record).map_err(|e| failed(&e))?;
    let views = parts.iter().map(|(name, (dtype, dims, bytes))| {
        Ok((name.as_str(), TensorView::new(*dtype, dims.clone(), bytes).map_err(|e| failed(&e))?))
    });
    let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
    let mut bytes =
        safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).map_err(|e| failed(&e))?;
    seal::seal(&mut bytes).map_err(|e| failed(&e))?;
    Ok(bytes)
}

/// Returns the record and the tensors by name, or what is wrong with the file.
pub(super) fn decode(bytes: &[u8]) -> Result<(Record, ByName), String> {
    let damaged = |e: &dyn std::fmt::Display| format!("is damaged or cut short ({e})");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let json = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or("is not a checkpoint")?;
    let schema = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v.get("schema")?.as_u64());
    if schema != Some(SCHEMA) {
        let schema = schema.map_or("none".to_string(), |s| s.to_string());
        return Err(format!("has schema {schema}, this program reads schema {SCHEMA}"));
    }
    seal::check(bytes).map_err(|e| e.to_string())?;
    let record: Record = serde_json::from_str(json).map_err(|e| damaged(&e))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let part = |(name, v): (String, TensorView)| (name, (v.dtype(), v.shape().to_vec(), v.data().to_vec()));
    Ok((record, file.tensors().into_iter().map(part).collect()))
}

//! The names of runs.

use cifar_data::prepare::PreparedReport;
use cifar_data::splits::Split;
use cifar_model::{Continued, ModelParams};
use serde_json::json;

use super::file::SCHEMA;
use crate::TrainParams;

/// Returns the name of a run: a hash of everything that decides its result. `program` identifies
/// the code that computes it.
pub fn run_key(params: &TrainParams, model: &ModelParams, data: &PreparedReport, seed: u64, program: &str) -> String {
    // What `auto` means depends on the processor.
    let params = TrainParams { precision: params.precision.resolved(), ..params.clone() };
    let identity = json!({
        "schema": SCHEMA,
        "train": params,
        "model": model,
        "seed": seed,
        "program": program,
        "classes": data.classes,
        "normalisation": data.normalisation,
        "images": [data.fingerprints.get(&Split::Train), data.fingerprints.get(&Split::Val)],
        // The model file has these two.
        "version": data.dataset_version,
        "source": data.source,
    });
    blake3::hash(identity.to_string().as_bytes()).to_hex().to_string()
}

/// Returns the name of a run that continues a finished one, given the name that it would have from
/// the start.
pub fn continued_key(key: &str, from: &Continued) -> String {
    let identity = json!({ "run": key, "continues": from });
    blake3::hash(identity.to_string().as_bytes()).to_hex().to_string()
}

//! A trained network as a file of other programs: [`onnx`] and [`pytorch`].
//!
//! Both have the same logits as [`predict`](crate::predict()), up to rounding, and contain the
//! normalisation of pixels, the class names and the origin of the model. Convolutions are stored as
//! `[outputs, inputs, rows, columns]` and images as `[N, channels, height, width]`, the usual
//! layout of other programs.
//!
//! No other module uses this one, so it does not affect results.

pub mod onnx;
mod protobuf;
pub mod pytorch;

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use cifar_data::prepare::Normalisation;
use serde_json::{Map, Value, json};

use crate::{Model, ModelError, Result};

/// The tensors of a model by name.
struct Tensors<'a>(BTreeMap<&'a str, &'a Var>);

impl<'a> Tensors<'a> {
    fn of(model: &'a Model) -> Self {
        Self(model.parameters().all().collect())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns a tensor in our layout.
    fn get(&self, name: &str) -> Result<&'a Tensor> {
        let missing = || ModelError::Unsuitable(format!("the network has no tensor `{name}`"));
        self.0.get(name).copied().map(Var::as_tensor).ok_or_else(missing)
    }

    /// Returns the filters `[K, K, I, O]` of a convolution as `[O, I, K, K]`.
    fn filters(&self, name: &str) -> Result<Tensor> {
        Ok(self.get(name)?.permute((3, 2, 0, 1))?)
    }

    /// Returns a matrix `[H · W · C, O]`, whose input is a flattened image `[H, W, C]`, for a
    /// flattened image `[C, H, W]`.
    fn matrix_over_pixels(&self, name: &str, [height, width, channels]: [usize; 3]) -> Result<Tensor> {
        let matrix = self.get(name)?;
        let outputs = matrix.dim(1)?;
        let by_channel = matrix.reshape((height, width, channels, outputs))?.permute((2, 0, 1, 3))?;
        Ok(by_channel.reshape((height * width * channels, outputs))?)
    }
}

/// Returns the height, width and channels of the images that `simple_cnn` flattens, after its three
/// poolings.
fn pooled(model: &Model) -> [usize; 3] {
    let (size, widths) = (model.spec().size, &model.spec().params.widths);
    [size.height / 8, size.width / 8, widths.last().copied().unwrap_or_default()]
}

/// Returns the values of a tensor as little-endian bytes.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// Refuses a model whose normalisation is impossible, or that does not fit into memory three times
/// more, which encoding needs.
fn check(model: &Model) -> Result<()> {
    let Normalisation { mean, std } = &model.spec().normalisation;
    let is_possible = [mean, std].iter().all(|values| values.len() == 3 && values.iter().all(|v| v.is_finite()));
    if !is_possible || std.iter().any(|std| *std <= 0.0) {
        return Err(ModelError::Unsuitable(format!(
            "the normalisation has mean {mean:?} and standard deviation {std:?}; expected three finite numbers each, \
             the latter above 0"
        )));
    }
    let values: usize = model.parameters().all().map(|(_, var)| var.elem_count()).sum();
    Ok(crate::check_memory("exporting this model", 12 * values as u64, "use a smaller model")?)
}

/// Returns what an exported file says about the model: architecture, classes, normalisation and
/// origin, followed by `more`.
fn description(model: &Model, more: &Map<String, Value>) -> Result<Map<String, Value>> {
    let spec = model.spec();
    // Converted through text: an f32 converted to a JSON value directly would show digits that it
    // does not have.
    let text = serde_json::to_string(spec);
    let as_json: Value = text.and_then(|text| serde_json::from_str(&text)).map_err(candle_core::Error::wrap)?;
    let mut map = Map::new();
    let mut add = |key: &str, value: Value| map.insert(key.into(), value);
    add("architecture", json!(spec.params.architecture.name()));
    add("classes", json!(spec.classes));
    add("network", as_json["params"].clone());
    add("height", json!(spec.size.height));
    add("width", json!(spec.size.width));
    add("normalisation", as_json["normalisation"].clone());
    if let Some(origin) = &model.origin {
        add("source", json!(origin.source.description));
        add("dataset_version", json!(origin.dataset_version));
        add("training_fingerprint", json!(origin.training_fingerprint));
        add("validation_fingerprint", json!(origin.validation_fingerprint));
        add("seed", json!(origin.seed));
        add("epoch", json!(origin.epoch));
        add("numeric_target", json!(origin.arithmetic));
        if let Some(fit) = &origin.source.fit {
            add("fit", json!(fit));
        }
        if let Some(init) = &origin.init {
            add("init", json!(init));
        }
        if !origin.continues.is_empty() {
            add("continues", json!(origin.continues));
        }
        if !origin.settings.is_empty() {
            add("settings", json!(origin.settings));
        }
    }
    if !model.seal().is_empty() {
        add("model_hash", json!(model.seal()));
    }
    map.extend(more.clone());
    Ok(map)
}

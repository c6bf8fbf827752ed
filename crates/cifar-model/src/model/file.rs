//! The file of a model.
//!
//! The file is safetensors: every tensor under its name, and one metadata key, `cifar_model`. Its
//! value is JSON with the schema version, the [`ModelSpec`], the [`ModelOrigin`] and a hash of the
//! whole file ([`cifar_data::seal`]). Equal models give identical bytes. The schema version is 3.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use cifar_data::output::write_file;
use cifar_data::seal::{self, PLACEHOLDER};
use cifar_data::{DataError, Stage};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::{ModelOrigin, ModelSpec};
use crate::memory::check_memory;
use crate::{Model, ModelError, Result};

const SCHEMA: u32 = 3;
const METADATA_KEY: &str = "cifar_model";

#[derive(Serialize, Deserialize)]
struct Description {
    schema: u32,
    spec: ModelSpec,
    origin: Option<ModelOrigin>,
    seal: String,
}

impl Model {
    /// Writes the model to a file, which is replaced atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (spec, origin) = (self.spec.clone(), self.origin.clone());
        let metadata = Description { schema: SCHEMA, spec, origin, seal: PLACEHOLDER.into() };
        let json = serde_json::to_string(&metadata).map_err(|e| ModelError::malformed(path, e.to_string()))?;
        let tensors = self.parameters.all().map(|(name, var)| {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok((name.to_string(), var.dims().to_vec(), bytes))
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map_err(|e| ModelError::malformed(path, e.to_string()))?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        // One key only: the header is a hash map, whose order would change the bytes from run to
        // run.
        let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
        let mut bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|e| ModelError::malformed(path, e.to_string()))?;
        seal::seal(&mut bytes).map_err(|e| ModelError::malformed(path, e.to_string()))?;
        Ok(write_file(path, &bytes)?)
    }

    /// Reads a model written by [`Model::save`].
    ///
    /// # Errors
    /// [`DataError::Missing`] if there is no such file. Otherwise if the file cannot be read, is
    /// damaged or has another schema, or there is not enough memory.
    pub fn load(path: &Path) -> Result<Self> {
        Self::decode(path, &read(path)?)
    }

    /// Decodes the bytes of the file `path`.
    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |problem: String| ModelError::malformed(path, problem);
        let not_ours = |e: safetensors::SafeTensorError| wrong(format!("is not a valid safetensors file ({e})"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_ours)?;
        let json =
            header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or_else(|| {
                wrong(format!("has no `{METADATA_KEY}` metadata, so it is not a model of this program"))
            })?;
        let schema = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v.get("schema")?.as_u64());
        if schema != Some(u64::from(SCHEMA)) {
            let found = schema.map_or("none".to_string(), |s| s.to_string());
            return Err(wrong(format!(
                "has schema {found}, this program reads schema {SCHEMA}; train the model again"
            )));
        }
        let seal = seal::check(bytes).map_err(|e| wrong(e.to_string()))?;
        let Description { spec, origin, .. } = serde_json::from_str(json)
            .map_err(|e| wrong(format!("describes a network that this program does not support ({e})")))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(not_ours)?;
        // The description is compared with the stored tensors before anything is built from it.
        let plan = spec.plan().map_err(|e| wrong(e.to_string()))?;
        if tensors.len() != plan.tensors.len() {
            let (name, count) = (spec.params.architecture.name(), plan.tensors.len());
            return Err(wrong(format!("has {} tensors, expected {count} for {name}", tensors.len())));
        }
        for (name, dims) in &plan.tensors {
            let tensor = tensors.tensor(name).map_err(|_| wrong(format!("has no tensor `{name}`")))?;
            if tensor.shape() != dims || tensor.dtype() != Dtype::F32 {
                let (dtype, shape) = (tensor.dtype(), tensor.shape());
                return Err(wrong(format!("tensor `{name}` is {dtype:?} {shape:?}, expected F32 {dims:?}")));
            }
        }
        let mut model = Self::new(spec, 0)?;
        (model.origin, model.seal) = (origin, Some(seal));
        for (name, var) in model.parameters.all() {
            let tensor = tensors.tensor(name).map_err(|_| wrong(format!("has no tensor `{name}`")))?;
            let values: Vec<f32> =
                tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if values.iter().any(|v| !v.is_finite()) {
                return Err(wrong(format!("tensor `{name}` has values that are not finite")));
            }
            var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu)?)?;
        }
        Ok(model)
    }
}

/// Returns whether a safetensors file claims to be a model of this program.
pub(crate) fn is_model(header: &Metadata) -> bool {
    header.metadata().as_ref().is_some_and(|map| map.contains_key(METADATA_KEY))
}

/// Reads a model file if there is enough memory for it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let unreadable = |e: std::io::Error| {
        let problem = format!("cannot read the model: {e}");
        if e.kind() != std::io::ErrorKind::NotFound {
            return ModelError::malformed(path, problem);
        }
        DataError::Missing { path: path.to_path_buf(), problem, made_by: Stage::Train.alone() }.into()
    };
    // Memory for the file, its values, and a network of them.
    let needed = std::fs::metadata(path).map_err(unreadable)?.len().saturating_mul(4);
    check_memory(&format!("{}: reading this model", path.display()), needed, "use a smaller model")?;
    std::fs::read(path).map_err(unreadable)
}

//! The file of a record, and its tensors.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cifar_data::output::write_file;
use cifar_data::seal::{self, PLACEHOLDER};
use cifar_data::{DataError, Dataset, SampleId, Stage};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::Dynamics;
use crate::{Result, TrainError};

const SCHEMA: u64 = 2;
const METADATA_KEY: &str = "cifar_dynamics";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    schema: u64,
    /// BLAKE3 hash of the model file of the same run.
    model: String,
    classes: usize,
    #[serde(rename = "share")]
    fraction: f64,
    seed: u64,
    seal: String,
    has_pass: bool,
}

/// A tensor: type, dimensions and bytes.
pub(crate) type Part = (Dtype, Vec<usize>, Vec<u8>);

impl Dynamics {
    /// Returns the whole record as named tensors.
    pub(crate) fn parts(&self) -> [(&'static str, Part); 5] {
        let halves = |values: &[f16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (n, v, c) = (self.train.len(), self.val.len(), self.classes);
        // The current epoch may be incomplete.
        let passes = self.pass.len().checked_div(n * c).unwrap_or(0);
        [
            ("pass", (Dtype::F16, vec![passes, n, c], halves(&self.pass))),
            ("plain", (Dtype::F16, vec![self.plain_images.len(), c], halves(&self.plain))),
            ("plain_ends", (Dtype::U32, vec![self.epochs()], bytes(&self.plain_ends))),
            ("plain_images", (Dtype::U32, vec![self.plain_images.len()], bytes(&self.plain_images))),
            ("val", (Dtype::F16, vec![self.epochs(), v, c], halves(&self.of_val))),
        ]
    }

    /// Returns the record with the tensors of [`Dynamics::parts`], or what is wrong with them.
    pub(crate) fn with_parts(mut self, mut take: impl FnMut(&str) -> Option<Part>) -> Result<Self, String> {
        let (n, v, c) = (self.train.len(), self.val.len(), self.classes);
        let mut part = |name: &'static str, dtype: Dtype| match take(name) {
            Some((found, dims, bytes)) if found == dtype => Ok((dims, bytes)),
            Some((found, ..)) => Err(format!("tensor `{name}` is {found:?}, expected {dtype:?}")),
            None => Err(format!("has no tensor `{name}`")),
        };
        let (_, ends) = part("plain_ends", Dtype::U32)?;
        let (_, images) = part("plain_images", Dtype::U32)?;
        let (of_pass, of_plain, of_val) =
            (part("pass", Dtype::F16)?, part("plain", Dtype::F16)?, part("val", Dtype::F16)?);
        (self.plain_ends, self.plain_images) = (words(&ends), words(&images));
        let (epochs, rows) = (self.plain_ends.len(), self.plain_images.len());
        let expect = |name: &str, dims: &[usize], expected: &[&[usize]]| {
            if expected.contains(&dims) {
                Ok(())
            } else {
                Err(format!("tensor `{name}` is {dims:?}, expected {:?}", expected[0]))
            }
        };
        let passes: &[&[usize]] = if self.has_pass { &[&[epochs, n, c], &[epochs + 1, n, c]] } else { &[&[0, n, c]] };
        expect("pass", &of_pass.0, passes)?;
        expect("plain", &of_plain.0, &[&[rows, c]])?;
        expect("val", &of_val.0, &[&[epochs, v, c]])?;
        if !self.plain_ends.is_sorted() || self.plain_ends.last().copied().unwrap_or(0) as usize != rows {
            return Err(format!("`plain_ends` does not divide {rows} rows into epochs"));
        }
        if let Some(place) = self.plain_images.iter().find(|place| **place as usize >= n) {
            return Err(format!("`plain_images` names image {place} of {n}"));
        }
        let halves = |bytes: &[u8]| bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
        (self.pass, self.plain, self.of_val) = (halves(&of_pass.1), halves(&of_plain.1), halves(&of_val.1));
        Ok(self)
    }

    /// Writes the file of a finished run beside its model file.
    pub(crate) fn write(&self, path: &Path, model: &Path) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| TrainError::Encode(e.to_string());
        let (model, seed) = (hash(model)?, self.seed);
        let (classes, fraction, has_pass, seal) = (self.classes, self.fraction, self.has_pass, PLACEHOLDER.into());
        let metadata = Metadata { schema: SCHEMA, model, classes, fraction, seed, has_pass, seal };
        let json = serde_json::to_string(&metadata).map_err(|e| failed(&e))?;
        let ids = |ids: &[SampleId]| {
            let words: Vec<u32> = ids.iter().map(|id| id.0).collect();
            (Dtype::U32, vec![ids.len()], bytes(&words))
        };
        let mut parts = self.parts().to_vec();
        parts.extend([("train_ids", ids(&self.train)), ("val_ids", ids(&self.val))]);
        let views = parts.iter().map(|(name, (dtype, dims, bytes))| {
            Ok((*name, TensorView::new(*dtype, dims.clone(), bytes).map_err(|e| failed(&e))?))
        });
        let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
        let file = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata));
        let mut file = file.map_err(|e| failed(&e))?;
        seal::seal(&mut file).map_err(|e| failed(&e))?;
        Ok(write_file(path, &file)?)
    }

    /// Reads the file of the run that wrote the model file `model`, and checks that it is about
    /// these images.
    ///
    /// # Errors
    /// If the file is missing, damaged, cut short, of another run or about other images.
    pub fn read(path: &Path, model: &Path, train: &Dataset, val: &Dataset) -> Result<Self> {
        let made_by = Stage::Train.alone();
        let stale = |problem: String| DataError::Stale { path: path.to_path_buf(), problem, made_by };
        let file = match fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let problem = format!("cannot read it: {e}");
                return Err(DataError::Missing { path: path.to_path_buf(), problem, made_by }.into());
            }
            other => other.map_err(DataError::io("read", path))?,
        };
        let (metadata, dynamics) = decode(&file).map_err(stale)?;
        if metadata.model != hash(model)? {
            return Err(stale(format!("is of another run than the model {}", model.display())).into());
        }
        for (name, set, ids) in [("training", train, &dynamics.train), ("validation", val, &dynamics.val)] {
            let found = ids.iter().ne(set.samples().iter().map(|s| &s.id));
            if found || dynamics.classes != set.classes().len() {
                let unknown = ids.iter().find(|id| set.index_of(**id).is_none());
                let unknown = unknown.map(|id| format!(", such as image {id}")).unwrap_or_default();
                return Err(stale(format!("is about other {name} images than the prepared set{unknown}")).into());
            }
        }
        Ok(dynamics)
    }
}

fn decode(file: &[u8]) -> Result<(Metadata, Dynamics), String> {
    let damaged = |e: &dyn std::fmt::Display| format!("is damaged or cut short ({e})");
    let (_, header) = SafeTensors::read_metadata(file).map_err(|e| damaged(&e))?;
    let json = header
        .metadata()
        .as_ref()
        .and_then(|map| map.get(METADATA_KEY))
        .ok_or("is not a record of training dynamics")?;
    let schema = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v.get("schema")?.as_u64());
    if schema != Some(SCHEMA) {
        let schema = schema.map_or("none".to_string(), |s| s.to_string());
        return Err(format!("has schema {schema}, this program reads schema {SCHEMA}"));
    }
    seal::check(file).map_err(|e| e.to_string())?;
    let metadata: Metadata = serde_json::from_str(json).map_err(|e| damaged(&e))?;
    let tensors = SafeTensors::deserialize(file).map_err(|e| damaged(&e))?;
    let take = |name: &str| {
        let tensor = tensors.tensor(name).ok()?;
        Some((tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
    };
    let ids = |name: &str| match take(name) {
        Some((Dtype::U32, _, bytes)) => Ok(words(&bytes).into_iter().map(SampleId).collect::<Vec<_>>()),
        _ => Err(format!("has no tensor `{name}` of ids")),
    };
    let dynamics = Dynamics {
        classes: metadata.classes,
        train: ids("train_ids")?,
        val: ids("val_ids")?,
        fraction: metadata.fraction,
        seed: metadata.seed,
        has_pass: metadata.has_pass,
        pass: Vec::new(),
        plain: Vec::new(),
        plain_images: Vec::new(),
        plain_ends: Vec::new(),
        of_val: Vec::new(),
    };
    let dynamics = dynamics.with_parts(take)?;
    let passes = if dynamics.has_pass { dynamics.epochs() } else { 0 };
    if dynamics.pass.len() != passes * dynamics.train.len() * dynamics.classes {
        return Err("is from a training run that did not finish".into());
    }
    let all = [("pass", &dynamics.pass), ("plain", &dynamics.plain), ("val", &dynamics.of_val)];
    match all.iter().find(|(_, values)| values.iter().any(|v| !v.is_finite())) {
        Some((name, _)) => Err(format!("tensor `{name}` holds values that are not finite")),
        None => Ok((metadata, dynamics)),
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn hash(model: &Path) -> Result<String> {
    let bytes = fs::read(model).map_err(DataError::io("read", model))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

//! Reads the weights of a network that another program trained.
//!
//! One layout is known: the `state_dict` of timm's (and torchvision's) `resnet18` as safetensors, with
//! the stem for small images, a 3×3 convolution with stride 1 and no max pooling. The file does not
//! tell the stride and the pooling.
//!
//! The normalisation of pixels, for values in 0..1, is that of the tensors `mean` and `std`. If the
//! file has none, it is that of `config.json` beside it, as timm writes it for Hugging Face's hub.
//! That file may also name the classes (`label_names`, or `classes` as [`export`](mod@crate::export)
//! writes it).

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::{Device, Tensor};
use cifar_data::prepare::Normalisation;
use cifar_data::{DataError, ImageSize, provenance};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

use crate::model::{Imported, is_model, read};
use crate::networks::{Architecture, ModelParams};
use crate::torch_names::torch_name;
use crate::{Model, ModelError, ModelSpec, Result};

const LAYOUT: &str = "timm's resnet18";
/// Tensors by which the layout is recognised.
const RECOGNISED: [&str; 2] = ["conv1.weight", "layer1.0.conv1.weight"];
const STEM: &str = RECOGNISED[0];
const CONFIG: &str = "config.json";
/// The weights suit images of any size.
const SIZE: ImageSize = ImageSize { height: 32, width: 32 };

impl Model {
    /// Reads a model written by [`Model::save`], or the weights of a network that another program
    /// trained: timm's `resnet18` as safetensors, with a stem for small images.
    ///
    /// # Errors
    /// As [`Model::load`]. Also if a tensor of the other layout is missing, unknown or of another
    /// shape, or the normalisation of pixels is not known.
    pub fn load_weights(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        match SafeTensors::read_metadata(&bytes) {
            Ok((_, header)) if !is_model(&header) => {
                let tensors = header.tensors();
                import(path, &bytes, &tensors.keys().map(String::as_str).collect::<Vec<_>>())
            }
            _ => Self::decode(path, &bytes),
        }
    }
}

/// Builds the model of a safetensors file that has these names of tensors and is no model of ours.
fn import(path: &Path, bytes: &[u8], names: &[&str]) -> Result<Model> {
    let wrong = |problem: String| ModelError::malformed(path, problem);
    if !RECOGNISED.iter().all(|name| names.contains(name)) {
        let [first, second] = RECOGNISED;
        return Err(wrong(format!(
            "holds neither a model of this program nor {LAYOUT}, which has the tensors `{first}` and `{second}`"
        )));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(format!("is not a valid safetensors file ({e})")))?;
    let tensor = |name: &str| file.tensor(name).map_err(|_| wrong(format!("has no tensor `{name}`, unlike {LAYOUT}")));
    let outputs = |name: &str| Ok::<_, ModelError>(tensor(name)?.shape().first().copied().unwrap_or(0));
    let config = read_config(path)?;
    let normalisation = normalisation(path, &file, &config)?;
    let classes = outputs("fc.weight")?;
    let labels = class_names(path, &config, classes)?;
    let names_classes = labels.is_some();
    let widths = (1..=4).map(|stage| outputs(&format!("layer{stage}.0.conv1.weight"))).collect::<Result<_>>()?;
    let spec = ModelSpec {
        params: ModelParams { widths, ..ModelParams::of(Architecture::ResNet18) },
        // Names of classes are names of files, so no class has one of these.
        classes: labels.unwrap_or_else(|| (0..classes).map(|class| format!("unnamed/{class}")).collect()),
        size: SIZE,
        normalisation,
    };
    let plan = spec.plan().map_err(|e| wrong(e.to_string()))?;
    let ours: Vec<(String, String, Vec<usize>)> = (plan.tensors.iter())
        .map(|(name, dims)| (name.clone(), torch_name(name, Architecture::ResNet18), torch_dims(dims)))
        .collect();
    let expected: BTreeSet<&str> = ours.iter().map(|(_, name, _)| name.as_str()).chain(["mean", "std"]).collect();
    let is_counter = |name: &str| name.ends_with(".num_batches_tracked");
    // The first one by name, since the order in the file is that of its offsets.
    if let Some(name) = names.iter().filter(|name| !expected.contains(**name) && !is_counter(name)).min() {
        return Err(wrong(format!("has a tensor `{name}`, unlike {LAYOUT}")));
    }
    for (_, name, dims) in &ours {
        let found = tensor(name)?;
        if found.dtype() != Dtype::F32 || found.shape() != dims {
            let why = if name == STEM { ", as a stem for small images has it" } else { "" };
            let (dtype, shape) = (found.dtype(), found.shape());
            return Err(wrong(format!("tensor `{name}` is {dtype:?} {shape:?}, expected F32 {dims:?}{why}")));
        }
    }
    let identity = serde_json::to_vec(&(&spec.normalisation, &spec.classes)).map_err(|e| wrong(e.to_string()))?;
    let seal = provenance::hash(&[bytes, &identity].concat());
    let model = Model::of_other_program(spec, seal, Imported { layout: LAYOUT, names_classes })?;
    for ((_, var), (_, name, dims)) in model.parameters().all().zip(&ours) {
        let values = floats(&tensor(name)?);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(wrong(format!("tensor `{name}` has values that are not finite")));
        }
        let values = Tensor::from_vec(values, dims.as_slice(), &Device::Cpu)?;
        let values = match dims.len() {
            4 => values.permute((2, 3, 1, 0))?,
            2 => values.t()?,
            _ => values,
        };
        var.set(&values.contiguous()?)?;
    }
    Ok(model)
}

/// Returns the shape of one of our tensors in `PyTorch`: `[K, K, I, O]` is `[O, I, K, K]` there, and
/// `[I, O]` is `[O, I]`.
fn torch_dims(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [height, width, inputs, outputs] => vec![outputs, inputs, height, width],
        [inputs, outputs] => vec![outputs, inputs],
        _ => dims.to_vec(),
    }
}

fn floats(tensor: &TensorView) -> Vec<f32> {
    tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Returns `config.json` beside the file; null if there is none.
fn read_config(path: &Path) -> Result<Value> {
    let path = path.with_file_name(CONFIG);
    match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(e) => Err(ModelError::malformed(&path, format!("cannot read it: {e}"))),
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|e| ModelError::malformed(&path, format!("is not JSON ({e})")))
        }
    }
}

fn normalisation(path: &Path, file: &SafeTensors, config: &Value) -> Result<Normalisation> {
    let wrong = |problem: String| ModelError::malformed(path, problem);
    // Without the first key in files of earlier versions.
    let in_config = [&config["pretrained_cfg"], config].into_iter().find(|config| !config["mean"].is_null());
    let read = |name: &str| -> Result<Vec<f32>> {
        if let Ok(tensor) = file.tensor(name) {
            return if tensor.dtype() == Dtype::F32 { Ok(floats(&tensor)) } else { Ok(Vec::new()) };
        }
        let found = in_config.map(|config| serde_json::from_value(config[name].clone()));
        found.and_then(std::result::Result::ok).ok_or_else(|| {
            wrong(format!(
                "does not tell the normalisation of pixels: it has no tensor `{name}`, and there is no {CONFIG} with it"
            ))
        })
    };
    let [mean, std] = [read("mean")?, read("std")?];
    let is_possible = [&mean, &std].iter().all(|values| values.len() == 3 && values.iter().all(|v| v.is_finite()));
    if !is_possible || std.iter().any(|std| *std <= 0.0) {
        let allowed = "expected three finite numbers each, those of `std` above 0";
        return Err(wrong(format!("normalises pixels with `mean` {mean:?} and `std` {std:?}; {allowed}")));
    }
    Ok(Normalisation { mean, std })
}

/// Returns the names of the classes; none if they are not known.
fn class_names(path: &Path, config: &Value, count: usize) -> Result<Option<Vec<String>>> {
    let found = [&config["label_names"], &config["classes"]].into_iter().find(|names| names.is_array());
    let Some(names) = found.and_then(|names| serde_json::from_value::<Vec<String>>(names.clone()).ok()) else {
        return Ok(None);
    };
    if names.len() != count {
        let problem = format!("names {} classes, `fc.weight` of {} has {count}", names.len(), path.display());
        return Err(DataError::Malformed { path: path.with_file_name(CONFIG), problem }.into());
    }
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cifar_data::ImageSize;
    use safetensors::serialize;
    use serde_json::json;

    use super::*;
    use crate::{Mode, Transfer};

    /// `benches/peers/timm_resnet18.py` wrote it, with the logits of `PyTorch` beside it.
    const FILE: &[u8] = include_bytes!("../tests/goldens/timm_resnet18.safetensors");

    type Parts = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

    fn parts() -> Parts {
        let tensors = SafeTensors::deserialize(FILE).unwrap().tensors().into_iter();
        tensors.map(|(name, t)| (name, t.dtype(), t.shape().to_vec(), t.data().to_vec())).collect()
    }

    fn write(path: &Path, parts: &Parts) {
        let views = parts
            .iter()
            .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        fs::write(path, serialize(views, None).unwrap()).unwrap();
    }

    fn spec(widths: &[usize], classes: &[&str], normalisation: &Normalisation) -> ModelSpec {
        ModelSpec {
            params: ModelParams { widths: widths.to_vec(), ..ModelParams::of(Architecture::ResNet18) },
            classes: classes.iter().map(|class| (*class).to_string()).collect(),
            size: ImageSize { height: 9, width: 12 },
            normalisation: normalisation.clone(),
        }
    }

    #[test]
    fn logits_are_those_of_pytorch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resnet18.safetensors");
        fs::write(&path, FILE).unwrap();
        fs::write(folder.path().join(CONFIG), json!({ "label_names": ["a", "b", "c"] }).to_string()).unwrap();
        let imported = Model::load_weights(&path).unwrap();
        assert_eq!(imported.imported(), Some(&Imported { layout: LAYOUT, names_classes: true }));
        // A run's own network, for images of another size, that takes all weights.
        let model = Model::new(spec(&[3, 4, 5, 6], &["a", "b", "c"], &imported.spec().normalisation), 5).unwrap();
        let Transfer { taken, new } = model.take_from(&imported).unwrap();
        assert_eq!((taken.len(), new.len()), (20 + 20 * 4 + 2, 0));
        let goldens: Value = serde_json::from_str(include_str!("../tests/goldens/timm_resnet18.json")).unwrap();
        let pixels: Vec<u8> = serde_json::from_value(goldens["pixels"].clone()).unwrap();
        let expected: Vec<Vec<f32>> = serde_json::from_value(goldens["logits"].clone()).unwrap();
        let found = model.forward(&pixels, &Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap();
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-5, "{found}, PyTorch has {expected}");
        }
    }

    /// So a network can be trained further in `PyTorch` and return.
    #[test]
    fn an_exported_network_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let normalisation = Normalisation { mean: vec![0.5, 0.1, 0.2], std: vec![0.25; 3] };
        let model = Model::new(spec(&[2, 3, 4, 5], &["a", "b"], &normalisation), 5).unwrap();
        for (name, bytes) in crate::export::pytorch::files(&model, &serde_json::Map::new()).unwrap() {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let again = Model::load_weights(&folder.path().join("model.safetensors")).unwrap();
        assert_eq!((&again.spec().classes, &again.spec().normalisation), (&model.spec().classes, &normalisation));
        for ((name, before), (_, after)) in model.parameters().all().zip(again.parameters().all()) {
            let values = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(before.dims() == after.dims() && values(before) == values(after), "{name}");
        }
    }

    #[test]
    fn classes_without_names_are_taken_by_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resnet18.safetensors");
        fs::write(&path, FILE).unwrap();
        let imported = Model::load_weights(&path).unwrap();
        let spec = |widths: &[usize]| spec(widths, &["a", "b", "c"], &imported.spec().normalisation);
        assert_eq!(Transfer::plan(&spec(&[3, 4, 5, 6]), &imported).unwrap().new, ["head.weight", "head.bias"]);
        let other = Transfer::plan(&spec(&[8, 8, 8, 8]), &imported).unwrap_err().to_string();
        assert_eq!(
            other,
            "has no layer in common: its widths are [3, 4, 5, 6], the parameters and images ask for [8, 8, 8, 8]"
        );
        // The hash depends on the normalisation, which may be in another file.
        let mut parts = parts();
        parts.retain(|(name, ..)| name != "mean" && name != "std");
        write(&path, &parts);
        let mut hashes = BTreeSet::from([imported.seal().to_string()]);
        for mean in [0.4, 0.5] {
            let config = json!({ "pretrained_cfg": { "mean": [mean, 0.5, 0.5], "std": [0.25, 0.25, 0.25] } });
            fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
            let model = Model::load_weights(&path).unwrap();
            assert_eq!(model.spec().normalisation, Normalisation { mean: vec![mean, 0.5, 0.5], std: vec![0.25; 3] });
            hashes.insert(model.seal().to_string());
        }
        assert_eq!(hashes.len(), 3);
    }

    #[test]
    fn other_tensors_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        let check = |change: &dyn Fn(&mut Parts), expected: &str| {
            let mut parts = parts();
            change(&mut parts);
            write(&path, &parts);
            let error = Model::load_weights(&path).unwrap_err().to_string();
            assert_eq!(error.strip_prefix(&format!("{}: ", path.display())), Some(expected), "{error}");
        };
        let drop = |wanted: &'static str| move |parts: &mut Parts| parts.retain(|(name, ..)| name != wanted);
        check(&drop("bn1.running_var"), "has no tensor `bn1.running_var`, unlike timm's resnet18");
        check(&drop("fc.bias"), "has no tensor `fc.bias`, unlike timm's resnet18");
        let untold = "does not tell the normalisation of pixels: it has no tensor";
        check(&drop("std"), &format!("{untold} `std`, and there is no config.json with it"));
        check(
            &drop("conv1.weight"),
            "holds neither a model of this program nor timm's resnet18, which has the tensors `conv1.weight` and \
             `layer1.0.conv1.weight`",
        );
        let add = |name: &'static str, shape: &'static [usize]| {
            move |parts: &mut Parts| {
                parts.retain(|(found, ..)| found != name);
                let length = shape.iter().product::<usize>();
                parts.push((name.into(), Dtype::F32, shape.to_vec(), vec![0; 4 * length]));
            }
        };
        check(&add("layer1.2.conv1.weight", &[1]), "has a tensor `layer1.2.conv1.weight`, unlike timm's resnet18");
        check(
            &add("conv1.weight", &[3, 3, 7, 7]),
            "tensor `conv1.weight` is F32 [3, 3, 7, 7], expected F32 [3, 3, 3, 3], as a stem for small images has it",
        );
        check(
            &add("layer2.0.conv2.weight", &[4, 4, 1, 1]),
            "tensor `layer2.0.conv2.weight` is F32 [4, 4, 1, 1], expected F32 [4, 4, 3, 3]",
        );
        check(
            &add("std", &[3]),
            "normalises pixels with `mean` [0.4914, 0.4822, 0.4465] and `std` [0.0, 0.0, 0.0]; expected three finite \
             numbers each, those of `std` above 0",
        );
        fs::write(folder.path().join(CONFIG), json!({ "label_names": ["a", "b"] }).to_string()).unwrap();
        write(&path, &parts());
        let error = Model::load_weights(&path).unwrap_err().to_string();
        assert!(error.contains("config.json: names 2 classes, `fc.weight` of"), "{error}");
    }
}

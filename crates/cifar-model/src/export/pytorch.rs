//! `PyTorch`: a folder with the tensors under the names of a `state_dict`, and the network as a
//! Python file that loads them.
//!
//! `resnet18` has the names of torchvision's network. Batch norms without a trained scale have a
//! scale of 1. The normalisation of pixels is part of the network, as the tensors `mean` and `std`.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value};

use super::{Tensors, bytes, check, description, pooled};
use crate::networks::Architecture;
use crate::torch_names::torch_name;
use crate::{Model, ModelError, Result};

/// File name of the tensors.
pub const TENSORS: &str = "model.safetensors";
/// File name of the description: architecture, classes, normalisation and origin.
pub const CONFIG: &str = "config.json";
/// File name of the network.
pub const LOADER: &str = "load.py";

/// Returns the files of the folder: names and contents.
///
/// ```
/// use cifar_model::export::pytorch::files;
/// # use cifar_data::prepare::normalisation;
/// # use cifar_data::sources::synthetic::{SyntheticParams, generate};
/// # use cifar_model::{Architecture, Model, ModelParams, ModelSpec};
/// # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams { widths: vec![4, 4, 4], ..ModelParams::of(Architecture::SimpleCnn) };
/// # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
/// # let model = Model::new(spec, 7)?;
/// let names = files(&model, &serde_json::Map::new())?.map(|(name, _)| name);
/// assert_eq!(names, ["model.safetensors", "config.json", "load.py"]);
/// # Ok::<(), cifar_model::ModelError>(())
/// ```
///
/// `more` is added to the description.
///
/// # Errors
/// If the normalisation of the model is impossible, or there is not enough memory.
pub fn files(model: &Model, more: &Map<String, Value>) -> Result<[(&'static str, Vec<u8>); 3]> {
    check(model)?;
    let loader = match model.spec().params.architecture {
        Architecture::SimpleCnn => include_str!("pytorch/simple_cnn.py"),
        Architecture::Airbench94 | Architecture::Airbench96 => include_str!("pytorch/airbench.py"),
        Architecture::ResNet18 => include_str!("pytorch/resnet18.py"),
    };
    let config = format!("{:#}\n", Value::Object(description(model, more)?));
    Ok([(TENSORS, state_dict(model)?), (CONFIG, config.into_bytes()), (LOADER, loader.into())])
}

/// Encodes all tensors as safetensors.
fn state_dict(model: &Model) -> Result<Vec<u8>> {
    let failed = |e: safetensors::SafeTensorError| ModelError::from(candle_core::Error::wrap(e));
    let mut entries: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in tensors(model)? {
        entries.push((name, Dtype::F32, tensor.dims().to_vec(), bytes(&tensor)?));
    }
    // PyTorch counts the batches that each norm has seen.
    let norms = entries.iter().filter_map(|(name, ..)| name.strip_suffix("running_var"));
    let counts: Vec<String> = norms.map(|norm| format!("{norm}num_batches_tracked")).collect();
    entries.extend(counts.into_iter().map(|name| (name, Dtype::I64, Vec::new(), vec![0; 8])));
    let views = entries.iter().map(|(name, kind, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*kind, shape.clone(), bytes).map_err(failed)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    // One key only: the header is a hash map, whose order would change the bytes from run to run.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}

/// Returns all tensors with their names and layouts in `PyTorch`.
fn tensors(model: &Model) -> Result<Vec<(String, Tensor)>> {
    let (spec, ours) = (model.spec(), Tensors::of(model));
    let mut found = Vec::new();
    for (name, statistics) in [("mean", &spec.normalisation.mean), ("std", &spec.normalisation.std)] {
        found.push((name.to_string(), Tensor::from_slice(statistics, (statistics.len(), 1, 1), &Device::Cpu)?));
    }
    for (name, var) in model.parameters().all() {
        let tensor = match (name, var.rank()) {
            ("dense.weight", _) => ours.matrix_over_pixels(name, pooled(model))?.t()?,
            (_, 4) => ours.filters(name)?,
            (_, 2) => var.t()?,
            _ => var.as_tensor().clone(),
        };
        found.push((torch_name(name, spec.params.architecture), tensor));
    }
    // A norm whose scale is not trained.
    let unscaled = |(name, tensor): &(String, Tensor)| {
        let scale = format!("{}weight", name.strip_suffix("running_mean")?);
        (!found.iter().any(|(name, _)| *name == scale)).then_some((scale, tensor.clone()))
    };
    let missing: Vec<(String, Tensor)> = found.iter().filter_map(unscaled).collect();
    for (name, like) in missing {
        found.push((name, like.ones_like()?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use cifar_data::ImageSize;
    use cifar_data::prepare::Normalisation;
    use safetensors::SafeTensors;

    use super::*;
    use crate::{ModelParams, ModelSpec};

    /// Exports a narrow network and compares some names and shapes, and the number of tensors.
    fn check_files(architecture: Architecture, count: usize, expected: &[(&str, &[usize])]) {
        let widths = if architecture == Architecture::ResNet18 { vec![2, 3, 4, 5] } else { vec![2, 3, 4] };
        let spec = ModelSpec {
            params: ModelParams { widths, ..ModelParams::of(architecture) },
            classes: vec!["cat".into(), "dog".into()],
            size: ImageSize { height: 17, width: 24 },
            normalisation: Normalisation { mean: vec![0.5, 0.1, 0.2], std: vec![0.25; 3] },
        };
        let model = Model::new(spec, 7).unwrap();
        let more = Map::from_iter([("recipe".to_string(), "quick".into())]);
        let [(_, tensors), (_, config), (_, loader)] = files(&model, &more).unwrap();
        let found = SafeTensors::deserialize(&tensors).unwrap();
        let names = found.names();
        for (name, shape) in expected {
            let tensor = found.tensor(name).unwrap_or_else(|_| panic!("{name} is not in {names:?}"));
            assert_eq!(tensor.shape(), *shape, "{name}");
        }
        assert_eq!(found.len(), count, "{names:?}");
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!((&config["architecture"], &config["recipe"]), (&architecture.name().into(), &"quick".into()));
        // Readable at once, with the lines that this text promises.
        let loader = String::from_utf8(loader).unwrap();
        assert!(
            loader.lines().count() <= 60
                && loader.contains("\ndef load() -> ")
                && loader.lines().all(|l| l.len() <= 110)
        );
    }

    #[test]
    fn tensors_have_the_names_and_shapes_of_a_state_dict() {
        check_files(
            Architecture::SimpleCnn,
            2 + 6 + 7 * 5 + 1 + 2,
            &[
                ("mean", &[3, 1, 1]),
                ("blocks.0.conv1.weight", &[2, 3, 3, 3]),
                ("blocks.2.conv2.weight", &[4, 4, 3, 3]),
                ("blocks.1.bn2.running_var", &[3]),
                ("blocks.1.bn2.num_batches_tracked", &[]),
                ("dense.weight", &[128, 24]),
                ("dense_bn.weight", &[128]),
                ("head.weight", &[2, 128]),
                ("head.bias", &[2]),
            ],
        );
        check_files(
            Architecture::Airbench96,
            2 + 2 + 9 + 9 * 5 + 1,
            &[
                ("whitening.weight", &[24, 3, 2, 2]),
                ("whitening.bias", &[24]),
                ("groups.2.convs.2.weight", &[4, 4, 3, 3]),
                ("groups.0.norms.1.weight", &[2]),
                ("head.weight", &[2, 4]),
            ],
        );
        check_files(
            Architecture::ResNet18,
            2 + 20 + 20 * 5 + 2,
            &[
                ("conv1.weight", &[2, 3, 3, 3]),
                ("bn1.bias", &[2]),
                ("layer2.0.downsample.0.weight", &[3, 2, 1, 1]),
                ("layer4.0.downsample.1.running_mean", &[5]),
                ("layer4.1.conv2.weight", &[5, 5, 3, 3]),
                ("fc.weight", &[2, 5]),
            ],
        );
    }
}

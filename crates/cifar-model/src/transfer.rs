//! Starting from a trained network: which of its layers another network takes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::networks::HEAD;
use crate::parameters::layer_of;
use crate::{Model, ModelError, ModelSpec, Result};

/// The tensors that a network takes from a trained one, and those that are new.
///
/// A layer is taken as a whole, with its batch norm and running statistics, if all its tensors have
/// the same names and shapes in both networks. The last layer is taken only if both networks have
/// the same classes in the same order. Whitening filters are taken too: the layers after them were
/// trained on their output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Names of the tensors that are taken.
    pub taken: Vec<String>,
    /// Names of the tensors that keep the values drawn from the seed.
    pub new: Vec<String>,
}

impl Transfer {
    /// Compares the network of `spec`, which need not be built, with a trained one.
    ///
    /// # Errors
    /// If the architecture or the image size differs, or no layer can be taken.
    pub fn plan(spec: &ModelSpec, from: &Model) -> Result<Self> {
        let found = from.spec();
        let differs = |what: &str, found: &str, wanted: &str| {
            Err(ModelError::Unsuitable(format!("has {what} {found}, the parameters and images ask for {wanted}")))
        };
        let [theirs, ours] = [found, spec].map(|spec| spec.params.architecture.name());
        if theirs != ours {
            return differs("architecture", theirs, ours);
        }
        // Imported weights suit images of any size.
        if from.imported().is_none() && found.size != spec.size {
            return differs("images of", &found.size.to_string(), &spec.size.to_string());
        }
        let stored: BTreeMap<&str, &[usize]> = from.parameters().all().map(|(name, var)| (name, var.dims())).collect();
        let tensors = spec.plan()?.tensors;
        let differing: BTreeSet<&str> = (tensors.iter())
            .filter(|(name, dims)| stored.get(name.as_str()) != Some(&dims.as_slice()))
            .map(|(name, _)| layer_of(name))
            .collect();
        let is_taken = |name: &str| {
            let layer = layer_of(name);
            !differing.contains(layer) && (layer != HEAD || found.classes == spec.classes)
        };
        let names = tensors.iter().map(|(name, _)| name.clone());
        let (taken, new): (Vec<String>, Vec<String>) = names.partition(|name| is_taken(name));
        if taken.is_empty() {
            let [theirs, ours] = [&found.params.widths, &spec.params.widths].map(|widths| format!("{widths:?}"));
            return differs("no layer in common: its widths are", &theirs, &ours);
        }
        Ok(Self { taken, new })
    }
}

impl Model {
    /// Sets the tensors of all layers that this network shares with a trained one.
    ///
    /// ```
    /// # use cifar_data::ImageSize;
    /// # use cifar_data::prepare::Normalisation;
    /// use cifar_model::{Model, ModelSpec};
    ///
    /// # let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] };
    /// # let size = ImageSize { height: 8, width: 8 };
    /// # let spec = |classes: &[&str]| ModelSpec {
    /// #     params: cifar_model::ModelParams { widths: vec![4, 4, 4], ..Default::default() },
    /// #     classes: classes.iter().map(|class| class.to_string()).collect(),
    /// #     size,
    /// #     normalisation: normalisation.clone(),
    /// # };
    /// let trained = Model::new(spec(&["cat", "dog"]), 1)?;
    /// let model = Model::new(spec(&["frog", "ship", "truck"]), 2)?;
    /// let transfer = model.take_from(&trained)?;
    /// assert_eq!(transfer.new, ["head.weight", "head.bias"]);
    /// # Ok::<(), cifar_model::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transfer::plan`].
    pub fn take_from(&self, from: &Self) -> Result<Transfer> {
        let transfer = Transfer::plan(self.spec(), from)?;
        let taken: BTreeSet<&str> = transfer.taken.iter().map(String::as_str).collect();
        let stored: BTreeMap<&str, _> = from.parameters().all().collect();
        for (name, var) in self.parameters().all().filter(|(name, _)| taken.contains(name)) {
            if let Some(values) = stored.get(name) {
                var.set(&values.as_tensor().copy()?)?;
            }
        }
        Ok(transfer)
    }
}

#[cfg(test)]
mod tests {
    use cifar_data::ImageSize;
    use cifar_data::prepare::Normalisation;

    use super::*;
    use crate::{Architecture, ModelParams};

    fn model(architecture: Architecture, widths: &[usize], classes: &[&str], side: usize, seed: u64) -> Model {
        let spec = ModelSpec {
            params: ModelParams { widths: widths.to_vec(), ..ModelParams::of(architecture) },
            classes: classes.iter().map(|class| (*class).to_string()).collect(),
            size: ImageSize { height: side, width: side },
            normalisation: Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] },
        };
        Model::new(spec, seed).unwrap()
    }

    fn values(model: &Model, name: &str) -> Vec<f32> {
        let (_, var) = model.parameters().all().find(|(found, _)| *found == name).unwrap();
        var.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn all_layers_are_taken_except_a_head_of_other_classes() {
        for (architecture, widths) in [
            (Architecture::SimpleCnn, &[4, 4, 4][..]),
            (Architecture::Airbench94, &[4, 4, 4]),
            (Architecture::ResNet18, &[4, 4, 4, 4]),
        ] {
            let from = model(architecture, widths, &["cat", "dog"], 12, 1);
            // Statistics that no new network has.
            for buffer in from.parameters().buffers() {
                buffer.var.set(&(buffer.var.as_tensor() + 0.5).unwrap()).unwrap();
            }
            for (classes, takes_head) in [
                (&["cat", "dog"][..], true),
                (&["dog", "cat"], false),
                (&["cat", "eel"], false),
                (&["cat", "dog", "eel"], false),
            ] {
                let network = model(architecture, widths, classes, 12, 2);
                let head = values(&network, "head.weight");
                let Transfer { taken, new } = network.take_from(&from).unwrap();
                assert_eq!(taken.len() + new.len(), network.parameters().all().count());
                for name in &taken {
                    assert_eq!(values(&network, name), values(&from, name), "{name}");
                }
                assert!(new.iter().all(|name| name.starts_with("head.")), "{new:?}");
                assert_eq!(new.is_empty(), takes_head, "{architecture:?} {classes:?}");
                assert_eq!(values(&network, "head.weight") == head, !takes_head);
            }
        }
    }

    #[test]
    fn a_layer_of_another_width_is_new_with_its_norm() {
        let (simple, classes) = (Architecture::SimpleCnn, ["cat", "dog"]);
        let from = model(simple, &[4, 5, 6], &classes, 12, 1);
        let network = model(simple, &[4, 8, 6], &classes, 12, 2);
        let Transfer { taken, new } = network.take_from(&from).unwrap();
        // The filters of block3.conv1 have other inputs; its norm has the same shape.
        for layer in ["block2.conv1", "block2.conv2", "block3.conv1"] {
            assert!(new.contains(&format!("{layer}.weight")) && new.contains(&format!("{layer}.norm.running_mean")));
        }
        assert!(new.iter().all(|name| name.starts_with("block2") || name.starts_with("block3.conv1")), "{new:?}");
        assert!(taken.contains(&"head.weight".to_string()));
    }

    #[test]
    fn another_architecture_or_image_size_is_refused() {
        let classes = ["cat", "dog"];
        let from = model(Architecture::Airbench94, &[4, 4, 4], &classes, 12, 1);
        let check = |architecture, widths: &[usize], side, expected: &str| {
            let found = model(architecture, widths, &classes, side, 2).take_from(&from).unwrap_err().to_string();
            assert_eq!(found, expected);
        };
        let ask = "the parameters and images ask for";
        check(Architecture::SimpleCnn, &[4, 4, 4], 12, &format!("has architecture airbench94, {ask} simple_cnn"));
        check(Architecture::Airbench94, &[4, 4, 4], 16, &format!("has images of 12×12, {ask} 16×16"));
        // The whitening layer has no width.
        let network = model(Architecture::Airbench94, &[8, 8, 8], &classes, 12, 2);
        let taken = network.take_from(&from).unwrap().taken;
        assert_eq!(taken, ["whitening.bias", "whitening.weight"]);
        let from = model(Architecture::SimpleCnn, &[4, 4, 4], &classes, 12, 1);
        let none = model(Architecture::SimpleCnn, &[5, 5, 5], &["a", "b"], 12, 2).take_from(&from).unwrap_err();
        let expected = format!("has no layer in common: its widths are [4, 4, 4], {ask} [5, 5, 5]");
        assert_eq!(none.to_string(), expected);
    }
}

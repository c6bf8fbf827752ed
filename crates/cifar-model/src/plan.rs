//! What a network will consist of and how much memory it takes, found without building it.

use cifar_data::ImageSize;

use crate::networks::build;
use crate::parameters::Parameters;
use crate::predict::{prediction_bytes, scratch_values};
use crate::{ModelError, ModelSpec, Result};

/// The longest side of an image, pixels.
const LONGEST_SIDE: usize = 1 << 16;
/// The most classes: labels are 16 bits wide.
const MOST_CLASSES: usize = 1 << 16;
/// Bytes of a value.
const VALUE: f64 = 4.0;

/// The tensors of a network that is not built yet, and the sizes of its activations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name and shape of every tensor, trained ones first, as [`Parameters::all`] has them.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Number of trained values.
    pub trained: usize,
    /// Values of activations that training keeps for the backward pass, per image.
    pub kept: usize,
    /// Values of the largest activation, per image.
    pub largest: usize,
}

impl ModelSpec {
    /// Plans the network: the tensors have names and shapes, and no memory is taken for them.
    ///
    /// # Errors
    /// As [`Model::new`](crate::Model::new).
    pub fn plan(&self) -> Result<Plan> {
        let ImageSize { height, width } = self.size;
        if !(2..=MOST_CLASSES).contains(&self.classes.len()) {
            return Err(ModelError::Unsuitable(format!(
                "a classifier needs at least two classes and at most {MOST_CLASSES}, found {}",
                self.classes.len()
            )));
        }
        if height.max(width) > LONGEST_SIDE {
            return Err(ModelError::Unsuitable(format!(
                "images have {LONGEST_SIDE} pixels a side at most, these have {}",
                self.size
            )));
        }
        let mut parameters = Parameters::planned();
        let extent = build(&self.params, self.classes.len(), self.size, &mut parameters)?.extent();
        let tensors = parameters.planned_tensors();
        let trained =
            tensors[..parameters.trained().len()].iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
        Ok(Plan { tensors, trained, kept: extent.kept, largest: extent.largest })
    }
}

impl Plan {
    /// Number of values of all tensors.
    pub fn values(&self) -> usize {
        self.tensors.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum()
    }

    /// Number of values of the largest tensor.
    pub fn largest_tensor(&self) -> usize {
        self.tensors.iter().map(|(_, dims)| dims.iter().product()).max().unwrap_or(0)
    }

    /// Bytes that a network in memory takes: its values, and the largest tensor while it is drawn or read.
    pub fn network_bytes(&self) -> f64 {
        VALUE * (self.values() as f64 + 3.0 * self.largest_tensor() as f64)
    }

    /// Bytes that predictions for `images` images of this size take at most, besides the network: a batch on its way through
    /// the largest layers, and all logits twice.
    pub fn prediction_bytes(&self, images: usize, classes: usize, size: ImageSize) -> f64 {
        prediction_bytes(self.largest, images, classes, size)
    }

    /// Bytes that activations, their gradients and scratch memory take while a batch is trained on.
    pub fn training_bytes(&self, batch: usize) -> f64 {
        let batch = batch as f64;
        VALUE * (batch * (self.kept as f64 + 4.0 * self.largest as f64) + scratch_values(batch, self.largest))
    }
}

#[cfg(test)]
mod tests {
    use cifar_data::prepare::Normalisation;

    use super::*;
    use crate::{Architecture, Model, ModelParams};

    fn spec(params: ModelParams, classes: usize, size: usize) -> ModelSpec {
        ModelSpec {
            params,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            size: ImageSize { height: size, width: size },
            normalisation: Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] },
        }
    }

    #[test]
    fn a_plan_has_the_tensors_of_the_network() {
        for architecture in
            [Architecture::SimpleCnn, Architecture::Airbench94, Architecture::Airbench96, Architecture::ResNet18]
        {
            let widths = if architecture == Architecture::ResNet18 { vec![4, 8, 8, 16] } else { vec![8, 12, 16] };
            let spec = spec(ModelParams { widths, ..ModelParams::of(architecture) }, 7, 20);
            let plan = spec.plan().unwrap();
            let model = Model::new(spec, 1).unwrap();
            let built: Vec<(String, Vec<usize>)> =
                model.parameters().all().map(|(name, var)| (name.to_string(), var.dims().to_vec())).collect();
            assert_eq!(plan.tensors, built);
            assert_eq!(plan.trained, model.parameters().count());
            assert!(plan.largest >= 20 * 20 * 4 && plan.kept > plan.largest, "{plan:?}");
        }
    }

    #[test]
    fn what_cannot_be_built_can_be_planned() {
        let widest = ModelParams { widths: vec![4096; 3], ..ModelParams::default() };
        let plan = spec(widest, 65_536, LONGEST_SIDE).plan().unwrap();
        assert!(plan.network_bytes() > 1e13 && plan.training_bytes(1) > 1e13, "{plan:?}");
        let refused = |classes, size, words: &str| {
            let error = spec(ModelParams::default(), classes, size).plan().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(65_537, 32, "at most 65536, found 65537");
        refused(1, 32, "at least two classes");
        refused(10, LONGEST_SIDE + 1, "65536 pixels a side at most");
        refused(10, usize::MAX, "65536 pixels a side at most");
    }
}

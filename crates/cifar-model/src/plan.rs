//! The tensors and memory of a network, determined without building it.

use cifar_data::ImageSize;

use crate::networks::{Extent, build};
use crate::parameters::Parameters;
use crate::predict::{in_bf16, prediction_bytes, scratch_values};
use crate::{ModelError, ModelSpec, Precision, Result};

/// Maximum side of an image in pixels.
const LONGEST_SIDE: usize = 1 << 16;
/// Maximum number of classes: labels are 16 bits wide.
const MOST_CLASSES: usize = 1 << 16;
/// Bytes per value.
const VALUE: f64 = 4.0;
/// Gradients of activations at the same time: those of the result and of the input of an operation.
const GRADIENTS: f64 = 2.0;
/// Operations that take as long as all work on one kept activation. Fitted to the times of eleven
/// airbench networks with AVX-512 on two cores.
const ACTIVATION_COST: f64 = 400.0;
/// Operations that take as long as the work on an image that does not depend on the network.
const IMAGE_COST: f64 = 25e6;

/// The tensors of a network that is not built, and the sizes of its activations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name and shape of every tensor, trained ones first, in the order of [`Parameters::all`].
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Number of trained values.
    pub trained: usize,
    /// Activation values that training stores for the backward pass, per image.
    pub kept: usize,
    /// Values of the largest activation, per image.
    pub largest: usize,
    /// As `kept`, with channels rounded up to 32, as maps in bf16 have them.
    pub kept_padded: usize,
    /// As `largest`, with channels rounded up to 32.
    pub largest_padded: usize,
    /// Floating-point operations of a forward pass for one image; a multiply-add counts as two.
    pub flops: u64,
}

impl ModelSpec {
    /// Plans the network: finds the names and shapes of its tensors without allocating them.
    ///
    /// ```
    /// use cifar_data::ImageSize;
    /// use cifar_data::prepare::Normalisation;
    /// use cifar_model::{Architecture, ModelParams, ModelSpec, Precision};
    ///
    /// let spec = ModelSpec {
    ///     params: ModelParams::of(Architecture::ResNet18),
    ///     classes: vec!["cat".into(), "dog".into()],
    ///     size: ImageSize { height: 32, width: 32 },
    ///     normalisation: Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] },
    /// };
    /// assert!(spec.plan()?.training_bytes(128, Precision::F32) > 1e8);
    /// # Ok::<(), cifar_model::ModelError>(())
    /// ```
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
                "images may have at most {LONGEST_SIDE} pixels per side, these have {}",
                self.size
            )));
        }
        let mut parameters = Parameters::planned();
        let network = build(&self.params, self.classes.len(), self.size, &mut parameters)?;
        let (extent, layers) = (network.extent(), network.summary());
        let tensors = parameters.planned_tensors();
        let trained =
            tensors[..parameters.trained().len()].iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
        let flops = layers.iter().map(|layer| layer.flops).fold(0, u64::saturating_add);
        let Extent { kept, largest, kept_padded, largest_padded } = extent;
        Ok(Plan { tensors, trained, kept, largest, kept_padded, largest_padded, flops })
    }
}

impl Plan {
    /// Returns the number of values of all tensors.
    pub fn values(&self) -> usize {
        self.tensors.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum()
    }

    /// Returns the number of values of the largest tensor.
    pub fn largest_tensor(&self) -> usize {
        self.tensors.iter().map(|(_, dims)| dims.iter().product()).max().unwrap_or(0)
    }

    /// Estimates what a training step costs per image, in floating-point operations.
    ///
    /// The ratio of two networks' costs is about that of their times. Each kept activation counts
    /// as 400 operations, since memory limits them, and each image as 25 million.
    pub fn training_cost(&self) -> f64 {
        self.flops as f64 + ACTIVATION_COST * self.kept as f64 + IMAGE_COST
    }

    /// Returns the bytes of the network in memory: its values, and a copy of the largest tensor
    /// while it is drawn or read.
    pub fn network_bytes(&self) -> f64 {
        VALUE * (self.values() as f64 + 3.0 * self.largest_tensor() as f64)
    }

    /// Returns the maximum bytes that predictions for `images` images of this size need besides the
    /// network: one batch in the largest layers, and all logits twice.
    pub fn prediction_bytes(&self, images: usize, classes: usize, size: ImageSize, precision: Precision) -> f64 {
        prediction_bytes([self.largest, self.largest_padded], images, classes, size, precision)
    }

    /// Returns the bytes of activations, their gradients and scratch memory while training on a
    /// batch. In bf16, whose maps have 2 bytes per value but are padded to 32 images and channels,
    /// the larger of both types.
    pub fn training_bytes(&self, batch: usize, precision: Precision) -> f64 {
        let in_f32 = batch as f64 * (self.kept as f64 + GRADIENTS * self.largest as f64);
        let values = match precision.resolved() {
            Precision::Bf16 => {
                in_f32.max(in_bf16(batch) * (self.kept_padded as f64 + GRADIENTS * self.largest_padded as f64))
            }
            _ => in_f32,
        };
        VALUE * (values + scratch_values(batch as f64, self.largest))
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

    /// Images per second of a training step in batches of 500, on two cores of Zen 5.
    #[test]
    fn costs_follow_measured_times() {
        use Architecture::{Airbench94, Airbench96};
        let cost = |architecture, widths: [usize; 3]| {
            let params = ModelParams { widths: widths.to_vec(), ..ModelParams::of(architecture) };
            spec(params, 10, 32).plan().unwrap().training_cost()
        };
        let reference = cost(Airbench94, [64, 256, 256]) * 1410.0;
        for (architecture, widths, rate) in [
            (Airbench94, [16, 64, 128], 5774.0),
            (Airbench94, [32, 128, 128], 3500.0),
            (Airbench94, [96, 384, 384], 681.0),
            (Airbench96, [64, 256, 256], 994.0),
            (Airbench96, [128, 512, 512], 269.0),
        ] {
            let ratio = cost(architecture, widths) * rate / reference;
            assert!((0.8..1.2).contains(&ratio), "{architecture:?} {widths:?}: {ratio}");
        }
    }

    #[test]
    fn maps_in_bf16_are_padded() {
        let narrow = ModelParams { widths: vec![8; 3], ..ModelParams::of(Architecture::Airbench94) };
        let plan = spec(narrow, 10, 32).plan().unwrap();
        let bytes = |batch| [Precision::F32, Precision::Bf16].map(|precision| plan.training_bytes(batch, precision));
        // One image of 8 channels takes as much as 32 images of 32 channels.
        let [in_f32, in_bf16] = bytes(1);
        assert!(in_bf16 > 10.0 * in_f32, "{in_f32} {in_bf16}");
        assert!(plan.kept_padded > 2 * plan.kept, "{plan:?}");
    }

    #[test]
    fn a_network_too_large_to_build_can_be_planned() {
        let widest = ModelParams { widths: vec![4096; 3], ..ModelParams::default() };
        let plan = spec(widest, 65_536, LONGEST_SIDE).plan().unwrap();
        assert!(plan.network_bytes() > 1e13 && plan.training_bytes(1, Precision::F32) > 1e13, "{plan:?}");
        let refused = |classes, size, words: &str| {
            let error = spec(ModelParams::default(), classes, size).plan().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(65_537, 32, "at most 65536, found 65537");
        refused(1, 32, "at least two classes");
        refused(10, LONGEST_SIDE + 1, "at most 65536 pixels per side");
        refused(10, usize::MAX, "at most 65536 pixels per side");
    }
}

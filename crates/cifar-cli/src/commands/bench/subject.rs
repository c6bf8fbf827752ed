//! The network and the images of a benchmark.

use cifar_data::prepare::Normalisation;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::{Dataset, ImageSize, memory};
use cifar_model::{LayerSummary, Model, ModelParams, ModelSpec};
use cifar_pipeline::{Error, Result};

use super::laps::WARM_UP_STEPS;
use crate::args::{NetworkArgs, StepArgs};

/// Size of the synthetic images.
const SIZE: ImageSize = ImageSize { height: 32, width: 32 };
/// Maximum number of synthetic images, unless two batches have more: a few hundred ms, 25 MB.
const MOST_IMAGES: usize = 8192;
/// Minimum number of images that the generator can draw.
const LEAST_IMAGES: usize = 30;

/// The benchmarked pass, which decides what is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Forward and backward.
    Training,
    /// Forward.
    Inference,
    /// Each layer by itself, one after the other.
    Kernels,
}

/// Creates a network with initial weights, for synthetic images of ten classes.
pub(super) fn network(args: &NetworkArgs) -> Result<Model> {
    let params = ModelParams::of(args.architecture);
    let classes = (0..10).map(|k| format!("class {k}")).collect();
    // About that of photographs; the values do not affect the time.
    let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] };
    Ok(Model::new(ModelSpec { params, classes, size: SIZE, normalisation }, 0)?)
}

/// Returns the number of images to draw: whole batches, at least two, no more than the steps use.
pub(super) fn image_count(args: &StepArgs) -> usize {
    let batch = args.network.batch as usize;
    let batches = (WARM_UP_STEPS + args.steps as usize).min((MOST_IMAGES / batch).max(2));
    batches * batch
}

/// Draws `count` images. If the generator's minimum is greater, the surplus is dropped.
pub(super) fn draw(count: usize) -> Result<Dataset> {
    let set = synthetic::generate(&SyntheticParams { count: count.max(LEAST_IMAGES), ..Default::default() })?.dataset;
    Ok(set.filter(|sample| (sample.id.0 as usize) < count))
}

/// Refuses a benchmark that would not fit into memory by an estimate, before anything is allocated.
pub(super) fn refuse_beyond_memory(args: &NetworkArgs, model: &Model, images: usize, purpose: Purpose) -> Result<()> {
    let needed = bytes_needed(&model.summary(), model.parameters().count(), args.batch, images, purpose);
    match memory::room().map(|room| room.bytes) {
        Some(available) if needed > available => Err(Error::usage(format!(
            "--batch {} with {} needs about {:.1} GB of memory, but {:.1} GB are free; choose a smaller batch",
            args.batch,
            args.architecture.name(),
            needed as f64 / 1e9,
            available as f64 / 1e9,
        ))),
        _ => Ok(()),
    }
}

/// Returns an estimate of the peak memory of a step.
fn bytes_needed(layers: &[LayerSummary], parameters: usize, batch: u32, images: usize, purpose: Purpose) -> u64 {
    const VALUE: u64 = 4;
    let outputs = layers.iter().map(|layer| layer.output.iter().product::<usize>() as u64);
    // The copies of activations that training keeps for gradients, and of weights with gradients
    // and velocities.
    let (activations, copies) = match purpose {
        Purpose::Training => (3 * outputs.sum::<u64>(), 4),
        Purpose::Inference => (4 * outputs.max().unwrap_or(0), 1),
        Purpose::Kernels => (5 * outputs.max().unwrap_or(0), 3),
    };
    let step = u64::from(batch).saturating_mul(VALUE * activations);
    let weights = VALUE * copies * parameters as u64;
    let pixels = (images as u64).saturating_mul(SIZE.bytes() as u64);
    step.saturating_add(weights).saturating_add(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(batch: u32, steps: u32) -> StepArgs {
        let architecture = ModelParams::default().architecture;
        let network = NetworkArgs { architecture, batch, isa: None };
        StepArgs { network, precision: cifar_model::Precision::F32, steps }
    }

    #[test]
    fn full_batches_are_generated() {
        let check = |batch, steps, expected| assert_eq!(image_count(&args(batch, steps)), expected);
        check(512, 20, 8192);
        check(512, 2, 5 * 512);
        check(5000, 20, 10_000);
        check(3, 1, 12);
        assert_eq!(draw(12).unwrap().len(), 12);
    }

    #[test]
    fn a_batch_beyond_memory_is_refused_and_a_small_one_is_not() {
        let model = network(&args(1, 1).network).unwrap();
        for purpose in [Purpose::Training, Purpose::Inference, Purpose::Kernels] {
            let check = |batch| refuse_beyond_memory(&args(batch, 1).network, &model, 2 * batch as usize, purpose);
            check(1).unwrap();
            if memory::room().is_some() {
                let refusal = check(u32::MAX).unwrap_err().to_string();
                assert!(refusal.starts_with("--batch 4294967295 with simple_cnn needs about "), "{refusal}");
            }
        }
    }
}

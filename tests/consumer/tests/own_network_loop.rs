//! A training step and a forward pass with the library's parts alone, without the pipeline's
//! folders.

use cifar_data::batches::{Augmentation, epoch_order, training_batch};
use cifar_data::prepare::normalisation;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_model::{Model, ModelParams, ModelSpec, classify};
use cifar_train::{TrainParams, Trainer};

#[test]
fn training_lowers_the_loss_and_probabilities_sum_to_one() -> anyhow::Result<()> {
    let images = synthetic::generate(&SyntheticParams { count: 256, ..Default::default() })?.dataset;
    let spec = ModelSpec {
        params: ModelParams::default(),
        classes: images.classes().to_vec(),
        size: images.size(),
        normalisation: normalisation(&images),
    };
    let params = TrainParams { epochs: 4, batch_size: 32, ..TrainParams::default() };
    let mut trainer = Trainer::new(Model::new(spec, 1)?, &params, images.len(), 1)?;
    let mut losses = Vec::new();
    for epoch in 0..params.epochs {
        for indices in epoch_order(images.len(), 1, epoch as u64).chunks(params.batch_size) {
            let batch = training_batch(&images, indices, &Augmentation::default(), 1, epoch as u64);
            losses.push(trainer.step(&batch, epoch)?.loss);
        }
    }
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    assert!(mean(&losses[24..]) < mean(&losses[..8]), "{losses:?}");

    let probabilities = classify(trainer.model(), images.image(0))?;
    // Ten f32 values.
    assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{probabilities:?}");
    Ok(())
}

//! Estimates the memory of a training run before anything is allocated.

use cifar_model::{ModelSpec, check_memory};

use crate::{Averaging, OptimiserKind, Result, Select, TrainParams};

/// Bytes of an `f32`.
const VALUE: f64 = 4.0;
/// A checkpoint exists as tensors, as bytes and as a file; each is freed while the next one grows.
const CHECKPOINT: f64 = 3.0;
/// Freed blocks that wait for the next use, and gaps between buffers.
const SLACK: f64 = 1.15;
/// What every run takes: the program's own tables and the scratch memory of its threads.
const BASE: f64 = 64e6;

/// Returns an upper estimate of the bytes that training `spec` takes, besides the images, from the
/// shapes of tensors and activations.
///
/// The last argument is the number of training and of validation images.
///
/// # Errors
/// If the network does not work on images of this size.
pub fn training_memory(params: &TrainParams, spec: &ModelSpec, [train, val]: [usize; 2]) -> Result<u64> {
    let (plan, classes, epochs) = (spec.plan()?, spec.classes.len(), params.for_images(train).epochs);
    let (all, trained) = (plan.values() as f64, plan.trained as f64);
    let memory = if params.optimiser == OptimiserKind::AdamW { 2.0 } else { 1.0 };
    let average = if params.averaging == Averaging::None { 0.0 } else { 1.0 };
    let best = if params.select == Select::Best { 1.0 } else { 0.0 };
    let first_epoch = 1.0;
    let state = VALUE * (all * (1.0 + average + best + first_epoch) + trained * memory);
    // The gradients, and the filters transformed for a convolution: 36 values for 9, forward and
    // backward.
    let passing = VALUE * (trained + 8.0 * plan.largest_tensor() as f64);
    // Logits as 16 bits, in a growing list, and twice more in a checkpoint.
    let per_epoch = train as f64 * (1.0 + params.dynamics_fraction) + val as f64;
    let dynamics = 4.0 * 2.0 * epochs as f64 * classes as f64 * per_epoch;
    let plain = (params.dynamics_fraction * train as f64) as usize;
    let scored = plan.prediction_bytes(val.max(plain), classes, spec.size, params.precision);
    // Batches are prepared ahead.
    let batch = params.batch_size.min(train.max(1));
    let batches = 4.0 * batch as f64 * spec.size.height as f64 * spec.size.width as f64 * 3.0;
    let bytes = state * (1.0 + CHECKPOINT)
        + passing
        + plan.training_bytes(batch, params.precision)
        + scored
        + batches
        + dynamics;
    Ok((bytes * SLACK + BASE) as u64)
}

/// Refuses a run that needs more memory than there is.
pub(crate) fn check(params: &TrainParams, spec: &ModelSpec, images: [usize; 2]) -> Result<()> {
    let needed = training_memory(params, spec, images)?;
    let (epochs, batch) = (params.for_images(images[0]).epochs, params.batch_size);
    let what = format!("training {} for {epochs} epochs in batches of {batch}", spec.params.architecture.name());
    Ok(check_memory(&what, needed, "lower train.batch_size, model.widths or train.epochs")?)
}

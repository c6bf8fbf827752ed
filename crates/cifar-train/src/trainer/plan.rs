//! The batches of a run: which images, in which order, and the thread that prepares them.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use cifar_data::Dataset;
use cifar_data::batches::{Augmentation, Batch, Draw, balanced_draws, drawn_batch, epoch_order};
use cifar_data::prepare::TrainingData;

use crate::{Result, Sampling, TrainParams};

/// Returns the first batch that a run with these parameters and this seed trains on, augmented as
/// in training.
///
/// ```
/// use cifar_data::sources::synthetic::{self, SyntheticParams};
/// use cifar_train::{TrainParams, first_batch};
///
/// let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// let batch = first_batch(&TrainParams::default(), &data, 42)?;
/// assert_eq!(batch.pixels.len(), batch.len() * batch.size.bytes());
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
///
/// # Errors
/// If a parameter is out of range or does not suit the data.
pub fn first_batch(params: &TrainParams, data: &TrainingData, seed: u64) -> Result<Batch> {
    let TrainingData { train, val, report } = data;
    params.check(train.len(), val.len(), report.size)?;
    let steps_per_epoch = params.steps_per_epoch(train.len());
    let (sampling, augmentation) = (params.sampling, params.augmentation());
    let plan = Plan { sampling, augmentation, seed, steps_per_epoch, steps: 0..1 };
    Ok(plan.batch(train, &plan.draws(train, &train.labels(), 0), 0, None))
}

/// The batches to prepare.
pub(super) struct Plan {
    pub(super) sampling: Sampling,
    pub(super) augmentation: Augmentation,
    pub(super) seed: u64,
    pub(super) steps_per_epoch: usize,
    pub(super) steps: Range<usize>,
}

impl Plan {
    /// Returns the images of an epoch in their order.
    fn draws(&self, train: &Dataset, labels: &[u16], epoch: u64) -> Vec<Draw> {
        match self.sampling {
            Sampling::Natural => {
                let order = epoch_order(train.len(), self.seed, epoch).into_iter();
                order.map(|index| Draw { index, visit: epoch }).collect()
            }
            Sampling::Balanced => balanced_draws(labels, self.seed, epoch),
        }
    }

    /// Returns the range of an epoch's order that a step trains on.
    ///
    /// The batches of an epoch have equal size, give or take one image: a last batch of a few
    /// images would spoil the statistics of batch norm, and dropping it would leave images out.
    fn places(&self, step: usize, images: usize) -> Range<usize> {
        step * images / self.steps_per_epoch..(step + 1) * images / self.steps_per_epoch
    }

    /// Returns the batch of `step`, given the order of its epoch.
    fn batch(&self, train: &Dataset, order: &[Draw], step: usize, weights: Option<&[f32]>) -> Batch {
        let draws = &order[self.places(step % self.steps_per_epoch, train.len())];
        let mut batch = drawn_batch(train, draws, &self.augmentation, self.seed);
        batch.weights = weights.map(|weights| draws.iter().map(|draw| weights[draw.index]).collect());
        batch
    }

    /// Starts the thread that prepares the batches. It ends after the last one, or when the
    /// receiver is dropped.
    pub(super) fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        train: &'scope Dataset,
        weights: Option<&'scope [f32]>,
    ) -> Receiver<Batch> {
        // One batch waits in the channel while the next one is prepared.
        let (sender, batches) = sync_channel(1);
        scope.spawn(move || {
            let labels = train.labels();
            let mut order = (usize::MAX, Vec::new());
            for step in self.steps.clone() {
                let epoch = step / self.steps_per_epoch;
                if order.0 != epoch {
                    order = (epoch, self.draws(train, &labels, epoch as u64));
                }
                let batch = self.batch(train, &order.1, step, weights);
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_an_epoch_have_equal_size_and_every_image_once() {
        for (images, batch_size, sizes) in [
            (28_002, 2000, 1866..=1867),
            (50_000, 2000, 2000..=2000),
            (41_975, 2000, 1998..=1999),
            (10, 4, 3..=4),
            (3, 8, 3..=3),
            (7, 1, 1..=1),
        ] {
            let steps_per_epoch = usize::div_ceil(images, batch_size);
            let augmentation = TrainParams::default().augmentation();
            let sampling = Sampling::Natural;
            let plan = Plan { sampling, augmentation, seed: 1, steps_per_epoch, steps: 0..steps_per_epoch };
            let mut next = 0;
            for step in 0..steps_per_epoch {
                let places = plan.places(step, images);
                assert_eq!(places.start, next);
                assert!(sizes.contains(&places.len()), "{images} by {batch_size}: {places:?}");
                next = places.end;
            }
            assert_eq!(next, images);
        }
    }
}

//! Batches of `u8` pixels: shuffled and augmented for training, plain for evaluation.

mod augment;
mod balanced;
mod mix;

use crate::random::{Purpose, stream};
use crate::{Dataset, ImageSize, SampleId};

pub use augment::{Augmentation, Flip};
pub use balanced::balanced_draws;
pub use mix::Mix;

/// Several images with their labels, ready to become a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The id of each image.
    pub ids: Vec<SampleId>,
    /// The label of each image.
    pub labels: Vec<u32>,
    /// The pixels: N × height × width × RGB.
    pub pixels: Vec<u8>,
    /// The size of every image.
    pub size: ImageSize,
    /// The mixtures under mixup; ids and labels are those of the first images.
    pub mix: Option<Mix>,
    /// Weight on the loss of each image; none if all are equal.
    pub weights: Option<Vec<f32>>,
}

impl Batch {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Returns the order in which an epoch visits the images: a permutation of 0..`len`.
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    stream(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
    order
}

/// One image of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The index of the image in its set.
    pub index: usize,
    /// How many times the run has drawn this image before. If every epoch visits every image once,
    /// this is the epoch, counted from 0.
    pub visit: u64,
}

/// Returns the augmented images at `indices`.
///
/// The augmentation of an image depends on the seed, the epoch and its id alone; under mixup also
/// on the next image.
///
/// # Panics
/// If an index is not below the length of the set.
pub fn training_batch(set: &Dataset, indices: &[usize], augmentation: &Augmentation, seed: u64, epoch: u64) -> Batch {
    let draws: Vec<Draw> = indices.iter().map(|&index| Draw { index, visit: epoch }).collect();
    drawn_batch(set, &draws, augmentation, seed)
}

/// Returns the augmented images of `draws`.
///
/// The augmentation of an image depends on the seed, its id and its number of visits, so that an
/// image that an epoch draws several times differs each time; under mixup also on the next image.
///
/// # Panics
/// If an index is not below the length of the set.
pub fn drawn_batch(set: &Dataset, draws: &[Draw], augmentation: &Augmentation, seed: u64) -> Batch {
    let size = set.size();
    let indices: Vec<usize> = draws.iter().map(|draw| draw.index).collect();
    let mut batch = Batch { pixels: vec![0; indices.len() * size.bytes()], ..without_pixels(set, &indices) };
    for ((draw, id), pixels) in draws.iter().zip(&batch.ids).zip(batch.pixels.chunks_exact_mut(size.bytes())) {
        augmentation.apply(set.image(draw.index), pixels, size, seed, draw.visit, *id);
    }
    if augmentation.mixup > 0.0 {
        let Batch { ids, labels, pixels, .. } = &mut batch;
        let visits = draws.iter().map(|draw| draw.visit);
        batch.mix = Some(mix::mix(ids, visits, labels, pixels, augmentation.mixup, seed));
    }
    batch
}

/// Returns the unchanged images from `start` on, at most `count`.
pub fn evaluation_batch(set: &Dataset, start: usize, count: usize) -> Batch {
    let indices: Vec<usize> = (start.min(set.len())..start.saturating_add(count).min(set.len())).collect();
    selected_batch(set, &indices)
}

/// Returns the unchanged images at `indices`.
///
/// # Panics
/// If an index is not below the length of the set.
pub fn selected_batch(set: &Dataset, indices: &[usize]) -> Batch {
    let mut pixels = Vec::with_capacity(indices.len() * set.size().bytes());
    for &index in indices {
        pixels.extend_from_slice(set.image(index));
    }
    Batch { pixels, ..without_pixels(set, indices) }
}

fn without_pixels(set: &Dataset, indices: &[usize]) -> Batch {
    Batch {
        ids: indices.iter().map(|&i| set.samples()[i].id).collect(),
        labels: indices.iter().map(|&i| u32::from(set.samples()[i].label)).collect(),
        pixels: Vec::new(),
        size: set.size(),
        mix: None,
        weights: None,
    }
}

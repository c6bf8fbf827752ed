//! Batches of `u8` pixels: shuffled, flipped and cropped for training, plain for evaluation.

use serde::{Deserialize, Serialize};

use crate::random::{Purpose, Stream, stream};
use crate::{DataError, Dataset, ImageSize, Result, SampleId};

/// Some images, ready to become a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Identity of each image.
    pub ids: Vec<SampleId>,
    /// Label of each image.
    pub labels: Vec<u32>,
    /// N × height × width × RGB.
    pub pixels: Vec<u8>,
    /// Size of every image.
    pub size: ImageSize,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if there is no image.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Mirroring of training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flip {
    /// Never.
    None,
    /// Each image with probability one half, drawn anew in every epoch.
    #[default]
    Random,
}

/// How training images are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Mirroring.
    pub flip: Flip,
    /// Each image is moved by up to so many pixels in both directions; what comes in is its own reflection.
    /// 0 leaves images where they are.
    pub crop_padding: usize,
}

impl Default for Augmentation {
    /// Random flip and crops of up to 4 pixels, as He et al. 2015 (arXiv 1512.03385), but with reflected borders.
    fn default() -> Self {
        Self { flip: Flip::Random, crop_padding: 4 }
    }
}

impl Augmentation {
    /// Refuses a padding that a reflection cannot fill.
    pub fn check(&self, size: ImageSize) -> Result<()> {
        let most = size.height.min(size.width) - 1;
        if self.crop_padding > most {
            return Err(DataError::Parameter {
                key: "crop_padding",
                value: self.crop_padding.to_string(),
                allowed: format!("images of {size} pixels allow 0 to {most}"),
            });
        }
        Ok(())
    }
}

/// The order in which an epoch visits the images: a permutation of 0..`len`.
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    stream(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
    order
}

/// The images at `indices`, augmented. What happens to an image depends on the seed, the epoch and its id alone.
///
/// # Panics
/// If an index is not below the length of the set.
pub fn training_batch(set: &Dataset, indices: &[usize], augmentation: &Augmentation, seed: u64, epoch: u64) -> Batch {
    let mut batch = plain_batch(set, indices);
    let size = set.size();
    for ((&index, id), pixels) in indices.iter().zip(&batch.ids).zip(batch.pixels.chunks_exact_mut(size.bytes())) {
        augment(
            set.image(index),
            pixels,
            size,
            augmentation,
            &mut stream(seed, Purpose::Augment, epoch, u64::from(id.0)),
        );
    }
    batch
}

/// The images from `start` on, `count` or as many as there are, as they are.
pub fn evaluation_batch(set: &Dataset, start: usize, count: usize) -> Batch {
    let indices: Vec<usize> = (start.min(set.len())..start.saturating_add(count).min(set.len())).collect();
    plain_batch(set, &indices)
}

fn plain_batch(set: &Dataset, indices: &[usize]) -> Batch {
    let mut pixels = Vec::with_capacity(indices.len() * set.size().bytes());
    for &index in indices {
        pixels.extend_from_slice(set.image(index));
    }
    Batch {
        ids: indices.iter().map(|&i| set.samples()[i].id).collect(),
        labels: indices.iter().map(|&i| u32::from(set.samples()[i].label)).collect(),
        pixels,
        size: set.size(),
    }
}

fn augment(from: &[u8], to: &mut [u8], size: ImageSize, augmentation: &Augmentation, random: &mut Stream) {
    let padding = augmentation.crop_padding as i64;
    let mut shift = || random.below(2 * padding as u64 + 1) as i64 - padding;
    let (down, right) = (shift(), shift());
    let mirrored = augmentation.flip == Flip::Random && random.chance(0.5);
    for y in 0..size.height {
        let row = reflect(y as i64 + down, size.height);
        for x in 0..size.width {
            let column = if mirrored { size.width - 1 - x } else { x };
            let column = reflect(column as i64 + right, size.width);
            let (source, target) = ((row * size.width + column) * 3, (y * size.width + x) * 3);
            to[target..target + 3].copy_from_slice(&from[source..source + 3]);
        }
    }
}

/// Mirrors a coordinate at the first and the last pixel, which are not repeated.
fn reflect(at: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    let inside = if at < 0 {
        -at
    } else if at > last {
        2 * last - at
    } else {
        at
    };
    inside.clamp(0, last) as usize
}

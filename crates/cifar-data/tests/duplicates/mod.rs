//! Exact copies, near-duplicates and look-alikes.

#[path = "../../examples/near_duplicates/changes.rs"]
mod changes;
mod search;
mod splits;

use std::sync::atomic::{AtomicBool, Ordering};

use cifar_data::duplicates::{Kind, Pair, find};
use cifar_data::random::{Purpose, stream};
use cifar_data::sources::synthetic::{Synthetic, SyntheticParams, generate};
use cifar_data::{Dataset, ImageSize, Progress, Silent};
use image::{RgbImage, imageops};

use crate::common::{header, sample};

const SIDE: ImageSize = changes::SIZE;

pub(crate) fn drawn(count: usize, seed: u64, near_duplicates: f64) -> Synthetic {
    let params = SyntheticParams { count, seed, near_duplicates, ..SyntheticParams::default() };
    generate(&params).expect("allowed parameters")
}

pub(crate) fn found(set: &Dataset) -> Vec<Pair> {
    find(&[set], &Silent).expect("nobody stops it")
}

/// Creates a dataset of these images, with ids from 0.
pub(crate) fn set_of(images: &[Vec<u8>]) -> Dataset {
    let samples = (0..images.len() as u32).map(|id| sample(id, 0)).collect();
    Dataset::new(header(&["a"], SIDE), samples, images.concat()).expect("a valid set")
}

pub(crate) fn ids(pairs: &[Pair], kinds: &[Kind]) -> Vec<(u32, u32)> {
    pairs.iter().filter(|p| kinds.contains(&p.kind)).map(|p| (p.first.0, p.second.0)).collect()
}

/// Returns the image with each pixel taken from position `from`; edges are repeated.
pub(crate) fn moved(image: &[u8], from: impl Fn(i64, i64) -> (i64, i64)) -> Vec<u8> {
    let place = |at: usize| {
        let (y, x) = from(at as i64 / 32, at as i64 % 32);
        (y.clamp(0, 31) * 32 + x.clamp(0, 31)) as usize * 3
    };
    (0..32 * 32).flat_map(|at| image[place(at)..place(at) + 3].to_vec()).collect()
}

pub(crate) fn lit(image: &[u8], contrast: f64, brightness: f64) -> Vec<u8> {
    image.iter().map(|v| ((f64::from(*v) - 128.0) * contrast + 128.0 + brightness).clamp(0.0, 255.0) as u8).collect()
}

pub(crate) fn noised(image: &[u8], deviation: f64) -> Vec<u8> {
    let mut random = stream(5, Purpose::Synthetic, u64::MAX, 1);
    image.iter().map(|v| (f64::from(*v) + deviation * random.normal()).clamp(0.0, 255.0) as u8).collect()
}

pub(crate) fn compressed(image: &[u8], quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(image, 32, 32, image::ExtendedColorType::Rgb8)
        .expect("pixels fit");
    image::load_from_memory(&bytes).expect("just written").into_rgb8().into_raw()
}

/// Returns a square crop of `side` pixels, scaled up to the full size.
pub(crate) fn cropped(image: &[u8], top: u32, left: u32, side: u32) -> Vec<u8> {
    let image = RgbImage::from_raw(32, 32, image.to_vec()).expect("pixels fit");
    let crop = imageops::crop_imm(&image, left, top, side, side).to_image();
    imageops::resize(&crop, 32, 32, imageops::FilterType::Triangle).into_raw()
}

/// Returns whether an image has enough contrast to survive noise and compression: a standard
/// deviation above 30 levels.
pub(crate) fn is_strong(image: &[u8]) -> bool {
    let n = image.len() as f64;
    let mean = image.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    image.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n > 900.0
}

/// Blurs an image to the smoothness of photographs of this size. Synthetic images have noise in
/// every pixel, which scaling removes.
pub(crate) fn smooth(image: &[u8]) -> Vec<u8> {
    let image = RgbImage::from_raw(32, 32, image.to_vec()).expect("pixels fit");
    imageops::blur(&image, 0.8).into_raw()
}

/// Stops after a tenth of the pairs has been compared.
pub(crate) struct StopEarly(pub(crate) AtomicBool);

impl Progress for StopEarly {
    fn update(&self, _: &'static str, done: u64, total: u64) {
        if done * 10 > total {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

//! Augmentation of single training images: crop, flip, brightness, contrast and cutout.

use serde::{Deserialize, Serialize};

use crate::random::{Purpose, stream};
use crate::{DataError, ImageSize, Result, SampleId};

/// Horizontal flips of training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flip {
    /// Never.
    None,
    /// Each image with probability ½, drawn in every epoch.
    #[default]
    Random,
    /// Each image with probability ½ in the first epoch, then alternating, so that two consecutive
    /// epochs show every image both ways (Jordan 2024, arXiv 2404.00498).
    Alternating,
}

/// How training images are augmented.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Horizontal flips.
    pub flip: Flip,
    /// Each image is shifted by up to this many pixels in both directions, with reflected borders.
    /// 0: no shift.
    pub crop_padding: usize,
    /// Side of a mid-grey square (128, near the mean of photographs and so near 0 after
    /// normalisation) around a uniformly drawn pixel. It may extend over the border (`DeVries` &
    /// Taylor 2017, arXiv 1708.04552), unless `cutout_inside` is set. 0: none; at most the smaller
    /// side of the image.
    pub cutout: usize,
    /// Whether the squares of `cutout` are wholly inside the image, each with the same probability
    /// (Jordan 2024, arXiv 2404.00498).
    pub cutout_inside: bool,
    /// α of the Beta(α, α) from which the fraction of each image in its mixture is drawn (Zhang et
    /// al. 2018, arXiv 1710.09412), 0 to 10; 0: none.
    pub mixup: f64,
    /// All values move by a uniform draw of up to this fraction of 255 in either direction, 0 to 1.
    pub brightness: f32,
    /// The distances of all values from the image's mean are multiplied by a uniform draw from 1 ±
    /// this, 0 to 1.
    pub contrast: f32,
}

impl Default for Augmentation {
    /// Returns random flips and shifts of up to 4 pixels, as in He et al. 2015 (arXiv 1512.03385),
    /// but with reflected borders.
    fn default() -> Self {
        Self {
            flip: Flip::Random,
            crop_padding: 4,
            cutout: 0,
            cutout_inside: false,
            mixup: 0.0,
            brightness: 0.0,
            contrast: 0.0,
        }
    }
}

impl Augmentation {
    /// Checks that all values are in range and suit images of this size.
    pub fn check(&self, size: ImageSize) -> Result<()> {
        self.check_ranges()?;
        let side = size.height.min(size.width);
        for (key, pixels, most) in [("crop_padding", self.crop_padding, side - 1), ("cutout", self.cutout, side)] {
            if pixels > most {
                let allowed = format!("images of {size} pixels allow 0 to {most}");
                return Err(DataError::Parameter { key, value: pixels.to_string(), allowed });
            }
        }
        Ok(())
    }

    /// Checks the ranges that do not depend on the images.
    pub fn check_ranges(&self) -> Result<()> {
        let refuse = |key, value: String, allowed: String| Err(DataError::Parameter { key, value, allowed });
        if !(0.0..=10.0).contains(&self.mixup) {
            return refuse("mixup", self.mixup.to_string(), "allowed is 0 to 10".into());
        }
        for (key, share) in [("brightness", self.brightness), ("contrast", self.contrast)] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(key, share.to_string(), "allowed is 0 to 1".into());
            }
        }
        Ok(())
    }

    /// Writes the augmented image `from` to `to`. The result depends on seed, epoch and id alone.
    pub(super) fn apply(&self, from: &[u8], to: &mut [u8], size: ImageSize, seed: u64, epoch: u64, id: SampleId) {
        let draws = |purpose, epoch| stream(seed, purpose, epoch, u64::from(id.0));
        let mut random = draws(Purpose::Augment, epoch);
        let mut shift = || random.below(2 * self.crop_padding as u64 + 1) as isize - self.crop_padding as isize;
        let shifts = [shift(), shift()];
        let mirrored = match self.flip {
            Flip::None => false,
            Flip::Random => random.chance(0.5),
            Flip::Alternating => draws(Purpose::AlternatingFlip, 0).chance(0.5) == epoch.is_multiple_of(2),
        };
        crop(from, to, size, shifts, mirrored);
        if self.brightness > 0.0 || self.contrast > 0.0 {
            let mut random = draws(Purpose::Jitter, epoch);
            let mut draw = |most: f32| random.uniform(-f64::from(most), f64::from(most));
            let (moved, stretched) = (255.0 * draw(self.brightness), 1.0 + draw(self.contrast));
            jitter(to, moved, stretched);
        }
        if self.cutout > 0 {
            let mut random = draws(Purpose::Cutout, epoch);
            let side = self.cutout;
            let mut start = |length: usize| {
                if self.cutout_inside {
                    random.below((length - side) as u64 + 1) as isize
                } else {
                    random.below(length as u64) as isize - (side / 2) as isize
                }
            };
            let corner = [start(size.height), start(size.width)];
            cut_out(to, size, corner, side);
        }
    }
}

/// Shifts the window by `shifts` (down, right) over the image with reflected borders, then mirrors
/// it.
fn crop(from: &[u8], to: &mut [u8], size: ImageSize, shifts: [isize; 2], mirrored: bool) {
    let ImageSize { height, width } = size;
    let [down, right] = shifts;
    // Columns of the window that are inside the image.
    let inside = (-right).clamp(0, width as isize) as usize..(width as isize - right).clamp(0, width as isize) as usize;
    for (y, to) in to.chunks_exact_mut(3 * width).enumerate() {
        let row = reflect(y as isize + down, height);
        let from = &from[row * 3 * width..(row + 1) * 3 * width];
        let first = (inside.start as isize + right).clamp(0, width as isize) as usize;
        to[3 * inside.start..3 * inside.end].copy_from_slice(&from[3 * first..3 * (first + inside.len())]);
        for x in (0..inside.start).chain(inside.end..width) {
            let column = reflect(x as isize + right, width);
            to[3 * x..3 * x + 3].copy_from_slice(&from[3 * column..3 * column + 3]);
        }
        if mirrored {
            to.as_chunks_mut::<3>().0.reverse();
        }
    }
}

/// Reflects a coordinate at the first and the last pixel, which are not repeated.
fn reflect(at: isize, length: usize) -> usize {
    let last = length as isize - 1;
    let inside = if at < 0 {
        -at
    } else if at > last {
        2 * last - at
    } else {
        at
    };
    inside.clamp(0, last) as usize
}

/// Replaces every value with (value − mean) · `stretched` + mean + `moved`, rounded to a byte.
fn jitter(pixels: &mut [u8], moved: f64, stretched: f64) {
    let mean = pixels.iter().map(|p| u64::from(*p)).sum::<u64>() as f64 / pixels.len() as f64;
    let table: [u8; 256] =
        std::array::from_fn(|value| ((value as f64 - mean) * stretched + mean + moved).round().clamp(0.0, 255.0) as u8);
    for pixel in pixels {
        *pixel = table[usize::from(*pixel)];
    }
}

/// Erases the square whose upper left corner is `corner`, as far as it is inside the image.
fn cut_out(pixels: &mut [u8], size: ImageSize, corner: [isize; 2], side: usize) {
    const GREY: u8 = 128;
    let range = |start: isize, length: usize| start.max(0) as usize..((start + side as isize) as usize).min(length);
    let (rows, columns) = (range(corner[0], size.height), range(corner[1], size.width));
    for row in pixels.chunks_exact_mut(3 * size.width).skip(rows.start).take(rows.len()) {
        row[3 * columns.start..3 * columns.end].fill(GREY);
    }
}

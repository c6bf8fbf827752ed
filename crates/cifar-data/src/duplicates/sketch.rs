//! A few bytes that tell at a glance whether two images could show the same picture.
//!
//! 8 × 8 means of brightness, each over its cell and three points beyond, so that a shift of two pixels changes little; and
//! 4 × 4 means of two colours. All are divided by the image's contrast. Two sketches are compared by the sum of absolute
//! differences of their bytes, which every processor does sixteen at a time.

use super::thumbnail::{Sums, Thumbnail};

/// Cells a side, of brightness and of colour.
const LUMA: usize = 8;
const CHROMA: usize = 4;
/// Bytes of a sketch.
pub(super) const BYTES: usize = LUMA * LUMA + 2 * CHROMA * CHROMA;
/// One standard deviation of brightness, in steps of a byte: three of them fit on either side of the middle.
const SPREAD: i32 = 40;
/// Contrast is taken to be at least so many sixteenths of a level, or noise would be all that a sketch tells.
const LEAST_CONTRAST: i32 = 5 * 16;

/// What is compared at a glance.
#[derive(Clone, Copy)]
pub(super) struct Sketch(pub(super) [u8; BYTES]);

impl Sketch {
    pub(super) fn new(thumbnail: &Thumbnail) -> Self {
        let luma = cells::<LUMA>(&Sums::of(&thumbnail.luma), 3);
        let count = (LUMA * LUMA) as i32;
        let mean = luma.iter().sum::<i32>() / count;
        let variance = luma.iter().map(|v| (v - mean) * (v - mean)).sum::<i32>() / count;
        let contrast = variance.isqrt().max(LEAST_CONTRAST);
        let byte = |value: i32| (128 + value * SPREAD / contrast).clamp(0, 255) as u8;
        let mut bytes = [0; BYTES];
        let (brightness, colours) = bytes.split_at_mut(LUMA * LUMA);
        for (to, value) in brightness.iter_mut().zip(&luma) {
            *to = byte(value - mean);
        }
        for (to, plane) in colours.chunks_exact_mut(CHROMA * CHROMA).zip(&thumbnail.chroma) {
            // Means stay: a picture keeps its colours when it is lit otherwise.
            for (to, value) in to.iter_mut().zip(cells::<CHROMA>(&Sums::of(plane), 0)) {
                *to = byte(value);
            }
        }
        Self(bytes)
    }

    /// The sketch of the mirrored image.
    pub(super) fn mirrored(&self) -> Self {
        let mut bytes = self.0;
        let (brightness, colours) = bytes.split_at_mut(LUMA * LUMA);
        brightness.chunks_exact_mut(LUMA).for_each(<[u8]>::reverse);
        colours.chunks_exact_mut(CHROMA).for_each(<[u8]>::reverse);
        Self(bytes)
    }

    /// Sum of the absolute differences.
    #[inline]
    pub(super) fn distance(&self, other: &Self) -> u32 {
        // Sixteen at a time, or compilers make little of it.
        let ((ours, _), (theirs, _)) = (self.0.as_chunks::<16>(), other.0.as_chunks::<16>());
        let mut lanes = [0u32; 16];
        for (ours, theirs) in ours.iter().zip(theirs) {
            for lane in 0..16 {
                lanes[lane] += u32::from(ours[lane].abs_diff(theirs[lane]));
            }
        }
        lanes.iter().sum()
    }
}

/// Means of `SIDE` × `SIDE` cells in sixteenths, each taken `reach` points beyond its cell.
fn cells<const N: usize>(sums: &Sums, reach: i32) -> Vec<i32> {
    let cell = (super::thumbnail::SIDE / N) as i32;
    let range = |at: usize| [at as i32 * cell - reach, (at as i32 + 1) * cell + reach];
    (0..N * N).map(|at| sums.mean16(range(at / N), range(at % N))).collect()
}

//! Sketches: a few bytes that tell whether two images could show the same picture.
//!
//! A sketch has 8 × 8 means of brightness, each over its cell and three points beyond, so that a
//! shift of two pixels changes little, and 4 × 4 means of two colours. All are divided by the
//! image's contrast. The distance of two sketches is the sum of absolute differences of their
//! bytes, which processors compute sixteen at a time.

use super::thumbnail::{ImageSums, Sums, Thumbnail};
use super::zoom::Window;

/// Cells per side, of brightness and of colour.
const LUMA: usize = 8;
const CHROMA: usize = 4;
/// Bytes of a sketch.
pub(super) const BYTES: usize = LUMA * LUMA + 2 * CHROMA * CHROMA;
/// One standard deviation of brightness, in steps of a byte. Three of them fit on either side of
/// the middle.
const SPREAD: i32 = 40;
/// Minimum contrast, in sixteenths of a level. Below it, a sketch would show little but noise.
const LEAST_CONTRAST: i32 = 5 * 16;

/// Number of values in a gist.
pub(super) const GIST: usize = 6;

/// A sketch of an image.
#[derive(Clone, Copy)]
pub(super) struct Sketch(pub(super) [u8; BYTES]);

impl Sketch {
    pub(super) fn new(thumbnail: &Thumbnail) -> Self {
        Self::of(&ImageSums::of(thumbnail), &Window::WHOLE).0
    }

    /// Creates the sketch of a window of an image. Also returns the contrast of its cells in
    /// sixteenths of a level.
    pub(super) fn of(sums: &ImageSums, window: &Window) -> (Self, i32) {
        let luma = cells::<LUMA>(&sums.luma, window, 3);
        let count = (LUMA * LUMA) as i32;
        let mean = luma.iter().sum::<i32>() / count;
        let variance = luma.iter().map(|v| (v - mean) * (v - mean)).sum::<i32>() / count;
        let contrast = variance.isqrt();
        let byte = |value: i32| (128 + value * SPREAD / contrast.max(LEAST_CONTRAST)).clamp(0, 255) as u8;
        let mut bytes = [0; BYTES];
        let (brightness, colours) = bytes.split_at_mut(LUMA * LUMA);
        for (to, value) in brightness.iter_mut().zip(&luma) {
            *to = byte(value - mean);
        }
        for (to, sums) in colours.chunks_exact_mut(CHROMA * CHROMA).zip(&sums.chroma) {
            // Means are not subtracted: a picture keeps its colours when it is lit differently.
            for (to, value) in to.iter_mut().zip(cells::<CHROMA>(sums, window, 0)) {
                *to = byte(value);
            }
        }
        (Self(bytes), contrast)
    }

    /// Returns the large-scale structure of the image: the differences between its upper and lower
    /// half, left and right half, middle and outer rows and columns, and both colours. In 32nds of
    /// a byte's step.
    pub(super) fn gist(&self) -> [i16; GIST] {
        let (brightness, colours) = self.0.split_at(LUMA * LUMA);
        let mut gist = [0i16; GIST];
        for (at, value) in brightness.iter().enumerate() {
            let (y, x, value) = (at / LUMA, at % LUMA, i16::from(*value) - 128);
            let add = |sum: &mut i16, plus: bool| *sum += if plus { value } else { -value };
            add(&mut gist[0], y < LUMA / 2);
            add(&mut gist[1], x < LUMA / 2);
            add(&mut gist[2], (LUMA / 4..LUMA * 3 / 4).contains(&y));
            add(&mut gist[3], (LUMA / 4..LUMA * 3 / 4).contains(&x));
        }
        for (sum, colours) in gist[4..].iter_mut().zip(colours.chunks_exact(CHROMA * CHROMA)) {
            *sum = colours.iter().map(|value| 2 * (i16::from(*value) - 128)).sum();
        }
        gist
    }

    /// Returns the sketch of the mirrored image.
    pub(super) fn mirrored(&self) -> Self {
        let mut bytes = self.0;
        let (brightness, colours) = bytes.split_at_mut(LUMA * LUMA);
        brightness.chunks_exact_mut(LUMA).for_each(<[u8]>::reverse);
        colours.chunks_exact_mut(CHROMA).for_each(<[u8]>::reverse);
        Self(bytes)
    }

    /// Returns the sum of absolute differences.
    #[inline]
    pub(super) fn distance(&self, other: &Self) -> u32 {
        // In chunks of sixteen, which compilers vectorise unless sums are checked for overflow.
        // They are at most 96 · 255.
        let ((ours, _), (theirs, _)) = (self.0.as_chunks::<16>(), other.0.as_chunks::<16>());
        let mut lanes = [0u32; 16];
        for (ours, theirs) in ours.iter().zip(theirs) {
            for lane in 0..16 {
                lanes[lane] = lanes[lane].wrapping_add(u32::from(ours[lane].abs_diff(theirs[lane])));
            }
        }
        lanes.into_iter().fold(0, u32::wrapping_add)
    }
}

/// Returns the means of `N` × `N` cells of a window in sixteenths. Each mean extends `reach` 32nds
/// of the window's side beyond its cell, within the window.
fn cells<const N: usize>(sums: &Sums, window: &Window, reach: i32) -> [i32; 64] {
    let edges = |axis: usize| {
        let (start, length) = (window.start[axis], window.length[axis]);
        std::array::from_fn::<_, N, _>(|at| {
            let [from, to] = [at as i32, at as i32 + 1].map(|at| start + at * length / N as i32);
            [(from - reach * length / 32).max(start), (to + reach * length / 32).min(start + length)]
        })
    };
    let (rows, columns) = (edges(0), edges(1));
    let mut means = [0; 64];
    for (row, [top, bottom]) in rows.into_iter().enumerate() {
        for (column, [left, right]) in columns.into_iter().enumerate() {
            let sum = sums.before256(bottom, right) - sums.before256(top, right) - sums.before256(bottom, left)
                + sums.before256(top, left);
            let area = i64::from((bottom - top) * (right - left));
            means[row * N + column] = (16 * sum).div_euclid(area) as i32;
        }
    }
    means
}

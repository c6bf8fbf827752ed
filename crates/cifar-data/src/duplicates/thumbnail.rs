//! The reduced image that is compared: 32 × 32 points of brightness and colour, and what is derived
//! from them.
//!
//! All values are integers, so every machine gets the same results. An image of another size is
//! averaged (or repeated) to 32 × 32 first: "2 pixels" then means a sixteenth of its side.

use crate::ImageSize;
use crate::size::CHANNELS;

/// Points per side.
pub(super) const SIDE: usize = 32;
/// Points per image.
pub(super) const AREA: usize = SIDE * SIDE;

/// An image as 32 × 32 points.
pub(super) struct Thumbnail {
    /// Brightness, 0 to 255.
    pub(super) luma: [i32; AREA],
    /// Red and blue, each minus the brightness.
    pub(super) chroma: [[i32; AREA]; 2],
}

impl Thumbnail {
    pub(super) fn new(pixels: &[u8], size: ImageSize) -> Self {
        let mut thumbnail = Self { luma: [0; AREA], chroma: [[0; AREA]; 2] };
        for at in 0..AREA {
            let [r, g, b] = point(pixels, size, at / SIDE, at % SIDE);
            // The weights that JPEG uses for brightness, in 256ths.
            let luma = (77 * r + 150 * g + 29 * b + 128) >> 8;
            thumbnail.luma[at] = luma;
            thumbnail.chroma[0][at] = r - luma;
            thumbnail.chroma[1][at] = b - luma;
        }
        thumbnail
    }
}

/// Returns the mean colour of the pixels of a point, or of the pixel that contains the point.
fn point(pixels: &[u8], size: ImageSize, row: usize, column: usize) -> [i32; 3] {
    let range = |at: usize, length: usize| {
        let from = at * length / SIDE;
        from..((at + 1) * length / SIDE).max(from + 1)
    };
    let (rows, columns) = (range(row, size.height), range(column, size.width));
    let count = (rows.len() * columns.len()) as u64;
    let mut sums = [0u64; CHANNELS];
    for y in rows {
        for pixel in pixels[(y * size.width + columns.start) * CHANNELS..][..columns.len() * CHANNELS].chunks_exact(3) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(*value);
            }
        }
    }
    sums.map(|sum| ((sum + count / 2) / count) as i32)
}

/// Sums over rectangles in constant time.
pub(super) struct Sums(Vec<i64>);

/// The sums of an image's brightness and of its two colours.
pub(super) struct ImageSums {
    pub(super) luma: Sums,
    pub(super) chroma: [Sums; 2],
}

impl ImageSums {
    pub(super) fn of(thumbnail: &Thumbnail) -> Self {
        Self { luma: Sums::of(&thumbnail.luma), chroma: thumbnail.chroma.each_ref().map(Sums::of) }
    }
}

impl Sums {
    pub(super) fn of(plane: &[i32; AREA]) -> Self {
        let mut sums = vec![0; (SIDE + 1) * (SIDE + 1)];
        for y in 0..SIDE {
            let mut row = 0;
            for x in 0..SIDE {
                row += i64::from(plane[y * SIDE + x]);
                sums[(y + 1) * (SIDE + 1) + x + 1] = sums[y * (SIDE + 1) + x + 1] + row;
            }
        }
        Self(sums)
    }

    /// Returns sum and number of the points within `reach` of a place, and within the image. Ranges
    /// may extend beyond the image.
    pub(super) fn within(&self, rows: [i32; 2], columns: [i32; 2]) -> (i64, i64) {
        let inside = |range: [i32; 2]| range.map(|at| at.clamp(0, SIDE as i32) as usize);
        let ([top, bottom], [left, right]) = (inside(rows), inside(columns));
        let at = |y: usize, x: usize| self.0[y * (SIDE + 1) + x];
        let sum = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left);
        (sum, ((bottom - top) * (right - left)) as i64)
    }

    /// Returns 256 times the sum over the points above a row and left of a column, both given in
    /// sixteenths of a point. A point that is partly inside counts in part.
    pub(super) fn before256(&self, row: i32, column: i32) -> i64 {
        let split = |at: i32| ((at / 16) as usize, i64::from(at % 16));
        let ((y, down), (x, right)) = (split(row), split(column));
        let next = |at: usize| (at + 1).min(SIDE);
        let mix = |y: usize| {
            let row = &self.0[y * (SIDE + 1)..][..=SIDE];
            row[x] * (16 - right) + row[next(x)] * right
        };
        mix(y) * (16 - down) + mix(next(y)) * down
    }

    /// Returns the mean over a rectangle in sixteenths, rounded down.
    pub(super) fn mean16(&self, rows: [i32; 2], columns: [i32; 2]) -> i32 {
        let (sum, count) = self.within(rows, columns);
        (16 * sum).div_euclid(count) as i32
    }
}

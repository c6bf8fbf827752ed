//! Images enlarged a little: of a picture and its crop, one must be zoomed to lie on the other.

use super::Image;
use crate::dataset::CHANNELS;

/// What is cut off at each edge, in 32nds of the side: what is left fills the image again.
pub(super) const MARGINS: [usize; 2] = [1, 2];

/// Where a row or column of the enlarged image comes from.
struct Source {
    /// The one before the place, and the one behind it.
    between: [usize; 2],
    /// How far the place lies behind the first, in 64ths.
    part: u32,
}

/// The middle of an image as a whole one, interpolated between its pixels. All in integers.
pub(super) fn zoomed(image: &Image, margin: usize) -> Vec<u8> {
    let (rows, columns) = (sources(image.size.height, margin), sources(image.size.width, margin));
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for row in &rows {
        let [above, below] = row.between.map(|y| &image.pixels[y * image.size.width * CHANNELS..]);
        for column in &columns {
            let [left, right] = column.between.map(|x| x * CHANNELS);
            for channel in 0..CHANNELS {
                let value = |row: &[u8], x: usize| u32::from(row[x + channel]);
                let mix = |row| value(row, left) * (64 - column.part) + value(row, right) * column.part;
                let sum = mix(above) * (64 - row.part) + mix(below) * row.part;
                pixels.push(((sum + 2048) >> 12) as u8);
            }
        }
    }
    pixels
}

/// For every place along a side.
fn sources(side: usize, margin: usize) -> Vec<Source> {
    let source = |place: usize| {
        // Centres of pixels lie at halves: margin · side / 32 + (place + ½) · (32 − 2 margin) / 32 − ½, in 64ths.
        let at = (2 * margin * side + (2 * place + 1) * (32 - 2 * margin)).saturating_sub(32);
        let before = (at / 64).min(side - 1);
        Source { between: [before, (before + 1).min(side - 1)], part: (at % 64) as u32 }
    };
    (0..side).map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageSize;

    #[test]
    fn the_middle_fills_the_image() {
        let size = ImageSize { height: 32, width: 32 };
        // A slope stays a slope, with 28/32 of its steepness about the same middle.
        let pixels: Vec<u8> = (0..32 * 32).flat_map(|at| [(at % 32 * 8) as u8; 3]).collect();
        let zoomed = zoomed(&Image { pixels: &pixels, size }, 2);
        assert_eq!(zoomed.len(), pixels.len());
        for x in 0..32 {
            let expected = 8.0 * (2.0 + (x as f64 + 0.5) * 28.0 / 32.0 - 0.5);
            assert!((f64::from(zoomed[x * 3]) - expected).abs() <= 0.6, "{x}: {} {expected}", zoomed[x * 3]);
        }
    }

    #[test]
    fn images_of_any_size_are_zoomed() {
        for (height, width) in [(1, 1), (1, 7), (3, 5), (100, 64)] {
            let size = ImageSize { height, width };
            let pixels = vec![77; size.bytes()];
            for margin in MARGINS {
                assert_eq!(zoomed(&Image { pixels: &pixels, size }, margin), pixels, "{size}");
            }
        }
    }
}

//! Windows of images, enlarged to whole images. They are compared with other images to find crops.

use super::Image;
use super::thumbnail::SIDE;
use crate::size::CHANNELS;

/// Margins of [`Window::inside`], in 32nds of the side.
pub(super) const MARGINS: [i32; 2] = [1, 2];
/// The side of an image in the units of a window.
pub(super) const FULL: i32 = 16 * SIDE as i32;

/// A rectangle of an image, in 512ths of its height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Its first row and column.
    pub(super) start: [i32; 2],
    /// Its height and width.
    pub(super) length: [i32; 2],
}

impl Window {
    /// The whole image.
    pub(super) const WHOLE: Self = Self { start: [0, 0], length: [FULL, FULL] };

    /// Returns the image without `margin` 32nds of its side at each edge.
    pub(super) const fn inside(margin: i32) -> Self {
        let (start, length) = (16 * margin, FULL - 32 * margin);
        Self { start: [start, start], length: [length, length] }
    }

    /// Returns the mean margin of the four edges, in 32nds of the side, rounded up.
    pub(super) fn cut_off(&self) -> usize {
        self.length.iter().map(|length| (FULL - length).max(0) as usize).sum::<usize>().div_ceil(64)
    }
}

/// The source of a row or column of the enlarged image.
struct Source {
    /// The rows or columns before and after the position.
    between: [usize; 2],
    /// Distance of the position from the first, in 64ths.
    part: u32,
}

/// Returns a window of an image, enlarged to the size of the image by linear interpolation. All
/// arithmetic uses integers.
pub(super) fn zoomed(image: &Image, window: &Window) -> Vec<u8> {
    let rows = sources(image.size.height, window.start[0], window.length[0]);
    let columns = sources(image.size.width, window.start[1], window.length[1]);
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

/// Returns the sources of all positions along a side. Beyond the edges, the image is repeated.
fn sources(side: usize, start: i32, length: i32) -> Vec<Source> {
    let source = |place: usize| {
        // Centres of pixels lie at halves: start · side / 512 + (place + ½) · length / 512 − ½, in
        // 64ths.
        let (side, place) = (side as i64, place as i64);
        let at = (2 * i64::from(start) * side + (2 * place + 1) * i64::from(length)) / 16 - 32;
        let at = at.clamp(0, 64 * (side - 1)) as usize;
        let before = at / 64;
        Source { between: [before, (before + 1).min(side as usize - 1)], part: (at % 64) as u32 }
    };
    (0..side).map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageSize;

    #[test]
    fn the_window_fills_the_image() {
        let size = ImageSize { height: 32, width: 32 };
        // A slope stays a slope: of 28/32 of its steepness about the same middle, or as steep from
        // another place on.
        let pixels: Vec<u8> = (0..32 * 32).flat_map(|at| [(at % 32 * 8) as u8; 3]).collect();
        let window = Window { start: [0, 48], length: [FULL, FULL - 96] };
        for (window, start, length) in [(Window::inside(2), 2.0, 28.0), (window, 3.0, 26.0)] {
            let zoomed = zoomed(&Image { pixels: &pixels, size }, &window);
            assert_eq!(zoomed.len(), pixels.len());
            for x in 0..32 {
                let expected = 8.0 * (start + (x as f64 + 0.5) * length / 32.0 - 0.5);
                assert!((f64::from(zoomed[x * 3]) - expected).abs() <= 0.6, "{x}: {} {expected}", zoomed[x * 3]);
            }
        }
    }

    #[test]
    fn images_of_any_size_are_zoomed() {
        for (height, width) in [(1, 1), (1, 7), (3, 5), (100, 64)] {
            let size = ImageSize { height, width };
            let pixels = vec![77; size.bytes()];
            let beyond = Window { start: [-20, 100], length: [FULL + 40, FULL] };
            for window in [Window::WHOLE, Window::inside(1), Window::inside(2), beyond] {
                assert_eq!(zoomed(&Image { pixels: &pixels, size }, &window), pixels, "{size}");
            }
        }
    }
}

//! The difference of two images that show the same picture, for people to look at.

use super::Image;
use super::align;
use super::detail::{Detail, Overlay};
use super::lens::WINDOWS;
use super::thumbnail::{SIDE, Thumbnail};
use super::zoom::{MARGINS, Window, zoomed};
use crate::ImageSize;
use crate::size::CHANNELS;

/// The difference of a pair at the position with the best agreement of details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Twice the absolute difference of every value, height × width × RGB; grey where only one
    /// image is visible.
    pub pixels: Vec<u8>,
    /// The first image is mirrored.
    pub mirrored: bool,
    /// Then it is moved up by this number of pixels (down, if negative),
    pub up: i32,
    /// and to the left (to the right, if negative).
    pub left: i32,
    /// Margin that is cut off at each edge of the first and of the second image before it is
    /// enlarged, in 32nds of its side. If the edges differ, the mean, rounded up.
    pub zoom: [usize; 2],
}

/// From this agreement of details on, no window is tried.
const WHOLE: f64 = 0.9;

/// Zooms, mirrors and shifts the first image by up to a sixteenth of its side, as the search does,
/// and subtracts the second one.
///
/// # Panics
/// If an image has not height × width × 3 values.
pub fn difference(first: &[u8], second: &[u8], size: ImageSize) -> Difference {
    assert!(first.len() == size.bytes() && second.len() == size.bytes(), "an image has {} values", size.bytes());
    let place = |first: &[u8], second: &[u8]| {
        let [one, other] = [first, second].map(|pixels| Detail::new(&Thumbnail::new(pixels, size)));
        let overlay = Overlay::new(&one);
        let [plain, mirrored] = [false, true].map(|mirrored| overlay.best_on(&other, mirrored));
        if mirrored.correlation > plain.correlation { mirrored } else { plain }
    };
    let mut best = place(first, second);
    let mut zoom = [0, 0];
    let mut shown = [first.to_vec(), second.to_vec()];
    for margin in MARGINS {
        let [one, other] = [first, second].map(|pixels| zoomed(&Image { pixels, size }, &Window::inside(margin)));
        let margin = margin as usize;
        for (margins, images) in [([margin, 0], [one, second.to_vec()]), ([0, margin], [first.to_vec(), other])] {
            let found = place(&images[0], &images[1]);
            if found.correlation > best.correlation {
                (best, zoom, shown) = (found, margins, images);
            }
        }
    }
    if best.correlation < WHOLE {
        let planes = [first, second].map(|pixels| align::plane(&Thumbnail::new(pixels, size)));
        for (lens, mirrored, of) in WINDOWS
            .iter()
            .flat_map(|window| [(window, false, 0), (window, true, 0), (window, false, 1), (window, true, 1)])
        {
            let Some(window) = align::refined(&planes[of], &planes[1 - of], mirrored, *lens) else { continue };
            let mut images = [first.to_vec(), second.to_vec()];
            images[of] = zoomed(&Image { pixels: [first, second][of], size }, &window);
            let found = place(&images[0], &images[1]);
            if found.correlation > best.correlation {
                zoom = [0, 0];
                zoom[of] = window.cut_off();
                (best, shown) = (found, images);
            }
        }
    }
    let [first, second] = &shown;
    let scaled = |shift: i32, side: usize| shift * side as i32 / SIDE as i32;
    let (up, left) = (scaled(best.down, size.height), scaled(best.right, size.width));
    let mut pixels = vec![128; size.bytes()];
    for (at, pixel) in pixels.chunks_exact_mut(CHANNELS).enumerate() {
        let (y, x) = ((at / size.width) as i32 + up, (at % size.width) as i32 + left);
        if !(0..size.height as i32).contains(&y) || !(0..size.width as i32).contains(&x) {
            continue;
        }
        let x = if best.mirrored { size.width as i32 - 1 - x } else { x };
        let under = (y as usize * size.width + x as usize) * CHANNELS;
        for (channel, value) in pixel.iter_mut().enumerate() {
            *value = first[under + channel].abs_diff(second[at * CHANNELS + channel]).saturating_mul(2);
        }
    }
    Difference { pixels, mirrored: best.mirrored, up, left, zoom }
}

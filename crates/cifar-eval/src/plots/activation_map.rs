//! Class-activation map: an image, and beside it the places that speak for a class.

use plotters::element::Rectangle;
use plotters::style::{Color, RGBColor};

use super::canvas::{BLUE, GRID, ORANGE, failed, picture};
use super::{Caption, PlotError};

/// Draws an image of `[height, width]` pixels, RGB, and beside it the image in grey under its
/// class-activation map of `map_size` (rows, columns). Both are enlarged to about 256 pixels.
///
/// Orange places add to the logit of the class, and blue ones subtract from it. The colour is the
/// stronger the larger the value is, relative to the largest of the map.
///
/// # Errors
/// If the image or the map does not have its size.
///
/// ```
/// use cifar_eval::plots::{Caption, activation_map};
///
/// let caption = Caption { title: "cat 97.1 %", footer: "photo.jpg", synthetic: false };
/// let png = activation_map(&[200; 4 * 4 * 3], [4, 4], &[0.5, -0.25, 0.0, 1.0], [2, 2], &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn activation_map(
    image: &[u8],
    size: [usize; 2],
    map: &[f32],
    map_size: [usize; 2],
    caption: &Caption,
) -> Result<Vec<u8>, PlotError> {
    const GAP: i32 = 14;
    let ([height, width], [rows, columns]) = (size, map_size);
    if image.is_empty() || image.len() != height * width * 3 || map.is_empty() || map.len() != rows * columns {
        let (bytes, values) = (image.len(), map.len());
        return Err(PlotError(format!(
            "{bytes} bytes of pixels and {values} values do not fit an image of {height} × {width} and a map of {rows} × {columns}"
        )));
    }
    let factor = (256 / height.max(width)).max(1);
    let (wide, high) = ((width * factor) as i32, (height * factor) as i32);
    let largest = map.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    picture(caption, (2 * wide + 3 * GAP) as u32, (high + GAP) as u32, |area| {
        let block = |left: i32, top: i32, side: i32, colour: RGBColor| {
            area.draw(&Rectangle::new([(left, top), (left + side, top + side)], colour.filled())).map_err(failed)
        };
        for (at, pixel) in image.chunks_exact(3).enumerate() {
            let [x, y] = [at % width, at / width].map(|place| (place * factor) as i32);
            block(GAP + x, y, factor as i32, RGBColor(pixel[0], pixel[1], pixel[2]))?;
        }
        // The map is smooth, so it is drawn pixel by pixel.
        for y in 0..high as usize {
            for x in 0..wide as usize {
                let pixel = &image[(y / factor * width + x / factor) * 3..][..3];
                let grey = pixel.iter().map(|value| f32::from(*value)).sum::<f32>() / 3.0;
                let value = between(map, map_size, [y as f32 / high as f32, x as f32 / wide as f32]) / largest;
                block(2 * GAP + wide + x as i32, y as i32, 1, tinted(grey, value))?;
            }
        }
        for left in [GAP, 2 * GAP + wide] {
            let frame = [(left - 1, 0), (left + wide, high)];
            area.draw(&Rectangle::new(frame, GRID.stroke_width(1))).map_err(failed)?;
        }
        Ok(())
    })
}

/// Returns the value of a map at a place, from 0 to 1 in both directions, interpolated linearly
/// between the centres of its cells.
fn between(map: &[f32], [rows, columns]: [usize; 2], [down, right]: [f32; 2]) -> f32 {
    let cells = |at: f32, count: usize| {
        let at = (at * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
        (at as usize, (at as usize + 1).min(count - 1), at.fract())
    };
    let ((top, bottom, lower), (left, other, further)) = (cells(down, rows), cells(right, columns));
    let row = |row: usize| map[row * columns + left] * (1.0 - further) + map[row * columns + other] * further;
    row(top) * (1.0 - lower) + row(bottom) * lower
}

/// Returns a grey value under a colour: orange for 1, none for 0, blue for −1.
fn tinted(grey: f32, value: f32) -> RGBColor {
    /// How much of the image the strongest colour hides.
    const MOST: f32 = 0.75;
    let colour = if value > 0.0 { ORANGE } else { BLUE };
    let share = MOST * value.abs().min(1.0);
    let mix = |colour: u8| (grey * (1.0 - share) + f32::from(colour) * share).round() as u8;
    RGBColor(mix(colour.0), mix(colour.1), mix(colour.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_interpolated_between_the_centres_of_cells() {
        let map = [0.0, 4.0, 8.0, 12.0];
        let check = |place: [f32; 2], expected: f32| {
            let found = between(&map, [2, 2], place);
            assert!((found - expected).abs() < 1e-6, "{place:?}: {found}");
        };
        check([0.25, 0.25], 0.0);
        check([0.25, 0.75], 4.0);
        check([0.75, 0.25], 8.0);
        check([0.5, 0.5], 6.0);
        // Outside of the outer centres the map continues without change.
        check([0.0, 0.0], 0.0);
        check([1.0, 1.0], 12.0);
        assert!((between(&[3.0], [1, 1], [0.1, 0.9]) - 3.0).abs() < 1e-6);
    }

    #[test]
    fn colours_show_the_sign() {
        assert_eq!(tinted(100.0, 0.0), RGBColor(100, 100, 100));
        // A quarter of 100 and three quarters of the colour.
        assert_eq!(tinted(100.0, 1.0), RGBColor(198, 144, 25));
        assert_eq!(tinted(100.0, -1.0), RGBColor(25, 111, 159));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let caption = Caption { title: "a", footer: "b", synthetic: false };
        assert!(activation_map(&[0; 12], [2, 2], &[1.0], [1, 2], &caption).is_err());
        assert!(activation_map(&[0; 11], [2, 2], &[1.0], [1, 1], &caption).is_err());
    }
}

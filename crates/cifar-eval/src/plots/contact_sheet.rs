//! Contact sheet: enlarged images with lines of text below each.

use plotters::element::Rectangle;
use plotters::style::{Color, RGBColor};

use super::canvas::{FAINT, GRID, INK, VERMILION, failed, fitted, picture, text};
use super::{Caption, PlotError};

/// One image of a contact sheet.
#[derive(Debug, Clone)]
pub struct Tile<'a> {
    /// height × width × RGB, one byte per value.
    pub pixels: &'a [u8],
    /// Lines of text below the image.
    pub lines: Vec<String>,
    /// Whether the frame has a warning colour.
    pub warn: bool,
}

/// Draws images of `height` × `width` pixels, `columns` per row, enlarged to about 96 pixels.
///
/// # Errors
/// If a tile does not have `height` × `width` pixels.
///
/// ```
/// use cifar_eval::plots::{Caption, Tile, contact_sheet};
///
/// let caption = Caption { title: "Images", footer: "n = 1", synthetic: false };
/// let tile = Tile { pixels: &[200; 2 * 2 * 3], lines: vec!["7 cat".into()], warn: false };
/// let png = contact_sheet(&[tile], 2, 2, 10, &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn contact_sheet(
    tiles: &[Tile],
    height: usize,
    width: usize,
    columns: usize,
    caption: &Caption,
) -> Result<Vec<u8>, PlotError> {
    const LINE: i32 = 16;
    const GAP: i32 = 14;
    const ABOVE: i32 = 7;
    let expected = height * width * 3;
    if let Some(tile) = tiles.iter().find(|t| t.pixels.len() != expected) {
        let found = tile.pixels.len();
        return Err(PlotError(format!("a tile has {found} bytes of pixels; expected {expected} (height × width × 3)")));
    }
    let factor = (96 / height.max(width).max(1)).max(1);
    let (tile_width, tile_height) = ((width * factor) as i32, (height * factor) as i32);
    let lines = tiles.iter().map(|t| t.lines.len()).max().unwrap_or(0) as i32;
    let columns = columns.max(1);
    let cell = (tile_width.max(96) + GAP, tile_height + ABOVE + lines * LINE + GAP);
    let rows = tiles.len().div_ceil(columns).max(1) as i32;
    let full = (GAP + columns as i32 * cell.0, rows * cell.1);
    picture(caption, full.0 as u32, full.1 as u32, |area| {
        if tiles.is_empty() {
            return area.draw_text("no images", &text(18.0, FAINT), (GAP, GAP)).map_err(failed);
        }
        for (index, tile) in tiles.iter().enumerate() {
            let (left, top) = (GAP + (index % columns) as i32 * cell.0, (index / columns) as i32 * cell.1);
            for (at, pixel) in tile.pixels.chunks_exact(3).enumerate() {
                let (x, y) = (left + (at % width * factor) as i32, top + (at / width * factor) as i32);
                let corners = [(x, y), (x + factor as i32, y + factor as i32)];
                area.draw(&Rectangle::new(corners, RGBColor(pixel[0], pixel[1], pixel[2]).filled())).map_err(failed)?;
            }
            let frame = [(left - 1, top - 1), (left + tile_width, top + tile_height)];
            let colour = if tile.warn { VERMILION } else { GRID };
            area.draw(&Rectangle::new(frame, colour.stroke_width(1))).map_err(failed)?;
            for (row, line) in (0..).zip(&tile.lines) {
                let style = text(13.0, if row == 0 { INK } else { FAINT });
                let line = fitted(area, line, &style, cell.0 as u32 - 4);
                area.draw_text(&line, &style, (left, top + tile_height + ABOVE + row * LINE)).map_err(failed)?;
            }
        }
        Ok(())
    })
}

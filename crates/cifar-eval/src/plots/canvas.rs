//! The canvas of all plots: white, with a title, a footer, a SYNTHETIC mark and an embedded font.

use std::sync::Once;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, TextStyle, register_font};

use super::{Caption, PlotError};

pub(super) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

// Okabe and Ito's palette, which is safe for colour-blind readers.
pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(super) const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const FAINT: RGBColor = RGBColor(110, 110, 110);
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);
pub(super) const WHITE: RGBColor = RGBColor(255, 255, 255);

/// Heights of title and footer, in pixels.
const TITLE: u32 = 44;
const FOOTER: u32 = 30;

pub(super) fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// Returns a style for text of `size` pixels.
pub(super) fn text(size: f64, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { font: ("sans-serif", size).into_font(), color: colour.to_backend_color(), pos: Pos::default() }
}

/// Returns the same style with an anchor.
pub(super) fn anchored(size: f64, colour: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    text(size, colour).pos(Pos::new(horizontal, vertical))
}

/// Shortens `content` to `width` pixels, with an ellipsis if it was cut.
pub(super) fn fitted(area: &Area, content: &str, style: &TextStyle, width: u32) -> String {
    let fits = |text: &str| area.estimate_text_size(text, style).is_ok_and(|(w, _)| w <= width);
    if fits(content) {
        return content.to_string();
    }
    let characters: Vec<char> = content.chars().collect();
    (0..characters.len())
        .rev()
        .map(|n| characters[..n].iter().collect::<String>().trim_end().to_string() + "…")
        .find(|shorter| fits(shorter))
        .unwrap_or_default()
}

/// Draws a plot and encodes it as PNG.
///
/// `draw` fills `width` × `height` pixels. Title and footer are added above and below.
pub(super) fn picture(
    caption: &Caption,
    width: u32,
    height: u32,
    draw: impl FnOnce(&Area) -> Result<(), PlotError>,
) -> Result<Vec<u8>, PlotError> {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        // The bytes are a valid font, so this cannot fail. If it did, drawing text would fail.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let (full_height, pixels) = (height + TITLE + FOOTER, |h: u32| width as usize * h as usize * 3);
    let mut buffer = vec![255; pixels(full_height)];
    {
        let root = BitMapBackend::with_buffer(&mut buffer, (width, full_height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (title, rest) = root.split_vertically(TITLE);
        let (middle, footer) = rest.split_vertically(height);
        let style = text(22.0, INK);
        let room = width.saturating_sub(24 + if caption.synthetic { 130 } else { 0 });
        title.draw_text(&fitted(&title, caption.title, &style, room), &style, (12, 11)).map_err(failed)?;
        if caption.synthetic {
            let stamp = anchored(20.0, VERMILION, HPos::Right, VPos::Top);
            title.draw_text("SYNTHETIC", &stamp, (width as i32 - 12, 12)).map_err(failed)?;
        }
        draw(&middle)?;
        let style = text(13.0, FAINT);
        footer.draw_text(&fitted(&footer, caption.footer, &style, width - 24), &style, (12, 8)).map_err(failed)?;
        root.present().map_err(failed)?;
    }
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&buffer, width, full_height, ExtendedColorType::Rgb8).map_err(failed)?;
    Ok(png)
}

//! Confusion matrix: one cell per pair of classes, shaded by the fraction of the row.

use plotters::element::Rectangle;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, FontTransform, RGBColor};

use super::canvas::{self, BLUE, GRID, INK, WHITE, anchored, failed, fitted, picture};
use super::{Caption, PlotError};
use crate::confusion::ConfusionMatrix;

/// Draws a confusion matrix. Rows are labels, columns are predictions.
///
/// Cells show the count and the percentage of the row if there is space.
///
/// ```
/// use cifar_eval::confusion::ConfusionMatrix;
/// use cifar_eval::plots::{Caption, confusion_matrix};
///
/// let caption = Caption { title: "Confusion matrix", footer: "n = 3", synthetic: false };
/// let matrix = ConfusionMatrix::count(2, [(0, 0), (0, 1), (1, 1)].into_iter());
/// let png = confusion_matrix(&matrix, &["cat".into(), "dog".into()], &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn confusion_matrix(matrix: &ConfusionMatrix, classes: &[String], caption: &Caption) -> Result<Vec<u8>, PlotError> {
    const NAMES: i32 = 120;
    let n = classes.len().max(1) as i32;
    let cell = (640 / n).clamp(6, 110);
    let (width, height) = (NAMES + cell * n + 40, cell * n + NAMES);
    picture(caption, width as u32, height as u32, |area| {
        let font = (f64::from(cell) * 0.24).clamp(5.0, 17.0);
        for (row, label) in (0..).zip(classes) {
            let total = matrix.row_sum(row as usize);
            let middle = row * cell + cell / 2;
            let style = anchored(font.clamp(5.0, 15.0), INK, HPos::Right, VPos::Center);
            let name = fitted(area, label, &style, NAMES as u32 - 34);
            area.draw_text(&name, &style, (NAMES - 6, middle)).map_err(failed)?;
            let style =
                anchored(font.clamp(5.0, 15.0), INK, HPos::Left, VPos::Center).transform(FontTransform::Rotate90);
            let name = fitted(area, label, &style, NAMES as u32 - 34);
            area.draw_text(&name, &style, (NAMES + middle, cell * n + 8)).map_err(failed)?;
            for column in 0..n {
                let count = matrix.get(row as usize, column as usize);
                let fraction = if total > 0 { count as f64 / total as f64 } else { 0.0 };
                let corner = (NAMES + column * cell, row * cell);
                let cells = [corner, (corner.0 + cell, corner.1 + cell)];
                area.draw(&Rectangle::new(cells, shade(fraction).filled())).map_err(failed)?;
                area.draw(&Rectangle::new(cells, GRID)).map_err(failed)?;
                if cell >= 40 && count > 0 {
                    let ink = if fraction > 0.55 { WHITE } else { INK };
                    let centre = (corner.0 + cell / 2, corner.1 + cell / 2);
                    let style = anchored(font, ink, HPos::Center, VPos::Bottom);
                    area.draw_text(&count.to_string(), &style, centre).map_err(failed)?;
                    let style = anchored(font * 0.78, ink, HPos::Center, VPos::Top);
                    area.draw_text(&format!("{:.1} %", fraction * 100.0), &style, (centre.0, centre.1 + 2))
                        .map_err(failed)?;
                }
            }
        }
        let title = anchored(15.0, canvas::FAINT, HPos::Center, VPos::Bottom);
        area.draw_text("predicted", &title, (NAMES + cell * n / 2, height - 4)).map_err(failed)?;
        let title = anchored(15.0, canvas::FAINT, HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
        area.draw_text("label", &title, (6, cell * n / 2)).map_err(failed)
    })
}

/// From white to blue. The square root makes rare confusions visible.
fn shade(fraction: f64) -> RGBColor {
    let strength = fraction.clamp(0.0, 1.0).sqrt();
    let mix = |end: u8| (255.0 + (f64::from(end) - 255.0) * strength).round() as u8;
    RGBColor(mix(BLUE.0), mix(BLUE.1), mix(BLUE.2))
}

//! Reliability diagram: accuracy against confidence.

use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Rectangle};
use plotters::series::DashedLineSeries;
use plotters::style::{Color, ShapeStyle};

use super::canvas::{BLUE, FAINT, GRID, INK, VERMILION, failed, picture, text};
use super::{Caption, PlotError};
use crate::calibration::Calibration;

/// Draws a reliability diagram.
///
/// Bars show the accuracy of each bin and lines its mean confidence. A histogram below shows the
/// number of images per bin.
///
/// ```
/// use cifar_eval::calibration::{Bin, Calibration};
/// use cifar_eval::plots::{Caption, reliability};
///
/// let caption = Caption { title: "Reliability", footer: "n = 10", synthetic: false };
/// let bin = Bin { low: 0.5, high: 1.0, count: 10, confidence: Some(0.8), accuracy: Some(0.7) };
/// let calibration = Calibration { bins: vec![bin], expected_error: 0.1, largest_error: 0.1 };
/// let png = reliability(&calibration, &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn reliability(calibration: &Calibration, caption: &Caption) -> Result<Vec<u8>, PlotError> {
    const WIDTH: u32 = 620;
    picture(caption, WIDTH, 640, |area| {
        let (upper, lower) = area.split_vertically(470);
        let mut chart = ChartBuilder::on(&upper)
            .margin(10)
            .x_label_area_size(8)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(ShapeStyle::from(&GRID.mix(0.0)))
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .x_labels(0)
            .y_desc("accuracy")
            .label_style(text(14.0, INK))
            .axis_desc_style(text(15.0, INK))
            .draw()
            .map_err(failed)?;
        for bin in &calibration.bins {
            let Some((accuracy, confidence)) = bin.accuracy.zip(bin.confidence) else { continue };
            let gap = [(bin.low, accuracy.min(confidence)), (bin.high, accuracy.max(confidence))];
            chart
                .draw_series([
                    Rectangle::new([(bin.low, 0.0), (bin.high, accuracy)], BLUE.mix(0.75).filled()),
                    Rectangle::new(gap, VERMILION.mix(0.3).filled()),
                ])
                .map_err(failed)?;
            let line = PathElement::new([(bin.low, confidence), (bin.high, confidence)], VERMILION.stroke_width(2));
            chart.draw_series([line]).map_err(failed)?;
        }
        let diagonal = DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 6, 5, FAINT.stroke_width(1));
        chart.draw_series(diagonal).map_err(failed)?;
        let note = format!("ECE {:.2} %", calibration.expected_error * 100.0);
        upper.draw_text(&note, &text(18.0, INK), (84, 22)).map_err(failed)?;
        upper.draw_text("bars: accuracy", &text(14.0, BLUE), (84, 48)).map_err(failed)?;
        upper.draw_text("lines: mean confidence, shaded: gap", &text(14.0, VERMILION), (84, 68)).map_err(failed)?;

        let most = calibration.bins.iter().map(|b| b.count).max().unwrap_or(1).max(1) as f64;
        let mut chart = ChartBuilder::on(&lower)
            .margin(10)
            .margin_top(0)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..1.0, 0.0..most * 1.08)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(ShapeStyle::from(&GRID.mix(0.0)))
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .x_desc("confidence (highest probability)")
            .y_desc("images")
            .y_labels(3)
            .y_label_formatter(&|count| format!("{count:.0}"))
            .label_style(text(14.0, INK))
            .axis_desc_style(text(15.0, INK))
            .draw()
            .map_err(failed)?;
        let bars = calibration
            .bins
            .iter()
            .map(|b| Rectangle::new([(b.low, 0.0), (b.high, b.count as f64)], FAINT.mix(0.6).filled()));
        chart.draw_series(bars).map_err(failed)?;
        Ok(())
    })
}

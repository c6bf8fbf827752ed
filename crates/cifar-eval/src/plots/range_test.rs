//! Learning-rate range test: loss against learning rate.

use plotters::chart::ChartBuilder;
use plotters::coord::combinators::IntoLogRange;
use plotters::element::{Circle, PathElement};
use plotters::style::{Color, ShapeStyle};

use super::canvas::{BLUE, FAINT, GREEN, GRID, INK, ORANGE, failed, picture, text};
use super::{Caption, PlotError};

/// The result of a learning-rate range test.
#[derive(Debug, Clone)]
pub struct RangeCurve {
    /// Learning rate, loss and smoothed loss of each step, by ascending learning rate.
    pub points: Vec<(f64, f64, f64)>,
    /// The learning rate at which the smoothed loss falls fastest.
    pub steepest: Option<f64>,
    /// The learning rate of the recipe.
    pub recipe: f64,
}

/// Draws the loss of each step as dots and the smoothed loss as a line, on a logarithmic axis.
///
/// ```
/// use cifar_eval::plots::{Caption, RangeCurve, range_test};
///
/// let caption = Caption { title: "Range test", footer: "n = 500", synthetic: false };
/// let points = vec![(1e-3, 2.3, 2.3), (1e-2, 2.0, 2.1), (1e-1, 2.9, 2.5)];
/// let png = range_test(&RangeCurve { points, steepest: Some(1e-2), recipe: 5e-3 }, &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn range_test(curve: &RangeCurve, caption: &Caption) -> Result<Vec<u8>, PlotError> {
    let rates = || curve.points.iter().map(|p| p.0).chain([curve.recipe]);
    let (first, last) = rates().fold((f64::INFINITY, 0.0f64), |(l, h), rate| (l.min(rate), h.max(rate)));
    // A diverging loss would compress the rest of the curve.
    let smoothed = curve.points.iter().map(|p| p.2);
    let (low, high) = smoothed.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let start = curve.points.first().map_or(1.0, |p| p.2);
    let (low, high) = if low.is_finite() { (low, high.min(2.0 * start)) } else { (0.0, 1.0) };
    let room = ((high - low) * 0.1).max(0.02);
    let (bottom, top) = ((low - 2.0 * room).max(0.0), high + room);
    picture(caption, 800, 420, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(180)
            .x_label_area_size(44)
            .y_label_area_size(62)
            .build_cartesian_2d((first..last * 1.1).log_scale(), bottom..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(ShapeStyle::from(&GRID.mix(0.0)))
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .x_desc("learning rate")
            .y_desc("training loss (nats)")
            .x_label_formatter(&|rate| format!("{rate:.0e}"))
            .label_style(text(14.0, INK))
            .axis_desc_style(text(15.0, INK))
            .draw()
            .map_err(failed)?;
        let shown = |loss: f64| (bottom..=top).contains(&loss);
        let dots = curve.points.iter().filter(|p| shown(p.1));
        chart.draw_series(dots.map(|p| Circle::new((p.0, p.1), 2, BLUE.mix(0.35).filled()))).map_err(failed)?;
        let line: Vec<(f64, f64)> = curve.points.iter().map(|p| (p.0, p.2.min(top))).collect();
        chart.draw_series([PathElement::new(line, BLUE.stroke_width(2))]).map_err(failed)?;
        let mark = |rate: f64| [(rate, bottom), (rate, top)];
        let mut legend = vec![("smoothed loss".to_string(), BLUE)];
        if let Some(rate) = curve.steepest {
            chart.draw_series([PathElement::new(mark(rate), GREEN.stroke_width(2))]).map_err(failed)?;
            legend.push((format!("steepest: {rate:.2e}"), GREEN));
        }
        chart.draw_series([PathElement::new(mark(curve.recipe), ORANGE.stroke_width(2))]).map_err(failed)?;
        legend.push((format!("recipe: {:.2e}", curve.recipe), ORANGE));
        for (row, (name, colour)) in (0..).zip(legend) {
            area.draw_text(&name, &text(14.0, colour), (630, 18 + row * 20)).map_err(failed)?;
        }
        Ok(())
    })
}

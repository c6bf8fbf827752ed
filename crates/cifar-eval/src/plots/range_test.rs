//! A learning-rate range test: the loss over the rate.

use plotters::chart::ChartBuilder;
use plotters::coord::combinators::IntoLogRange;
use plotters::element::{Circle, PathElement};
use plotters::style::{Color, ShapeStyle};

use super::canvas::{BLUE, FAINT, GREEN, GRID, INK, ORANGE, failed, picture, text};
use super::{Caption, PlotError};

/// What is drawn.
#[derive(Debug, Clone)]
pub struct RangeCurve {
    /// Rate, loss and smoothed loss of each step, the rate ascending.
    pub points: Vec<(f64, f64, f64)>,
    /// Where the smoothed loss falls fastest.
    pub steepest: Option<f64>,
    /// What the recipe says.
    pub recipe: f64,
}

/// Losses of single steps as dots, their average as a line, over a logarithmic axis.
pub fn range_test(curve: &RangeCurve, caption: &Caption) -> Result<Vec<u8>, PlotError> {
    let rates = || curve.points.iter().map(|p| p.0).chain([curve.recipe]);
    let (first, last) = rates().fold((f64::INFINITY, 0.0f64), |(l, h), rate| (l.min(rate), h.max(rate)));
    // A loss that blew up would flatten everything else.
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
            .x_desc("train.learning_rate")
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
        let mut legend = vec![("loss, averaged".to_string(), BLUE)];
        if let Some(rate) = curve.steepest {
            chart.draw_series([PathElement::new(mark(rate), GREEN.stroke_width(2))]).map_err(failed)?;
            legend.push((format!("steepest at {rate:.2e}"), GREEN));
        }
        chart.draw_series([PathElement::new(mark(curve.recipe), ORANGE.stroke_width(2))]).map_err(failed)?;
        legend.push((format!("the recipe: {:.2e}", curve.recipe), ORANGE));
        for (row, (name, colour)) in (0..).zip(legend) {
            area.draw_text(&name, &text(14.0, colour), (630, 18 + row * 20)).map_err(failed)?;
        }
        Ok(())
    })
}

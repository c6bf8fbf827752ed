//! Training curves: loss and accuracy per epoch.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement};
use plotters::style::{Color, RGBColor, ShapeStyle};

use super::canvas::{Area, BLUE, FAINT, GREEN, GRID, INK, ORANGE, failed, picture, text};
use super::{Caption, PlotError};

/// A named series over epochs, starting with the first. Values that are not finite are omitted.
#[derive(Debug, Clone)]
pub struct Curve<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// One value per epoch.
    pub values: Vec<Option<f64>>,
}

/// Widths of a panel and of the legend on its right, in pixels.
const PANEL: i32 = 600;
const LEGEND: i32 = 170;

/// Draws losses and accuracies per epoch in two panels.
///
/// A vertical line marks the epoch `selected`, counted from 1. A panel shows at most two curves.
///
/// ```
/// use cifar_eval::plots::{Caption, Curve, training_curves};
///
/// let caption = Caption { title: "Training", footer: "n = 500", synthetic: false };
/// let loss = Curve { name: "training", values: vec![Some(2.0), Some(1.2)] };
/// let accuracy = Curve { name: "validation", values: vec![Some(0.4), Some(0.6)] };
/// let png = training_curves(&[loss], &[accuracy], 2, &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn training_curves(
    losses: &[Curve],
    accuracies: &[Curve],
    selected: usize,
    caption: &Caption,
) -> Result<Vec<u8>, PlotError> {
    picture(caption, 2 * PANEL as u32, 420, |area| {
        let (left, right) = area.split_horizontally(PANEL);
        panel(&left, losses, "loss (cross-entropy, nats)", None, selected)?;
        panel(&right, accuracies, "accuracy", Some(1.0), selected)
    })
}

fn panel(area: &Area, curves: &[Curve], what: &str, most: Option<f64>, selected: usize) -> Result<(), PlotError> {
    let points = |curve: &Curve| -> Vec<(f64, f64)> {
        (1..)
            .zip(&curve.values)
            .filter_map(|(epoch, v)| Some((f64::from(epoch), (*v).filter(|v| v.is_finite())?)))
            .collect()
    };
    let all: Vec<(f64, f64)> = curves.iter().flat_map(points).collect();
    let (low, high) = all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, v)| (l.min(*v), h.max(*v)));
    let (low, high) = if all.is_empty() { (0.0, 1.0) } else { (low, high) };
    let room = ((high - low) * 0.08).max(0.01);
    let top = most.map_or(high + room, |most| (high + room).min(most));
    let epochs = curves.iter().map(|c| c.values.len()).max().unwrap_or(1).max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(LEGEND)
        .x_label_area_size(44)
        .y_label_area_size(62)
        .build_cartesian_2d(0.7..epochs + 0.3, (low - room).max(0.0)..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(ShapeStyle::from(&GRID.mix(0.0)))
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .x_desc("epoch")
        .y_desc(what)
        .x_labels((epochs as usize).min(10))
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .label_style(text(14.0, INK))
        .axis_desc_style(text(15.0, INK))
        .draw()
        .map_err(failed)?;
    let at = selected as f64;
    let line = PathElement::new([(at, (low - room).max(0.0)), (at, top)], GREEN.mix(0.6).stroke_width(2));
    chart.draw_series([line]).map_err(failed)?;
    for (curve, colour) in curves.iter().zip([BLUE, ORANGE]) {
        let points = points(curve);
        chart.draw_series([PathElement::new(points.clone(), colour.stroke_width(2))]).map_err(failed)?;
        chart.draw_series(points.into_iter().map(|p| Circle::new(p, 3, colour.filled()))).map_err(failed)?;
    }
    let names = curves.iter().zip([BLUE, ORANGE]).map(|(c, colour)| (c.name.to_string(), colour));
    let names: Vec<(String, RGBColor)> = names.chain([(format!("selected epoch {selected}"), GREEN)]).collect();
    for (row, (name, colour)) in (0..).zip(names) {
        area.draw_text(&name, &text(15.0, colour), (PANEL - LEGEND + 8, 18 + row * 20)).map_err(failed)?;
    }
    Ok(())
}

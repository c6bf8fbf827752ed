//! Hyperparameter search: accuracy by trial, parallel coordinates, and parameter importance.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, Cross, PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle};

use super::canvas::{Area, BLUE, FAINT, GREEN, GRID, INK, ORANGE, VERMILION, anchored, failed, fitted, picture, text};
use super::{Caption, PlotError};

/// One trial of a hyperparameter search.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialPoint {
    /// Its number. 0 is the baseline.
    pub number: usize,
    /// Epochs trained and validation accuracy, epochs ascending. Failed trainings are omitted.
    pub accuracies: Vec<(usize, f64)>,
    /// Accuracies after all epochs, with the seeds that compare the best trial with the baseline.
    pub rescored: Vec<f64>,
    /// Whether its training failed with any seed.
    pub failed: bool,
    /// Its coordinate on each axis, 0 to 1. Empty for the baseline.
    pub point: Vec<f64>,
}

impl TrialPoint {
    /// Returns its accuracy after exactly `epochs` epochs.
    fn after(&self, epochs: usize) -> Option<f64> {
        self.accuracies.iter().find(|(at, _)| *at == epochs).map(|(_, accuracy)| *accuracy)
    }
}

/// Draws the accuracy of every trial. Darker dots have more epochs; hollow dots have other seeds.
///
/// A ring marks the trial `best`, a cross at the bottom a failed training. A horizontal line marks
/// the baseline after all `epochs` epochs.
///
/// ```
/// use cifar_eval::plots::{Caption, TrialPoint, tuning_history};
///
/// let caption = Caption { title: "Trials", footer: "n = 500", synthetic: false };
/// let trial = |number, accuracy, at| TrialPoint {
///     number,
///     accuracies: vec![(4, accuracy)],
///     rescored: vec![],
///     failed: false,
///     point: vec![at],
/// };
/// let png = tuning_history(&[trial(0, 0.80, 0.5), trial(1, 0.83, 0.2)], 1, 4, &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn tuning_history(
    trials: &[TrialPoint],
    best: usize,
    epochs: usize,
    caption: &Caption,
) -> Result<Vec<u8>, PlotError> {
    let scores = || trials.iter().flat_map(|t| &t.accuracies);
    let all = scores().map(|(_, a)| *a).chain(trials.iter().flat_map(|t| t.rescored.iter().copied()));
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), a| (l.min(a), h.max(a)));
    let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
    let room = ((high - low) * 0.08).max(0.005);
    let bottom = (low - room).max(0.0);
    let range = bottom..(high + room).min(1.0);
    let mut rungs: Vec<usize> = scores().map(|(epochs, _)| *epochs).collect();
    rungs.sort_unstable();
    rungs.dedup();
    let last = trials.iter().map(|t| t.number).max().unwrap_or(1) as f64;
    let baseline = trials.iter().find(|t| t.number == 0).and_then(|t| t.after(epochs));
    picture(caption, 900, 420, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(170)
            .x_label_area_size(44)
            .y_label_area_size(62)
            .build_cartesian_2d(-0.5..last + 0.5, range)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(ShapeStyle::from(&GRID.mix(0.0)))
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .x_desc("trial (0 = baseline)")
            .y_desc("validation accuracy")
            .x_labels(12)
            .x_label_formatter(&|trial| format!("{trial:.0}"))
            .label_style(text(14.0, INK))
            .axis_desc_style(text(15.0, INK))
            .draw()
            .map_err(failed)?;
        if let Some(baseline) = baseline {
            let line = PathElement::new([(-0.5, baseline), (last + 0.5, baseline)], ORANGE.stroke_width(2));
            chart.draw_series([line]).map_err(failed)?;
        }
        let shade = |epochs: usize| {
            (rungs.iter().position(|r| *r == epochs).unwrap_or(0) + 1) as f64 / rungs.len().max(1) as f64
        };
        for trial in trials {
            let x = trial.number as f64;
            let points = trial.accuracies.iter().map(|(_, a)| (x, *a));
            chart.draw_series([PathElement::new(points.collect::<Vec<_>>(), GRID.stroke_width(1))]).map_err(failed)?;
            let dots = trial.accuracies.iter().map(|(e, a)| Circle::new((x, *a), 4, BLUE.mix(shade(*e)).filled()));
            chart.draw_series(dots).map_err(failed)?;
            let others = trial.rescored.iter().map(|a| Circle::new((x + 0.25, *a), 4, INK.stroke_width(1)));
            chart.draw_series(others).map_err(failed)?;
            if trial.failed {
                chart.draw_series([Cross::new((x, bottom), 5, VERMILION.stroke_width(2))]).map_err(failed)?;
            }
            if best > 0
                && trial.number == best
                && let Some(accuracy) = trial.after(epochs)
            {
                chart.draw_series([Circle::new((x, accuracy), 8, GREEN.stroke_width(2))]).map_err(failed)?;
            }
        }
        let legend = rungs
            .iter()
            .map(|e| (format!("{e} epoch{}", if *e == 1 { "" } else { "s" }), BLUE.mix(shade(*e)).to_rgba()));
        let others = [
            ("other seeds".into(), INK.to_rgba()),
            ("baseline".into(), ORANGE.to_rgba()),
            ("best trial".into(), GREEN.to_rgba()),
            ("failed".into(), VERMILION.to_rgba()),
        ];
        let count = rungs.len();
        for (row, (name, colour)) in legend.chain(others).enumerate() {
            let y = 24 + row as i32 * 20;
            let style = if row == count { colour.stroke_width(1) } else { colour.filled() };
            area.draw(&Circle::new((742, y), 4, style)).map_err(failed)?;
            area.draw_text(&name, &anchored(14.0, INK, HPos::Left, VPos::Center), (754, y)).map_err(failed)?;
        }
        Ok(())
    })
}

/// Draws parallel coordinates: one axis per parameter, one line per trial.
///
/// Lines are coloured by the accuracy after the first rung. The line of trial `best` is thick.
/// Trials that failed in the first rung are omitted. `labels` has the values at both ends of each axis.
///
/// ```
/// use cifar_eval::plots::{Caption, TrialPoint, parallel_coordinates};
///
/// let caption = Caption { title: "Trials", footer: "n = 500", synthetic: false };
/// let trial = |number, accuracy, at| TrialPoint {
///     number,
///     accuracies: vec![(4, accuracy)],
///     rescored: vec![],
///     failed: false,
///     point: vec![at],
/// };
/// let trials = [trial(1, 0.80, 0.5), trial(2, 0.83, 0.2)];
/// let labels = [["0.1".into(), "1".into()]];
/// let png = parallel_coordinates(&["learning rate"], &labels, &trials, 2, &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn parallel_coordinates(
    names: &[&str],
    labels: &[[String; 2]],
    trials: &[TrialPoint],
    best: usize,
    caption: &Caption,
) -> Result<Vec<u8>, PlotError> {
    const TOP: i32 = 46;
    const BOTTOM: i32 = 374;
    const WIDTH: u32 = 900;
    let first = |t: &TrialPoint| t.accuracies.first().map(|(_, a)| *a);
    let shown: Vec<(&TrialPoint, f64)> =
        trials.iter().filter(|t| !t.point.is_empty()).filter_map(|t| Some((t, first(t)?))).collect();
    let (low, high) = shown.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, a)| (l.min(*a), h.max(*a)));
    let scaled = |accuracy: f64| if high > low { (accuracy - low) / (high - low) } else { 0.5 };
    let axes = names.len() as i32 + 1;
    let at = |axis: i32| 90 + axis * (WIDTH as i32 - 180) / (axes - 1).max(1);
    let height = |fraction: f64| BOTTOM - (fraction * f64::from(BOTTOM - TOP)) as i32;
    picture(caption, WIDTH, 420, |area| {
        let mut lines = shown.clone();
        lines.sort_by(|a, b| a.1.total_cmp(&b.1));
        for (trial, accuracy) in lines {
            let relative = scaled(accuracy);
            let coordinates = trial.point.iter().copied().chain([relative]);
            let points: Vec<(i32, i32)> = (0..).zip(coordinates).map(|(axis, x)| (at(axis), height(x))).collect();
            let style = if trial.number == best {
                GREEN.stroke_width(4)
            } else {
                blend(relative).mix(0.3 + 0.6 * relative).stroke_width(2)
            };
            area.draw(&PathElement::new(points, style)).map_err(failed)?;
        }
        let accuracy = [format!("{:.1} %", low * 100.0), format!("{:.1} %", high * 100.0)];
        let ends = labels.iter().chain([&accuracy]);
        for (axis, (name, [bottom, top])) in (0..).zip(names.iter().copied().chain(["first-rung accuracy"]).zip(ends)) {
            let x = at(axis);
            area.draw(&PathElement::new([(x, TOP), (x, BOTTOM)], FAINT.stroke_width(1))).map_err(failed)?;
            let style = anchored(13.0, INK, HPos::Center, VPos::Top);
            let room = (WIDTH - 180) / (axes - 1).max(1) as u32;
            area.draw_text(&fitted(area, name, &style, room), &style, (x, 6)).map_err(failed)?;
            area.draw_text(top, &anchored(12.0, FAINT, HPos::Center, VPos::Top), (x, 26)).map_err(failed)?;
            area.draw_text(bottom, &anchored(12.0, FAINT, HPos::Center, VPos::Top), (x, BOTTOM + 8)).map_err(failed)?;
        }
        Ok(())
    })
}

/// From grey (0) to blue (1).
fn blend(fraction: f64) -> RGBColor {
    let mix = |from: u8, to: u8| (f64::from(from) + fraction * (f64::from(to) - f64::from(from))) as u8;
    RGBColor(mix(190, BLUE.0), mix(190, BLUE.1), mix(190, BLUE.2))
}

/// Draws one bar per parameter: the fraction of the variance of the accuracies that it explains.
///
/// ```
/// use cifar_eval::plots::{Caption, importance_bars};
///
/// let caption = Caption { title: "Parameter importance", footer: "n = 20", synthetic: false };
/// let png = importance_bars(&[("learning rate", 0.7), ("momentum", 0.1)], &caption)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), cifar_eval::plots::PlotError>(())
/// ```
pub fn importance_bars(rows: &[(&str, f64)], caption: &Caption) -> Result<Vec<u8>, PlotError> {
    const LEFT: i32 = 240;
    const ROW: i32 = 34;
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    picture(caption, 700, (rows.len() as u32) * ROW as u32 + 20, |area: &Area| {
        for (row, (name, fraction)) in (0..).zip(&rows) {
            let y = 10 + row * ROW;
            let style = anchored(14.0, INK, HPos::Right, VPos::Center);
            area.draw_text(&fitted(area, name, &style, LEFT as u32 - 24), &style, (LEFT - 10, y + ROW / 2))
                .map_err(failed)?;
            let end = LEFT + (fraction * 380.0) as i32;
            area.draw(&Rectangle::new([(LEFT, y + 6), (end.max(LEFT + 1), y + ROW - 6)], BLUE.filled()))
                .map_err(failed)?;
            let label = format!("{:.0} %", fraction * 100.0);
            area.draw_text(&label, &anchored(14.0, INK, HPos::Left, VPos::Center), (end + 8, y + ROW / 2))
                .map_err(failed)?;
        }
        Ok(())
    })
}

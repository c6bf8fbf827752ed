//! The charts of the report, as SVG.

use maud::{Markup, html};

use crate::analysis::{Class, LearningCurve};
use cifar_eval::statistics::contrast::Estimate;

const WIDTH: f64 = 1140.0;
const HEIGHT: f64 = 420.0;
/// Margins for the axes: left, bottom, top and right.
const MARGIN: [f64; 4] = [64.0, 48.0, 16.0, 24.0];

/// Returns the chart of error over the number of images, both axes logarithmic. Beyond the last
/// point the line is dashed and marked as an extrapolation.
pub(super) fn curve_chart(curve: &LearningCurve) -> Markup {
    let sizes: Vec<f64> = curve.points.iter().map(|p| p.train_images as f64).collect();
    let (Some(first), Some(last)) = (sizes.first().copied(), sizes.last().copied()) else { return html! {} };
    let doubled = curve.doubled.as_ref().filter(|_| curve.has_trend());
    let far = doubled.map_or(last, |d| d.train_images as f64);
    let beyond = doubled.map(|d| d.error);
    let bounds = curve.points.iter().flat_map(|p| [p.error, p.interval.low, p.interval.high]);
    let errors: Vec<f64> = bounds.chain(beyond).filter(|e| *e > 0.0).collect();
    let lowest = errors.iter().copied().fold(f64::INFINITY, f64::min) / 1.1;
    let highest = errors.iter().copied().fold(0.0, f64::max).min(1.0 / 1.1) * 1.1;
    if errors.is_empty() || first <= 0.0 {
        return html! { p.faint { "No error to draw." } };
    }
    let [left, bottom, top, right] = MARGIN;
    let scale = |value: f64, from: f64, to: f64| {
        if to > from { libm::log(value / from) / libm::log(to / from) } else { 0.5 }
    };
    let x = |n: f64| left + scale(n, first / 1.1, far * 1.1) * (WIDTH - left - right);
    let y = |error: f64| HEIGHT - bottom - scale(error.max(lowest), lowest, highest) * (HEIGHT - bottom - top);
    let line = |from: f64, to: f64| {
        let (a, b) = curve.law.map_or((0.0, 0.0), |law| (law.at(from), law.at(to)));
        format!("M{:.1},{:.1} L{:.1},{:.1}", x(from), y(a), x(to), y(b))
    };
    let ticks: Vec<f64> = (0..5).map(|i| lowest * libm::pow(highest / lowest, f64::from(i) / 4.0)).collect();
    // Labels that would overlap are left out.
    let mut marks: Vec<f64> = Vec::new();
    for n in sizes {
        if marks.last().is_none_or(|before| x(n) - x(*before) > 40.0) {
            marks.push(n);
        }
    }
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) role="img" aria-label="Error on the shared test images over the number of training images" {
            @for error in ticks {
                line.grid x1=(left) x2=(WIDTH - right) y1=(fixed(y(error))) y2=(fixed(y(error))) {}
                text.faint x=(left - 8.0) y=(fixed(y(error) + 4.0)) text-anchor="end" { (format!("{:.1} %", error * 100.0)) }
            }
            @for n in marks { text.faint x=(fixed(x(n))) y=(HEIGHT - bottom + 18.0) text-anchor="middle" { (n) } }
            text x=(f64::midpoint(WIDTH, left)) y=(HEIGHT - 8.0) text-anchor="middle" { "training images" }
            @if curve.law.is_some() {
                path.law d=(line(first, last)) {}
                @if far > last { path.beyond d=(line(last, far)) {} }
            }
            @for point in &curve.points {
                @let at = fixed(x(point.train_images as f64));
                line.whisker x1=(at) x2=(at) y1=(fixed(y(point.interval.low))) y2=(fixed(y(point.interval.high))) {}
                circle.mark cx=(at) cy=(fixed(y(point.error))) r="5" {
                    title {
                        (point.combination) ": " (format!("{:.2} %", point.error * 100.0)) ", " (point.runs) " runs of "
                        (format!("{:.0}", point.steps)) " steps"
                    }
                }
            }
            @if let Some(doubled) = doubled {
                circle.far cx=(fixed(x(far))) cy=(fixed(y(doubled.error))) r="5" {}
                text x=(fixed(x(far) - 10.0)) y=(fixed(y(doubled.error) + 20.0)) text-anchor="end" {
                    "EXTRAPOLATION to " (doubled.train_images) ": " (format!("{:.1} %", doubled.error * 100.0))
                }
            }
        }
        p.faint {
            "Error on the shared test images, mean over a combination's runs, with its 95 % interval; both axes logarithmic."
            @if let Some(law) = curve.law {
                " Line: error = " (format!("{:.3}", law.scale)) " · n^" (format!("{:.3}", -law.exponent))
                @if let Some(interval) = curve.exponent {
                    (format!(" (95 % interval of the exponent {:.3} to {:.3}, for other seeds and test images)", interval.low, interval.high))
                } @else { " (one seed: no interval)" }
                "."
                @if doubled.is_some() { " Dashed: beyond the data, without an interval." }
            }
        }
    }
}

/// Returns a chart with one bar per class, hardest first, and its interval as a whisker.
pub(super) fn class_chart(classes: &[Class]) -> Markup {
    let (row, left, right) = (26.0, 120.0, 210.0);
    let height = row * classes.len() as f64 + 4.0;
    let x = |share: f64| left + share * (WIDTH - left - right);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) role="img" aria-label="Recall by class" {
            @for (index, class) in classes.iter().enumerate() {
                @let Estimate { value, low, high, .. } = class.recall;
                @let middle = row * index as f64 + row / 2.0;
                text x=(left - 8.0) y=(fixed(middle + 4.0)) text-anchor="end" { (class.name) }
                rect.mark x=(left) y=(fixed(middle - 8.0)) width=(fixed(x(value) - left)) height="16" opacity="0.6" {}
                line.whisker x1=(fixed(x(low))) x2=(fixed(x(high))) y1=(fixed(middle)) y2=(fixed(middle)) {}
                text.faint x=(WIDTH - right + 10.0) y=(fixed(middle + 4.0)) {
                    (format!("{:.1} % [{:.1}, {:.1}], n = {}", value * 100.0, low * 100.0, high * 100.0, class.images))
                }
            }
        }
    }
}

/// Returns a coordinate with one decimal.
fn fixed(value: f64) -> String {
    format!("{value:.1}")
}

//! `report.html`: one self-contained file with a table, conclusions, learning curve, classes,
//! confusion matrices, and links to the results of each run.

mod charts;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::charts::{class_chart, curve_chart};
use super::combinations::grouped;
use super::words::{COLUMNS, accuracies, method, steps_of_curve};
use super::{Conclusions, GridSummary, LearningCurve, RUNS, Runs, conclusions};
use cifar_eval::confusion::ConfusionMatrix;

const STYLE: &str = include_str!("report.css");
/// The word that marks the built-in set in the description of a source.
const SYNTHETIC: &str = "SYNTHETIC";
/// Maximum number of classes for which confusion matrices are drawn.
const MOST_CLASSES: usize = 25;

/// Returns the page. Links are relative to the folder of the experiments.
pub fn page(runs: &Runs, summary: &GridSummary) -> String {
    let title = "Experiments";
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                @if summary.source.contains(SYNTHETIC) {
                    p.synthetic { strong { (SYNTHETIC) } " Images drawn by a program. These figures say nothing about photographs." }
                }
                h1 { (title) }
                p.faint {
                    (summary.runs.len()) " runs of " (summary.combinations.len()) " combinations; "
                    (summary.pool_images) " shared test images, the same for all runs; " (summary.source)
                }
                h2 { "Combinations" }
                (combinations(runs, summary))
                h2 { "Conclusions" }
                (concluded(&conclusions(summary), &method(summary)))
                @for curve in &summary.learning_curves {
                    h2 { "Learning curve" @if !curve.setting.is_empty() { " (" (curve.setting) ")" } }
                    div.panel { p { (steps_of_curve(curve)) } (curve_chart(curve)) (points(curve)) }
                }
                h2 { "Classes" }
                div.panel {
                    p.faint {
                        "Recall of each class over all runs, n = " (summary.pool_images) " images. Whiskers: 95 % interval for other images"
                        @if summary.classes.iter().all(|c| c.recall.covers_seeds()) { " and seeds" }
                        "."
                    }
                    (class_chart(&summary.classes))
                }
                @if runs.pool.classes.len() <= MOST_CLASSES {
                    h2 { "Confusion matrices" }
                    p.faint { "On the shared test images, all runs of a combination together, in % of each row. Rows are labels, columns predictions." }
                    (matrices(runs))
                }
                h2 { "Runs" }
                (list(runs))
            }
        }
    }
    .into_string()
}

fn concluded(found: &Conclusions, method: &str) -> Markup {
    html! {
        div.panel {
            @if !found.differences.is_empty() {
                table {
                    thead { tr {
                        th { "better" } th { "than" } th { "by, points of accuracy" } th { "p (Holm)" } th { "holds for" }
                    } }
                    tbody {
                        @for d in &found.differences {
                            tr { td { (d.better) } td { (d.worse) } td { (d.points) } td { (d.p) } td { (d.scope()) } }
                        }
                    }
                }
            }
            @for sentence in &found.sentences { p { (sentence) } }
            details {
                summary { "Limits of these conclusions" }
                ul { @for note in &found.notes { li { (note) } } }
                p.faint { (method) }
            }
        }
    }
}

fn combinations(runs: &Runs, summary: &GridSummary) -> Markup {
    html! {
        div.panel {
            table {
                thead { tr {
                    th { "combination" } th { "seeds" } th.number { "training images" } th.number { "steps" }
                    th { "own test images, %" } th.number { "n" } th { "shared test images, %" } th { "same prediction" }
                } }
                tbody {
                    @for c in &summary.combinations {
                        @let [test, pool] = accuracies(c);
                        tr {
                            td { (c.name) }
                            td {
                                @for (index, seed) in c.seeds.iter().enumerate() {
                                    @if index > 0 { ", " }
                                    @let run = runs.runs.iter().find(|r| r.record.combination == c.name && r.record.seed == *seed);
                                    @if let Some(run) = run { a href=(link(&run.record.name, "evaluation/test/metrics.json")) { (seed) } }
                                }
                            }
                            td.number { (c.train_images) }
                            td.number { (format!("{:.0}", c.steps)) }
                            td { (test) }
                            td.number { (c.test_images) }
                            td { (pool) }
                            td { @if let Some(a) = c.agreement { (format!("{:.1} %", a.same * 100.0)) } @else { "–" } }
                        }
                    }
                }
            }
            p.faint {
                "Accuracy: " (COLUMNS) ". Steps: of the optimiser. Same prediction: percentage of the shared test images for which two \
                 runs of a combination predict the same class."
            }
        }
    }
}

/// Returns the points of a curve as a table.
fn points(curve: &LearningCurve) -> Markup {
    html! {
        table {
            thead { tr {
                th { "combination" } th.number { "training images" } th.number { "optimiser steps" } th.number { "runs" }
                th { "error on the shared test images, %" }
            } }
            tbody {
                @for p in &curve.points {
                    tr {
                        td { (p.combination) }
                        td.number { (p.train_images) }
                        td.number { (format!("{:.0}", p.steps)) }
                        td.number { (p.runs) }
                        td {
                            (format!("{:.2} [{:.2}, {:.2}]", p.error * 100.0, p.interval.low * 100.0, p.interval.high * 100.0))
                        }
                    }
                }
            }
        }
    }
}

/// Returns a relative link into a run's folder.
fn link(run: &str, file: &str) -> String {
    // The only character of a run's name that has another meaning in a URL.
    format!("{RUNS}/{}/{file}", run.replace('+', "%2B"))
}

fn matrices(runs: &Runs) -> Markup {
    let classes = &runs.pool.classes;
    html! {
        div.matrices {
            @for (name, group) in grouped(runs) {
                @let pairs = group.iter().flat_map(|r| runs.pool.labels.iter().zip(&r.predicted));
                @let matrix = ConfusionMatrix::count(classes.len(), pairs.map(|(l, p)| (usize::from(*l), usize::from(*p))));
                div.panel {
                    strong { (name) }
                    span.faint { " " (group.len()) @if group.len() == 1 { " run" } @else { " runs" } }
                    table.matrix {
                        thead { tr { th {} @for class in classes { th { (class) } } } }
                        tbody {
                            @for (row, class) in classes.iter().enumerate() {
                                tr {
                                    th { (class) }
                                    @for column in 0..classes.len() { (cell(&matrix, row, column)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(matrix: &ConfusionMatrix, row: usize, column: usize) -> Markup {
    let share = matrix.get(row, column) as f64 / matrix.row_sum(row).max(1) as f64 * 100.0;
    let (kind, shade) = if row == column { ("right", share) } else { ("wrong", (share * 3.0).min(100.0)) };
    html! {
        td class=(kind) style=(format!("--shade: {shade:.0}%")) title=(matrix.get(row, column)) {
            @if share >= 0.5 { (format!("{share:.0}")) }
        }
    }
}

fn list(runs: &Runs) -> Markup {
    html! {
        div.panel {
            table {
                thead { tr {
                    th { "run" } th.number { "steps" } th { "own test images, %" } th { "shared test images, %" } th { "results" }
                } }
                tbody {
                    @for run in &runs.runs {
                        @let name = run.record.name.as_str();
                        tr {
                            td { (name) }
                            td.number { (run.steps) }
                            @for set in [&run.test, &run.pool] {
                                td {
                                    (format!(
                                        "{:.2} [{:.2}, {:.2}]",
                                        set.accuracy * 100.0,
                                        set.accuracy_low * 100.0,
                                        set.accuracy_high * 100.0
                                    ))
                                }
                            }
                            td {
                                a href=(link(name, "evaluation/test/metrics.json")) { "metrics" } " · "
                                a href=(link(name, "evaluation/test/plots/confusion_matrix.png")) { "confusion" } " · "
                                a href=(link(name, "evaluation/test/plots/training.png")) { "training" } " · "
                                a href=(link(name, "evaluation/hard_images/hard_images.csv")) { "hard images" } " · "
                                a href=(link(name, "evaluation/test/predictions.csv")) { "predictions" }
                            }
                        }
                    }
                }
            }
            p.faint { "[95 % interval] of one run: for other images, not for other seeds." }
        }
    }
}
